"""Serves a gauge of a pod as Kubernetes' autoscaler asks for it: custom.metrics.k8s.io/v1beta2.

    custom_metrics.py ADDRESS PORT CERTIFICATE KEY KUBECTL...

It stands for Prometheus with its adapter, which cannot be had on a machine without a registry of images: it asks the
pods' own /metrics at once. For tests; it does not check who asks.
"""

import datetime
import json
import ssl
import subprocess
import sys
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GROUP = "/apis/custom.metrics.k8s.io/v1beta2"
METRIC = "headlight_backlog_seconds"


def quantity(seconds: float) -> str:
    return f"{round(seconds * 1000)}m"


def gauge_of(address: str) -> float | None:
    """None: the pod does not answer."""
    try:
        with urllib.request.urlopen(f"http://{address}:9464/metrics", timeout=2) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return None
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{METRIC} "))


def values(kubectl: list[str], namespace: str, selector: str) -> dict:
    asked = [*kubectl, "--namespace", namespace, "get", "pods", "-l", selector, "-o", "json"]
    pods = json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)["items"]
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    items = []
    for pod in pods:
        value = gauge_of(pod["status"]["podIP"]) if pod["status"].get("podIP") else None
        if value is None:
            continue
        described = {"kind": "Pod", "namespace": namespace, "name": pod["metadata"]["name"], "apiVersion": "v1"}
        one = {"describedObject": described, "metric": {"name": METRIC}, "timestamp": now, "value": quantity(value)}
        items.append(one)
    return {"kind": "MetricValueList", "apiVersion": GROUP.removeprefix("/apis/"), "metadata": {}, "items": items}


def handler(kubectl: list[str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # noqa: N802
            address = urllib.parse.urlsplit(self.path)
            parts = urllib.parse.unquote(address.path).removeprefix(GROUP).strip("/").split("/")
            if address.path == GROUP:
                resource = {"name": f"pods/{METRIC}", "namespaced": True, "kind": "MetricValueList", "verbs": ["get"]}
                resource["singularName"] = ""
                group = GROUP.removeprefix("/apis/")
                body = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group, "resources": [resource]}
                self._answer(200, body)
            elif len(parts) == 5 and parts[0] == "namespaces" and parts[2:] == ["pods", "*", METRIC]:
                selector = urllib.parse.parse_qs(address.query).get("labelSelector", [""])[0]
                self._answer(200, values(kubectl, parts[1], selector))
            else:
                self._answer(404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404})

        def _answer(self, code: int, body: dict) -> None:
            data = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler


def main(address: str, port: str, certificate: str, key: str, *kubectl: str) -> None:
    server = ThreadingHTTPServer((address, int(port)), handler(list(kubectl)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
