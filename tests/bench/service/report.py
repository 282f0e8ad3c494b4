"""What was measured as a table, and held against the goals."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

HEADLIGHT, ECHO, TORCH, TRITON = "headlight", "echo", "grpcio + PyTorch", "Triton + ONNX Runtime"
PEERS = (TORCH, TRITON)
# Calls per second: so many times the best peer, by tokens, or this share of the echo where that is less.
TIMES_THE_BEST = {16: 10.0, 128: 4.0, 512: 1.5}
SHARE_OF_ECHO = 0.8
# Median latency of one client: so many times the echo's and the computation's together.
OVERHEAD = 1.25


@dataclass
class Result:
    """Medians over the slices of one server in one case; times in microseconds."""

    server: str
    setting: str
    tokens: int
    clients: int
    calls_per_second: float
    p50_us: float
    p99_us: float
    server_p50_us: dict[str, float]
    slices: list[dict]


@dataclass
class Goal:
    what: str
    tokens: int
    clients: int
    wanted: str
    got: str
    met: bool | None  # None: it cannot be told


def machine(ours: dict, peers: dict[str, str]) -> dict:
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": cpu[0].partition(":")[2].strip() if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.freedesktop_os_release().get('PRETTY_NAME', '')}, Linux {platform.release()}",
        "load_average_before": os.getloadavg()[0],
        "headlight": ours,
        "peers": peers,
    }


def by_server(results: list[Result], tokens: int, clients: int) -> dict[str, Result]:
    return {r.server: r for r in results if (r.tokens, r.clients) == (tokens, clients)}


def cases(results: list[Result]) -> list[tuple[int, int]]:
    return list(dict.fromkeys((r.tokens, r.clients) for r in results))


def best_peer(case: dict[str, Result]) -> Result | None:
    return max((case[name] for name in PEERS if name in case), key=lambda r: r.calls_per_second, default=None)


def throughput_goal(case: dict[str, Result], tokens: int, clients: int) -> Goal:
    ours, echo, best = case[HEADLIGHT].calls_per_second, case[ECHO].calls_per_second, best_peer(case)
    what, got = "calls per second", f"{ours:.0f}"
    share = SHARE_OF_ECHO * echo
    if best is None:
        wanted = f"{share:.0f} ({SHARE_OF_ECHO} x echo), or less by a peer that was not run"
        return Goal(what, tokens, clients, wanted, got, True if ours >= share else None)
    times = TIMES_THE_BEST[tokens] * best.calls_per_second
    which = f"{SHARE_OF_ECHO} x echo" if share < times else f"{TIMES_THE_BEST[tokens]:g} x {best.server}"
    wanted = min(share, times)
    return Goal(what, tokens, clients, f"{wanted:.0f} ({which})", got, ours >= wanted)


def kernel_us(ours: Result) -> float:
    """From the first unit of work to the answer being ready to encode, as the answers themselves tell."""
    return ours.server_p50_us["total"] - ours.server_p50_us["queue"]


def overhead_goal(case: dict[str, Result], tokens: int) -> Goal:
    ours, echo = case[HEADLIGHT], case[ECHO].p50_us
    kernel = kernel_us(ours)
    wanted = OVERHEAD * (echo + kernel)
    what = f"p50 us <= {OVERHEAD:g} x (echo {echo:.0f} + computation {kernel:.0f})"
    return Goal(what, tokens, 1, f"{wanted:.0f}", f"{ours.p50_us:.0f}", ours.p50_us <= wanted)


def goals(results: list[Result]) -> list[Goal]:
    found = []
    for tokens, clients in cases(results):
        case = by_server(results, tokens, clients)
        if tokens in TIMES_THE_BEST:
            found.append(throughput_goal(case, tokens, clients))
        if clients == 1:
            found.append(overhead_goal(case, tokens))
    return found


def show(about: dict, results: list[Result], aims: list[Goal], not_run: dict[str, str]) -> None:
    show_machine(about)
    if TRITON not in not_run:
        print("ONNX Runtime stands behind Triton's Python backend, since Triton's package has no other.")
    columns = f"{'calls/s':>9} {'p50 us':>9} {'p99 us':>9} {'of echo':>8} {'of best peer':>13}"
    print(f"\n{'T':>5} {'clients':>7}  {'server':<22} {'setting':<13} {columns}")
    for tokens, clients in cases(results):
        case = by_server(results, tokens, clients)
        for result in case.values():
            print(row(result, case))
    for name, why in not_run.items():
        print(f"{name}: not run: {why}")
    print()
    for goal in aims:
        verdict = {True: "met", False: "not met", None: "cannot be told"}[goal.met]
        case_name = f"T {goal.tokens:>4}, {goal.clients} clients"
        print(f"{case_name}, {goal.what}: got {goal.got}, wanted {goal.wanted}: {verdict}")


def show_machine(about: dict) -> None:
    ours, before, after = about["headlight"], about["load_average_before"], about["load_average_after"]
    print(f"\n{about['cpu']}, {about['cores']} cores, {about['system']}")
    print(f"headlight {ours['version']} on {ours['cpu_target']} with {ours['threads']} workers")
    print(f"its libraries: {versions(ours['libraries'])}")
    print(f"peers: {versions(about['peers'])}")
    print(f"load average before {before:.1f}, after {after:.1f} (ours in it)")
    print("B 1, H 8, D 64, float32; each client on a connection of its own; clients and servers share the cores;")
    print("medians over rounds of slices in alternation; a peer's setting is workers x threads, the faster of two.")


def row(result: Result, case: dict[str, Result]) -> str:
    best = best_peer(case)
    setting = result.setting if result.server in PEERS else "-"
    of_echo = f"{result.calls_per_second / case[ECHO].calls_per_second:.2f} x"
    of_best = f"{result.calls_per_second / best.calls_per_second:.2f} x" if best is not None else "-"
    numbers = f"{result.calls_per_second:>9.0f} {result.p50_us:>9.0f} {result.p99_us:>9.0f}"
    name = f"{result.tokens:>5} {result.clients:>7}  {result.server:<22} {setting:<13}"
    return f"{name} {numbers} {of_echo:>8} {of_best:>13}"


def versions(of: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(of.items())) or "none"
