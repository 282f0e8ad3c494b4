"""What deploy/ has for Prometheus and Grafana, against a real Prometheus that scrapes a real server under load."""

import re
import time
from collections.abc import Iterator

import pytest
import yaml
from prometheus_process import SHIPPED, Prometheus, dashboard, expression_of, mixed_load, panels, promtool
from server_process import ROOT, SANITIZED, Server

LOAD_SECONDS = 25
RATE_INTERVAL = "15s"
# Absent where the machine sets no such limit, or shows no cgroups.
LIMITS = (
    "headlight_cgroup_memory_limit_bytes",
    "headlight_cgroup_cpu_limit_cores",
    "headlight_cgroup_cpu_throttled_seconds_total",
)
# Of the rules, what needs them.
OF_LIMITS = ("headlight:memory_ratio",)


def rules() -> list[dict]:
    return [rule for group in yaml.safe_load((SHIPPED / "rules.yml").read_text())["groups"] for rule in group["rules"]]


def headings(document: str) -> set[str]:
    """As the anchors that they make."""
    lines = re.findall(r"^#+ (.+)$", (ROOT / document).read_text(), re.M)
    return {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.fixture(scope="module")
def watched() -> Iterator[tuple[Server, Prometheus]]:
    """A server after load of all kinds, and the Prometheus that has seen it."""
    server = Server("--threads=2")
    prometheus = Prometheus(server)
    try:
        with mixed_load(server):
            time.sleep(LOAD_SECONDS)
            yield server, prometheus
    finally:
        prometheus.close()
        server.close()


def test_the_configuration_and_the_rules_are_sound() -> None:
    for arguments in (("check", "config", "prometheus.yml"), ("check", "rules", "rules.yml")):
        checked = promtool(*arguments)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_alerts_fire_where_they_should() -> None:
    tested = promtool("test", "rules", "rules.test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    text = (SHIPPED / "rules.test.yml").read_text()
    for rule in rules():
        if "alert" in rule:
            for word in ("fires", "is silent"):
                assert re.search(rf"name: {rule['alert']} {word}", text), f"no test in which {rule['alert']} {word}"


def test_each_alert_says_what_to_do() -> None:
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("page", "ticket")
            document, _, anchor = rule["annotations"]["runbook_url"].partition("#")
            assert anchor in headings(document), f"{rule['alert']}: {document} has no heading {anchor}"


def test_promtool_finds_nothing_to_say_of_the_metrics(watched) -> None:
    server, _ = watched
    checked = promtool("check", "metrics", text=server.page("/metrics")[1])
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_a_scrape_is_quick_under_load(watched) -> None:
    _, prometheus = watched
    (slow,) = prometheus.query("quantile_over_time(0.9, scrape_duration_seconds[20s])")
    assert SANITIZED or float(slow["value"][1]) <= 0.1
    (samples,) = prometheus.query("max_over_time(scrape_samples_scraped[20s])")
    assert 500 <= float(samples["value"][1]) <= 1500


def absent(server: Server, expression: str) -> bool:
    """Whether it is about nothing but limits that are not set here."""
    exposed = server.metrics().types
    return any(name in expression and name not in exposed for name in LIMITS)


def test_every_expression_of_the_dashboard_has_data(watched) -> None:
    server, prometheus = watched
    asked = 0
    for panel in panels():
        for target in panel["targets"]:
            expression = expression_of(target, RATE_INTERVAL)
            series = prometheus.query(expression)
            asked += 1
            assert series or absent(server, expression), f"{panel['title']}: no data for {expression}"
            for one in series:
                assert one["value"][1] not in ("NaN", "+Inf", "-Inf"), f"{panel['title']}: {expression}: {one}"
    assert asked > 30


def test_every_recording_rule_has_data_and_no_alert_is_wrong(watched) -> None:
    server, prometheus = watched
    for rule in rules():
        if "record" in rule:
            known = rule["record"] not in OF_LIMITS or LIMITS[0] in server.metrics().types
            assert bool(prometheus.query(rule["record"])) == known, rule["record"]
        else:
            prometheus.query(rule["expr"])  # it can be computed


def test_the_dashboard_is_whole() -> None:
    board = dashboard()
    assert {variable["name"] for variable in board["templating"]["list"]} == {"datasource", "job"}
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    covered: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & covered and place["x"] + place["w"] <= 24, f"{panel['title']} lies on another"
        covered |= cells
        if panel["type"] != "row":
            assert panel["title"] and panel["description"] and panel["datasource"]["uid"] == "${datasource}"
            assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
