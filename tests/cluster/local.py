"""A Kubernetes of its own on this machine: etcd, the control plane and two nodes in network namespaces without a way out.

Pods run for real, in Debian's containerd. Needs root. Everything is in one folder and ended by process id; what an
earlier run left behind is removed first. Tried with cgroups of version 1, as the machines of this project have them.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TextIO

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))
from certificates import Authority, x509  # noqa: E402
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: E402
from ipaddress import ip_address  # noqa: E402

# Short: a socket's path has room for 107 bytes.
SOCKETS = Path("/run/headlight-cluster")
LOCK = Path("/run/headlight-cluster.lock")  # one at a time on a machine: names of networks and addresses are fixed
NODES = (1, 2)
FIRST = "10.77.0.11"  # the control plane's address, in the first node's namespace
DNS_PORT = 53
METRICS_PORT = 4443
CUSTOM_METRICS_PORT = 4444
CGROUPS = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd")
OTHERS = ("unified",)  # that the kubelet makes by itself, where version 2 is mounted beside version 1


def address(node: int) -> str:
    return f"10.77.0.{10 + node}"


def namespace(node: int) -> str:
    return f"headlight-{node}"


def within(node: int) -> list[str]:
    """What stands before a command that runs in a node's network. Not `ip netns exec`, which hides the cgroups."""
    return ["nsenter", f"--net=/run/netns/{namespace(node)}"]


def do(*command: str, check: bool = True, **options) -> subprocess.CompletedProcess:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if check and done.returncode != 0:
        raise RuntimeError(f"`{' '.join(command[:8])}` failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return done


def wait_for(what: str, is_so, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not within {seconds:g} s")
        time.sleep(0.2)


class LocalCluster:
    """Brought up by `start`, taken down by `stop`, which may be called at any time."""

    def __init__(self, folder: Path, programs: Path):
        self.folder = folder
        self.logs = folder.with_name(f"{folder.name}-logs")  # of the last start; `stop` leaves them
        self.programs = programs
        self.kubeconfig = folder / "kubeconfig/admin.yaml"
        self.kubectl = [*within(1), str(programs / "kubectl"), "--kubeconfig", str(self.kubeconfig)]
        self._processes: dict[str, subprocess.Popen] = {}
        self._lock: TextIO | None = None

    def start(self, images: Path | None, *, control_plane_only: bool = False) -> None:
        """`images`: a Docker archive that all nodes import. RuntimeError: it does not come up, or there is one already."""
        self._lock = LOCK.open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock = None
            raise RuntimeError("another run has a cluster on this machine; wait for its end") from None
        remove_leftovers(self.folder)
        shutil.rmtree(self.logs, ignore_errors=True)
        for folder in (self.logs, self.folder / "kubeconfig", self.folder / "pki"):
            folder.mkdir(parents=True)
        SOCKETS.mkdir(parents=True, exist_ok=True)
        self._networks()
        self._certificates()
        self._control_plane()
        if control_plane_only:
            return
        self._controllers()
        for node in NODES:
            self._node(node, images)
        ready = lambda: do(*self.kubectl, "get", "nodes", check=False).stdout.count(" Ready") == len(NODES)  # noqa: E731
        wait_for("both nodes ready", ready, 120)

    def stop(self) -> None:
        if self._lock is None:
            return  # it is another run's
        if self._alive("kube-controller-manager"):
            # Namespaces first: their pods end as pods do.
            do(*self.kubectl, "delete", "namespaces", "-l", "headlight.dev/test", "--timeout=60s", check=False)
        for node in NODES:
            end_containers(node)
        for name in reversed(list(self._processes)):
            self._end(name)
        remove_leftovers(self.folder)

    def run(self, name: str, node: int, *command: str, cwd: Path | None = None) -> None:
        """A program of the cluster in a node's network, its output in NAME.log among the logs."""
        with (self.logs / f"{name}.log").open("wb") as log:
            # A session of its own: Ctrl-C is for the one who takes it down in order.
            self._processes[name] = subprocess.Popen(
                [*within(node), *command], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, cwd=cwd
            )

    def program(self, name: str) -> str:
        return str(self.programs / name)

    def _alive(self, name: str) -> bool:
        return name in self._processes and self._processes[name].poll() is None

    def _end(self, name: str) -> None:
        process = self._processes[name]
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:  # the API server's way to its end can be long
            process.kill()
            process.wait()

    def _networks(self) -> None:
        for node in NODES:
            do("ip", "netns", "add", namespace(node))
            do(*within(node), "ip", "link", "set", "lo", "up")
        # A bridge without ports stands for a network card: it has the node's address, and the default route leads to it,
        # so that services' addresses have one.
        first, second = within(1), within(2)
        do(*first, "ip", "link", "add", "node0", "type", "bridge")
        do(*first, "ip", "addr", "add", f"{FIRST}/24", "dev", "node0")
        do(*first, "ip", "link", "set", "node0", "up")
        do(*first, "ip", "route", "add", "default", "dev", "node0")
        do(*first, "ip", "link", "add", "second", "type", "veth", "peer", "name", "node0", "netns", namespace(2))
        do(*first, "ip", "link", "set", "second", "master", "node0", "up")
        do(*second, "ip", "addr", "add", f"{address(2)}/24", "dev", "node0")
        do(*second, "ip", "link", "set", "node0", "up")
        do(*second, "ip", "route", "add", "default", "via", FIRST)
        do(*first, "ip", "route", "add", "10.244.2.0/24", "via", address(2))
        for node in NODES:
            settings = ("net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.node0.rp_filter=0")
            do(*within(node), "sysctl", "-qw", *settings)
            do(*within(node), "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1", check=False)

    def _certificates(self) -> None:
        pki = self.folder / "pki"
        authority, front = Authority(pki, "ca"), Authority(pki, "front-ca")
        here = (x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1")))
        names = [x509.DNSName(f"kubernetes{rest}") for rest in ("", ".default", ".default.svc")]
        addresses = [x509.IPAddress(ip_address(one)) for one in (FIRST, "10.96.0.1")]
        authority.issue("kube-apiserver", names=(*here, *names, *addresses)).write("apiserver")
        authority.issue("system:masters/apiserver-kubelet", names=()).write("apiserver-kubelet")
        front.issue("front-proxy-client", names=()).write("front-client")
        authority.issue("custom-metrics", names=(*here, addresses[0])).write("custom-metrics")
        accounts = authority.issue("service-accounts", names=())
        accounts.write("accounts")
        public = accounts.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (pki / "accounts.pub").write_bytes(public)
        users = {"admin": "system:masters/admin"}
        users |= {name: f"system:kube-{name}" for name in ("controller-manager", "scheduler", "proxy")}
        users |= {f"node{node}": f"system:nodes/system:node:node{node}" for node in NODES}
        for user, subject in users.items():
            own = ()
            if subject.startswith("system:nodes"):
                node = int(user[-1])
                own = (x509.DNSName(user), x509.IPAddress(ip_address(address(node))))
            certificate, key = authority.issue(subject, names=(*here, *own)).write(user)
            self._kubeconfig(user, certificate, key)

    def _kubeconfig(self, user: str, certificate: Path, key: Path) -> None:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {
                "server": f"https://{FIRST}:6443", "certificate-authority": str(self.folder / "pki/ca.pem")}}],
            "users": [{"name": "u", "user": {"client-certificate": str(certificate), "client-key": str(key)}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }  # fmt: skip
        (self.folder / f"kubeconfig/{user}.yaml").write_text(yaml.safe_dump(config))

    def _control_plane(self) -> None:
        pki = self.folder / "pki"
        client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
        self.run("etcd", 1, self.program("etcd"), f"--data-dir={self.folder}/etcd", f"--listen-client-urls={client}",
                 f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}", "--unsafe-no-fsync",
                 "--log-level=warn")  # fmt: skip
        flags = {
            "etcd-servers": client,
            "advertise-address": FIRST,
            "tls-cert-file": pki / "apiserver.pem",
            "tls-private-key-file": pki / "apiserver.key",
            "client-ca-file": pki / "ca.pem",
            "service-account-key-file": pki / "accounts.pub",
            "service-account-signing-key-file": pki / "accounts.key",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-cluster-ip-range": "10.96.0.0/16",
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            "kubelet-client-certificate": pki / "apiserver-kubelet.pem",
            "kubelet-client-key": pki / "apiserver-kubelet.key",
            "kubelet-certificate-authority": pki / "ca.pem",
            "kubelet-preferred-address-types": "InternalIP",
            "requestheader-client-ca-file": pki / "front-ca.pem",
            "requestheader-allowed-names": "front-proxy-client",
            "requestheader-extra-headers-prefix": "X-Remote-Extra-",
            "requestheader-group-headers": "X-Remote-Group",
            "requestheader-username-headers": "X-Remote-User",
            "proxy-client-cert-file": pki / "front-client.pem",
            "proxy-client-key-file": pki / "front-client.key",
            "enable-aggregator-routing": "true",
        }
        self.run("kube-apiserver", 1, self.program("kube-apiserver"), *(f"--{k}={v}" for k, v in flags.items()))
        ready = lambda: do(*self.kubectl, "get", "--raw", "/readyz", check=False).returncode == 0  # noqa: E731
        wait_for("the API server ready", ready, 90)

    def _controllers(self) -> None:
        pki = self.folder / "pki"

        def run(name: str, *flags: str) -> None:
            config = self.folder / f"kubeconfig/{name.removeprefix('kube-')}.yaml"
            own = (f"--{kind}kubeconfig={config}" for kind in ("", "authentication-", "authorization-"))
            self.run(name, 1, self.program(name), *own, "--leader-elect=false", *flags)

        run("kube-controller-manager", f"--service-account-private-key-file={pki}/accounts.key",
            f"--root-ca-file={pki}/ca.pem", "--use-service-account-credentials=true",
            "--horizontal-pod-autoscaler-sync-period=5s", "--horizontal-pod-autoscaler-cpu-initialization-period=10s",
            "--horizontal-pod-autoscaler-initial-readiness-delay=5s")  # fmt: skip
        run("kube-scheduler")
        core = self.folder / "Corefile"
        core.write_text(
            f".:{DNS_PORT} {{\n  bind {FIRST}\n  errors\n  kubernetes cluster.local {{\n"
            f"    kubeconfig {self.kubeconfig}\n    ttl 2\n  }}\n  loadbalance\n}}\n"
        )
        self.run("coredns", 1, self.program("coredns"), "-conf", str(core))

    def _node(self, node: int, images: Path | None) -> None:
        home = self.folder / f"node{node}"
        (home / "cni").mkdir(parents=True)
        socket = SOCKETS / f"containerd{node}.sock"
        make_cgroup(f"headlight-node{node}")
        (home / "containerd.toml").write_text(CONTAINERD.format(home=home, socket=socket))
        (home / "cni/10-bridge.conflist").write_text(json.dumps(bridge(node, home)))
        (home / "resolv.conf").write_text("")
        self.run(f"containerd{node}", node, "containerd", "-c", str(home / "containerd.toml"))
        wait_for("containerd", lambda: do("ctr", "-a", str(socket), "version", check=False).returncode == 0)
        if images:
            do("ctr", "-a", str(socket), "-n", "k8s.io", "images", "import", str(images))
        (home / "kubelet.yaml").write_text(yaml.safe_dump(self._kubelet(node, home, socket)))
        self.run(f"kubelet{node}", node, self.program("kubelet"), f"--config={home}/kubelet.yaml",
                 f"--kubeconfig={self.folder}/kubeconfig/node{node}.yaml", f"--hostname-override=node{node}",
                 f"--node-ip={address(node)}", f"--root-dir={home}/kubelet", f"--cert-dir={home}/pki")  # fmt: skip
        proxy = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clientConnection": {"kubeconfig": str(self.folder / "kubeconfig/proxy.yaml")},
            "clusterCIDR": "10.244.0.0/16",
            "hostnameOverride": f"node{node}",
            "oomScoreAdj": 0,
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
        }
        (home / "kube-proxy.yaml").write_text(yaml.safe_dump(proxy))
        self.run(f"kube-proxy{node}", node, self.program("kube-proxy"), f"--config={home}/kube-proxy.yaml")

    def _kubelet(self, node: int, home: Path, socket: Path) -> dict:
        pki = self.folder / "pki"
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failCgroupV1": False,
            "failSwapOn": False,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/headlight-node{node}",
            "containerRuntimeEndpoint": f"unix://{socket}",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(pki / "ca.pem")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(pki / f"node{node}.pem"),
            "tlsPrivateKeyFile": str(pki / f"node{node}.key"),
            # Lower than its own, which containers may not have either.
            "oomScoreAdj": 0,
            "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "100Mi"},
            "imageGCHighThresholdPercent": 100,
            "resolvConf": str(home / "resolv.conf"),
            "clusterDomain": "cluster.local",
            "clusterDNS": [FIRST],
            "podLogsDir": str(home / "pod-logs"),
        }


CONTAINERD = """version = 2
root = "{home}/containerd"
state = "{home}/state"
oom_score = 0
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:3.10"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{home}/cni"
"""


def bridge(node: int, home: Path) -> dict:
    """The plainest pod network there is. It enforces no NetworkPolicy."""
    ranges = [[{"subnet": f"10.244.{node}.0/24"}]]
    local = {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}], "dataDir": str(home / "addresses")}
    plugin = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipam": local}
    return {"cniVersion": "0.4.0", "name": "headlight", "plugins": [plugin]}


def make_cgroup(name: str) -> None:
    if (CGROUPS / "cgroup.controllers").exists():  # version 2
        (CGROUPS / name).mkdir(exist_ok=True)
        for one in ("cpu", "cpuset", "memory", "pids", "io"):
            for folder in (CGROUPS, CGROUPS / name):
                (folder / "cgroup.subtree_control").write_text(f"+{one}")
        return
    for controller in CONTROLLERS:
        if (CGROUPS / controller).is_dir():
            (CGROUPS / controller / name).mkdir(exist_ok=True)
    for setting in ("cpuset.cpus", "cpuset.mems"):
        source = CGROUPS / "cpuset" / setting
        if source.exists():
            (CGROUPS / "cpuset" / name / setting).write_text(source.read_text())


def end_containers(node: int) -> None:
    socket = SOCKETS / f"containerd{node}.sock"
    if not socket.exists():
        return
    ctr = ("timeout", "20", "ctr", "-a", str(socket), "-n", "k8s.io")
    for task in do(*ctr, "tasks", "ls", "-q", check=False).stdout.split():
        do(*ctr, "tasks", "kill", "-s", "9", task, check=False)
        do(*ctr, "tasks", "rm", "-f", task, check=False)
    for container in do(*ctr, "containers", "ls", "-q", check=False).stdout.split():
        do(*ctr, "containers", "rm", container, check=False)


def remove_leftovers(folder: Path) -> None:
    """Ends what runs in the nodes' networks, and removes the networks, mounts, cgroups and the folder."""
    known = do("ip", "netns", "list", check=False).stdout.split()
    ours = [namespace(node) for node in NODES if namespace(node) in known]
    roots = [at / f"headlight-node{node}" for at in (CGROUPS, *(CGROUPS / c for c in (*CONTROLLERS, *OTHERS))) for node in NODES]
    trees = [Path(at) for root in roots if root.is_dir() for at, _, _ in os.walk(root, topdown=False)]
    running = [pid for one in ours for pid in do("ip", "netns", "pids", one, check=False).stdout.split()]
    running += [pid for tree in trees if (tree / "cgroup.procs").exists() for pid in (tree / "cgroup.procs").read_text().split()]
    for pid in set(running):
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            pass
    if running:
        time.sleep(0.5)
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith((f"{folder}/", f"{SOCKETS}/"))), reverse=True):
        do("umount", "-l", mount, check=False)
    for one in known:
        # A pod's network outlives a kubelet that was killed.
        if one in ours or (ours and one.startswith("cni-") and not do("ip", "netns", "pids", one, check=False).stdout):
            do("ip", "netns", "del", one, check=False)
    for tree in trees:
        do("rmdir", str(tree), check=False)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(SOCKETS, ignore_errors=True)
