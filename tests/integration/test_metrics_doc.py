"""docs/metrics.md against the server: every metric has its row, and every row its metric."""

import re

import make
from server_process import LABEL, ROOT, SAMPLE, Server

ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.+) \|$", re.M)
# Absent where there is none.
LIMITS = {"headlight_cgroup_memory_limit_bytes", "headlight_cgroup_cpu_limit_cores"}
CGROUP = LIMITS | {"headlight_cgroup_memory_usage_bytes", "headlight_cgroup_cpu_throttled_seconds_total"}


def documented() -> dict[str, tuple[str, set[str]]]:
    rows = ROW.findall((ROOT / "docs/metrics.md").read_text())
    assert len({name for name, *_ in rows}) == len(rows)
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _ in rows}


def exposed(server: Server) -> dict[str, tuple[str, set[str]]]:
    text = server.page("/metrics")[1]
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    labels: dict[str, set[str]] = {name: set() for name in kinds}
    for line in text.splitlines():
        if not line.startswith("#"):
            sample = SAMPLE.match(line)
            name = sample["name"]
            family = name if name in kinds else re.sub(r"_(bucket|sum|count)$", "", name)
            labels[family] |= {label for label, _ in LABEL.findall(sample["labels"] or "")} - {"le"}
    return {name: (kind, labels[name]) for name, kind in kinds.items()}


def test_every_metric_is_documented_and_every_row_is_a_metric(server) -> None:
    rows, metrics = documented(), exposed(server)
    assert {name: row for name, row in rows.items() if name not in CGROUP} == {
        name: row for name, row in metrics.items() if name not in CGROUP
    }
    assert metrics.keys() & CGROUP <= rows.keys() == rows.keys() | CGROUP
    assert all(rows[name] == metrics[name] for name in CGROUP & metrics.keys())


def test_series_are_as_many_after_hostile_names_and_metadata(start) -> None:
    server = start()
    before = len(server.metrics().samples)
    assert before <= 1500
    server.attend(make.canary())
    for i in range(200):
        name = f"/headlight.v1.AttentionService/Attend{i}" if i % 2 else f"/x{i}.Y/" + "z" * i
        call = server.channel.unary_unary(name)
        metadata = (("x-request-id", f"{i}\"}}\\n"), (f"k{i}", "v" * i), ("grpc-tags-bin", bytes([i])))
        assert call.future(b"", metadata=metadata, timeout=10).code().name in ("UNIMPLEMENTED", "INTERNAL", "UNKNOWN")
        server.stub.GetServerInfo(make.service_pb.GetServerInfoRequest(), metadata=metadata, timeout=10)
    assert len(server.metrics().samples) == before
