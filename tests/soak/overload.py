"""Scenarios of too much work: more calls than can be computed, one that is huge, clients that do not wait."""

import os

import load
from load import OK, REFUSED, Job, Seen
from scene import MIB, Scene, eventually, small, work
from server_process import Metrics, Server

NORMAL_WITHIN = 5  # seconds
# Of small calls beside a load, in seconds: so many times their own p99, and what a busy machine adds.
TIMES_ALONE, SLACK = 3, 0.02
# What calls may hold, and how much more memory may be resident then: what was freed and is kept.
BUDGET, PEAK_MIB = [f"--memory-budget-bytes={1024 * MIB}"], 1280


def spare() -> str:
    """The clients compute as well: a processor is theirs."""
    return f"--threads={max(len(os.sched_getaffinity(0)) - 1, 1)}"


def lost(jobs: list[Seen], *ends: str) -> int:
    """Calls that ended in none of these ways."""
    return sum(len(seen.calls) - seen.count(*ends) for seen in jobs)


def small_bound(alone: Seen) -> float:
    return 1000 * (TIMES_ALONE * alone.p(99) + SLACK)


def time_to_normal(scene: Scene, server: Server, alone: Seen) -> float:
    """Until nothing is held and a small call takes what it took."""

    few = Job(small(), 1, clients=1, most_calls=5)

    def is_normal() -> bool:
        return server.held() == 0 and scene.load(server, few)[0].p(50) <= TIMES_ALONE * alone.p(99)

    return eventually(is_normal, 30)


def overload(scene: Scene, times: float, share: float) -> None:
    """Calls come `times` as often as they can be computed, whatever they are told."""
    with scene.server(spare(), *BUDGET, peak_mib=PEAK_MIB) as server:
        request, part = work(server, scene.count(0.04, 0.01)).SerializeToString(), max(scene.seconds / 8, 0.2)
        alone, *_ = scene.load(server, Job(small(), part, rate=20))
        peak_seen, *_ = scene.load(server, Job(request, part, clients=8))
        peak, long = max(peak_seen.rate(0, part), 1), part * scene.count(6, 2)
        each = Job(request, long, rate=times * peak / 2)
        hard_1, hard_2, beside = scene.load(server, each, each, Job(small(), long, rate=20))
        hard = load.merged([hard_1, hard_2])
        normal = hard.last() - long + time_to_normal(scene, server, alone)
        settled = min(2, long / 4)
        scene.tell("peak", peak, "calls/s")
        scene.tell("offered", len(hard.calls) / long, "calls/s")
        scene.at_least("goodput, share of peak", hard.rate(settled, long) / peak, share)
        scene.at_most("refusals, p99", 1000 * hard.p(99, REFUSED), 10, "ms")
        scene.tell("refusals, p50", 1000 * hard.p(50, REFUSED), "ms")
        scene.tell("answered calls, p50", hard.p(50), "s")
        scene.tell("small calls alone, p99", 1000 * alone.p(99), "ms")
        scene.at_most("small calls, p99", 1000 * beside.p(99), small_bound(alone), "ms")
        scene.at_most("normal again within", normal, NORMAL_WITHIN, "s")
        scene.promise("small calls refused or lost", lost([beside], OK))
        scene.promise("calls neither answered nor refused", lost([hard], OK, REFUSED))


def overload_2x(scene: Scene) -> None:
    overload(scene, 2, 0.9)


def overload_10x(scene: Scene) -> None:
    overload(scene, 10, 0.8)


def giant_and_small(scene: Scene) -> None:
    """One call of many seconds, and 200 small ones meanwhile."""
    calls = scene.count(200, 40)
    with scene.server("--max-call-seconds=1000") as server:
        alone, *_ = scene.load(server, Job(small(), 10, clients=4, most_calls=calls))
        giant = server.stub.Attend.future(work(server, max(scene.seconds / 2, 0.5)), timeout=600)
        eventually(lambda: server.metrics().value("headlight_workers_busy") > 0, 10)
        beside, *_ = scene.load(server, Job(small(), 60, clients=4, most_calls=calls))
        scene.at_least("giant was under way to the end", float(not giant.done()), 1)
        scene.at_most("small calls, p99", 1000 * beside.p(99), small_bound(alone), "ms")
        scene.promise("small calls lost", calls - beside.count(OK))
        scene.promise("giant answered", float(giant.result().HasField("log_sum_exp")), 1)


def retry_storm(scene: Scene) -> None:
    """Many clients that are refused and come back at once, beside the same number that wait as they are told."""
    clients = scene.count(64, 24)
    with scene.server(spare(), *BUDGET, "--max-wait-seconds=0.2", peak_mib=PEAK_MIB) as server:
        request, part = work(server, scene.count(0.04, 0.01)).SerializeToString(), scene.seconds / 3
        alone, *_ = scene.load(server, Job(small(), part / 4, rate=20))
        calm, *_ = scene.load(server, Job(request, part, clients=clients, waits_when_refused=True))
        storm, *_ = scene.load(server, Job(request, part, clients=clients))
        scene.tell("refused in the storm", storm.count(REFUSED) / part, "calls/s")
        scene.tell("refused where clients wait", calm.count(REFUSED) / part, "calls/s")
        # Refusing takes time from computing, and so do the clients, who share the machine.
        scene.at_least("goodput, share of the calm", storm.rate(0, part) / max(calm.rate(0, part), 1e-9), 0.5)
        scene.at_most("normal again within", time_to_normal(scene, server, alone), NORMAL_WITHIN, "s")
        scene.promise("calls neither answered nor refused", lost([calm, storm], OK, REFUSED))


def deadlines_1ms(scene: Scene) -> None:
    """Calls that nobody waits for any more when they arrive."""
    with scene.server(spare()) as server:
        request = work(server, scene.count(0.04, 0.01)).SerializeToString()
        alone, *_ = scene.load(server, Job(small(), scene.seconds / 4, rate=20))
        before = server.metrics().value("headlight_worker_busy_seconds_total")
        jobs = Job(request, scene.seconds, rate=200, timeout=0.001), Job(small(), scene.seconds, rate=20)
        hurried, beside = scene.load(server, *jobs)
        computed = server.metrics().value("headlight_worker_busy_seconds_total") - before
        own = len(beside.calls) * alone.p(50)
        scene.tell("calls", len(hurried.calls))
        scene.at_most("computed for each", 1000 * max(computed - own, 0) / len(hurried.calls), 2, "ms")
        scene.at_most("small calls, p99", 1000 * beside.p(99), small_bound(alone), "ms")
        scene.promise("small calls lost", lost([beside], OK))
        scene.promise("ended otherwise", lost([hurried], OK, REFUSED, "DEADLINE_EXCEEDED"))


def edge_of(before: Metrics, after: Metrics, name: str, share: float) -> float:
    """The bucket's edge that this share of what was observed between two scrapes does not exceed."""
    edges = sorted(
        (float(labels["le"]), value - before.value(f"{name}_bucket", **labels))
        for sample, labels, value in after.samples
        if sample == f"{name}_bucket"
    )
    return next((edge for edge, count in edges if count >= share * edges[-1][1]), float("inf"))


def cancel(scene: Scene) -> None:
    """Calls given up while they compute, and while they stand behind others."""
    latency, rounds = "headlight_cancel_latency_seconds", max(int(scene.seconds), 2)
    with scene.server("--max-call-seconds=1000", "--max-wait-seconds=1000") as server:
        giant = work(server, 20)
        before, idle = server.metrics(), []
        for _ in range(rounds):
            call = server.stub.Attend.future(giant)
            eventually(lambda: server.metrics().value("headlight_workers_busy") > 0, 10)
            call.cancel()
            idle.append(eventually(lambda: server.held() == 0, 10))
        after = server.metrics()
        scene.at_most("computing: cancel latency, p90 edge", 1000 * edge_of(before, after, latency, 0.9), 20, "ms")
        scene.at_most("computing: until nothing is median", 1000 * sorted(idle)[rounds // 2], 100, "ms")
        scene.promise("computing: calls that ended otherwise", rounds - cancelled(after) + cancelled(before))
        for _ in range(rounds):
            calls = [server.stub.Attend.future(giant) for _ in range(32)]
            for call in reversed(calls):
                call.cancel()
            eventually(lambda: server.held() == 0, 30)
        queued = server.metrics()
        scene.at_most("queued: cancel latency, p90 edge", 1000 * edge_of(after, queued, latency, 0.9), 10, "ms")
        scene.at_least("queued: given up before they began", cancelled(queued, stage="queue"), rounds)
        scene.promise("queued: computed for those", queued.value("headlight_wasted_flops_total", stage="queue"))


def cancelled(metrics: Metrics, **labels: str) -> float:
    return metrics.value("headlight_cancelled_total", **labels)


def open_and_cancel(scene: Scene) -> None:
    """Calls that are opened and given up at any moment of their life, again and again."""
    most = scene.count(50_000, 150)
    with scene.server(spare(), peak_mib=256) as server:
        request = work(server, 0.005).SerializeToString()
        each, before = Job(request, scene.seconds, clients=16, most_calls=most, cancel_within=0.01), server.metrics()
        both, after = load.merged(scene.load(server, each, each)), server.metrics()
        reached = [m.value("grpc_server_started_total", grpc_method="Attend") for m in (before, after)]
        scene.at_least("cycles", len(both.calls), min(2 * most, 100 * scene.seconds))
        scene.tell("of them cancelled by the client", both.count("CANCELLED"))
        scene.tell("of them that reached the server", reached[1] - reached[0])
        for stage in ("queue", "project", "attend"):
            scene.tell(f"of them given up in the stage {stage}", cancelled(after, stage=stage))
        scene.promise("ended otherwise", lost([both], OK, REFUSED, "CANCELLED"))


SCENARIOS = {
    "overload_2x": (overload_2x, 40),
    "overload_10x": (overload_10x, 84),
    "giant_and_small": (giant_and_small, 15),
    "retry_storm": (retry_storm, 30),
    "deadlines_1ms": (deadlines_1ms, 15),
    "cancel": (cancel, 20),
    "open_and_cancel": (open_and_cancel, 100),
}
