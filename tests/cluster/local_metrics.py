"""What an autoscaler reads, on a cluster of the test's own: the processor's use and the pods' backlog."""

import sys
from pathlib import Path

from kube import Kube, until
from local import CUSTOM_METRICS_PORT, FIRST, METRICS_PORT, LocalCluster


def served_outside(name: str, group: str, version: str, port: int) -> list[dict]:
    """An API that a process beside the API server answers. Its certificate is not asked for: nobody else is there."""
    service = {"name": name, "namespace": "kube-system"}
    spec = {"group": group, "version": version, "groupPriorityMinimum": 100, "versionPriority": 100, "service": service}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": service,
            "spec": {"ports": [{"name": "https", "port": 443, "targetPort": port}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**service, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
            "endpoints": [{"addresses": [FIRST], "conditions": {"ready": True}}],
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": f"{version}.{group}"},
            "spec": {**spec, "insecureSkipTLSVerify": True},
        },
    ]


def serve(cluster: LocalCluster) -> None:
    kube = Kube(cluster.kubectl, "kube-system")
    pki = cluster.folder / "pki"
    own = [f"--{kind}kubeconfig={cluster.kubeconfig}" for kind in ("", "authentication-", "authorization-")]
    cluster.run("metrics-server", 1, cluster.program("metrics-server"), *own, "--kubelet-insecure-tls",
                "--kubelet-preferred-address-types=InternalIP", f"--secure-port={METRICS_PORT}",
                f"--cert-dir={cluster.folder}/metrics-server", "--metric-resolution=10s",
                "--kubelet-request-timeout=5s")  # fmt: skip
    kubectl = [cluster.program("kubectl"), "--kubeconfig", str(cluster.kubeconfig)]
    cluster.run("custom-metrics", 1, sys.executable, "-B", str(Path(__file__).with_name("custom_metrics.py")), FIRST,
                str(CUSTOM_METRICS_PORT), str(pki / "custom-metrics.pem"), str(pki / "custom-metrics.key"), *kubectl)  # fmt: skip
    # At once: until they answer, the API server cannot say what it takes.
    processor = served_outside("metrics-server", "metrics.k8s.io", "v1beta1", METRICS_PORT)
    kube.apply(*processor, *served_outside("custom-metrics", "custom.metrics.k8s.io", "v1beta2", CUSTOM_METRICS_PORT))
    for name in ("v1beta1.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io"):
        kube("wait", "--for=condition=Available", f"apiservice/{name}", "--timeout=90s")
    group = "/apis/custom.metrics.k8s.io/v1beta2"
    until("the custom metrics", lambda: "backlog" in kube("get", "--raw", group, check=False))
    until("the nodes' metrics", lambda: "node1" in kube("top", "nodes", check=False), 90)
