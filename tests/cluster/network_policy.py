"""Enforces NetworkPolicies for a test, by the filters of the nodes' own networks: the plain pod network does not.

It shows what our manifest's selectors and ports let through, not how a cluster's own network plugin behaves.
"""

from kube import Kube
from local import NODES, do, within


def selects(selector: dict | None, labels: dict) -> bool:
    """None of our policies has match expressions."""
    return all(labels.get(name) == value for name, value in (selector or {}).get("matchLabels", {}).items())


def ports_of(rule: dict, pod: dict) -> list[int]:
    named = {p.get("name"): p["containerPort"] for c in pod["spec"]["containers"] for p in c.get("ports", [])}
    return [named.get(port["port"], port["port"]) for port in rule.get("ports", [])]


def sources_of(rule: dict, namespace: str, pods: list[dict], namespaces: dict[str, dict]) -> set[str]:
    found = set()
    for peer in rule["from"]:
        for pod in pods:
            home = pod["metadata"]["namespace"]
            if "namespaceSelector" in peer:
                there = selects(peer["namespaceSelector"], namespaces[home])
            else:
                there = home == namespace
            if there and selects(peer.get("podSelector"), pod["metadata"].get("labels", {})):
                found.add(pod["status"]["podIP"])
    return found


def enforce(kube: Kube) -> int:
    """Of the policies of the test's namespace, for the pods there are now. Returns how many pods are closed off."""
    namespaces = {n["metadata"]["name"]: n["metadata"]["labels"] for n in kube.read("namespaces")["items"]}
    pods = [pod for pod in kube.read("pods", "--all-namespaces")["items"] if pod["status"].get("podIP")]
    lines = ["*filter", ":POLICY - [0:0]", "-A POLICY -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"]
    closed = set()
    for policy in kube.read("networkpolicies")["items"]:
        for pod in pods:
            mine = pod["metadata"]["namespace"] == kube.namespace
            if not mine or not selects(policy["spec"]["podSelector"], pod["metadata"].get("labels", {})):
                continue
            address = pod["status"]["podIP"]
            closed.add(address)
            for rule in policy["spec"].get("ingress", []):
                for source in sources_of(rule, kube.namespace, pods, namespaces):
                    for port in ports_of(rule, pod):
                        lines.append(f"-A POLICY -s {source} -d {address} -p tcp --dport {port} -j RETURN")
    for address in sorted(closed):
        # What the pod begins itself is refused, too: egress is empty. Nodes may always reach their pods: probes.
        lines += [f"-A POLICY -d {address} -j REJECT", f"-A POLICY -s {address} -j REJECT"]
    lines += ["COMMIT", ""]
    for node in NODES:
        do(*within(node), "iptables-restore", "--noflush", input="\n".join(lines))
        if do(*within(node), "iptables", "-C", "FORWARD", "-j", "POLICY", check=False).returncode != 0:
            do(*within(node), "iptables", "-I", "FORWARD", "1", "-j", "POLICY")
    return len(closed)


def forget() -> None:
    for node in NODES:
        do(*within(node), "iptables", "-D", "FORWARD", "-j", "POLICY", check=False)
