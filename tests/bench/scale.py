#!/usr/bin/env python3
"""How time and memory grow with the number of tokens: `./dev bench scale`.

Each point is a process of its own (`headlight-bench point`), so that its peak of resident memory is its own; it checks
its answer before it times. Rounds go over all points; a factor is the median over the rounds of what a doubling of T
costs. H 8, D 64, B 1, float32. Python's standard library is all it needs.

Exit status: 0 measured, goals met or not; 1 a point failed or was wrong; 2 it was called wrongly.
"""

import argparse
import json
import statistics
import subprocess
import sys
from typing import Any

import arguments as bench_arguments
import scale_plot

SMALLEST = 512
HEADS, ELEMENT = 8, 4
LARGEST_GRID = 1 << 30  # of naive, bytes
TIME_GOAL, TIME_MARGIN = 4.0, 0.05
MEMORY_GOAL = 2.0
# Resident memory of a call beyond twice its input and its output.
RSS_MARGIN = 64 << 20
MIB = 1 << 20

Point = dict[str, Any]


def tokens_up_to(largest: int) -> list[int]:
    counts = [SMALLEST]
    while counts[-1] * 2 <= largest:
        counts.append(counts[-1] * 2)
    return counts


def measure(binary: str, tokens: int, naive: bool, options: argparse.Namespace) -> Point:
    command = [binary, "point", f"--tokens={tokens}", f"--threads={options.threads}", f"--seconds={options.seconds}"]
    command += ["--naive"] if naive else []
    command += [f"--cpu-target={options.cpu_target}"] if options.cpu_target else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:  # it said why
        print(f"scale: the point of {tokens} tokens failed", file=sys.stderr)
        sys.exit(2 if done.returncode == 2 else 1)
    point: Point = json.loads(done.stdout)
    return point


def merge(rounds: list[Point]) -> Point:
    """One point of all rounds: its memory is that of the last, the same in each but for the resident peak."""
    merged = dict(rounds[-1])
    merged.pop("machine")
    merged["best_seconds"] = min(point["best_seconds"] for point in rounds)
    merged["median_seconds"] = statistics.median(point["best_seconds"] for point in rounds)
    merged["peak_rss_bytes"] = max(point["peak_rss_bytes"] for point in rounds)
    merged["seconds_of_rounds"] = [point["best_seconds"] for point in rounds]
    return merged


def memory_of(point: Point) -> int:
    """What a call holds: input, output and workspace."""
    return int(point["input_bytes"] + point["output_bytes"] + point["workspace_bytes"])


def add_factors(points: list[Point]) -> None:
    for half, whole in zip(points, points[1:], strict=False):
        pairs = zip(half["seconds_of_rounds"], whole["seconds_of_rounds"], strict=True)
        whole["time_factor"] = statistics.median(b / a for a, b in pairs)
        whole["memory_factor"] = memory_of(whole) / memory_of(half)
        whole["workspace_factor"] = whole["workspace_bytes"] / half["workspace_bytes"]


def judge(points: list[Point]) -> list[dict[str, Any]]:
    goals: list[dict[str, Any]] = []
    for point in points:
        allowed = 2 * point["input_bytes"] + 2 * point["output_bytes"] + RSS_MARGIN
        rss = point["peak_rss_bytes"]
        goals.append({"what": "peak RSS, MiB", "measured": rss / MIB, "at_most": allowed / MIB, "met": rss <= allowed})
        if "time_factor" in point:
            time, memory = point["time_factor"], point["memory_factor"]
            low, high = TIME_GOAL * (1 - TIME_MARGIN), TIME_GOAL * (1 + TIME_MARGIN)
            goals.append(
                {"what": "time", "measured": time, "at_least": low, "at_most": high, "met": low <= time <= high}
            )
            within = memory <= MEMORY_GOAL
            goals.append({"what": "memory", "measured": memory, "at_most": MEMORY_GOAL, "met": within})
        for goal in goals:
            goal.setdefault("tokens", point["tokens"])
    return goals


def print_head(machine: dict[str, Any], options: argparse.Namespace) -> None:
    print(f"{machine['processor']}, {machine['cores']} cores; CPU target {machine['cpu_target']}; ", end="")
    print(f"oneDNN {machine['onednn']}, Highway {machine['highway']}")
    print(f"{options.threads} thread(s), {options.rounds} rounds; memory: input + output + workspace\n")
    print(f"{'algorithm':<10}{'T':>6}  {'ms':>10} {'factor':>7}  {'MiB':>8} {'factor':>7}", end="")
    print(f"  {'workspace MiB':>13} {'factor':>7}  {'peak RSS MiB':>12}")


def print_points(points: list[Point]) -> None:
    for point in points:
        time, memory, workspace = (
            f"{point[key]:.2f}" if key in point else "" for key in ("time_factor", "memory_factor", "workspace_factor")
        )
        print(f"{point['algorithm']:<10}{point['tokens']:>6}  {1e3 * point['median_seconds']:>10.2f} {time:>7}", end="")
        print(f"  {memory_of(point) / MIB:>8.1f} {memory:>7}  {point['workspace_bytes'] / MIB:>13.2f}", end="")
        print(f" {workspace:>7}  {point['peak_rss_bytes'] / MIB:>12.1f}", flush=True)


def print_goals(goals: list[dict[str, Any]]) -> None:
    print("\ngoals of flash: per doubling time x 4.0 within 5 %, memory at most x 2.0;")
    print("peak RSS at most 2 x input + 2 x output + 64 MiB")
    for what in ("time", "memory", "peak RSS, MiB"):
        of = [goal for goal in goals if goal["what"] == what]
        missed = [f"{goal['measured']:.2f} at T {goal['tokens']}" for goal in of if not goal["met"]]
        verdict = f"met at all {len(of)}" if of else "not judged: there is no doubling"
        print(f"{what:<14} {'not met: ' + ', '.join(missed) if missed else verdict}")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench scale", description=__doc__.splitlines()[0])
    parser.add_argument("binary", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=bench_arguments.threads, default=1, help="workers (1)")
    parser.add_argument("--largest", type=int, default=32768, help="T doubles from 512 to this (32768)")
    parser.add_argument("--rounds", type=bench_arguments.count, default=3, help="over all points (3)")
    parser.add_argument(
        "--seconds", type=bench_arguments.seconds, default=0.3, help="a point repeats its call for so long (0.3)"
    )
    parser.add_argument("--cpu-target", choices=bench_arguments.CPU_TARGETS, help="what to compute with (the best)")
    parser.add_argument("--json", type=bench_arguments.writable, help="file for the report")
    parser.add_argument("--svg", type=bench_arguments.writable, help="file for the plot")
    options = parser.parse_args(arguments)
    if options.largest not in (SMALLEST << doublings for doublings in range(12)):
        parser.error(f"--largest is {SMALLEST} doubled up to 11 times, not {options.largest}")
    return options


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    flash = tokens_up_to(options.largest)
    naive = [tokens for tokens in flash if HEADS * tokens * tokens * ELEMENT <= LARGEST_GRID]
    plan = [(tokens, False) for tokens in flash] + [(tokens, True) for tokens in naive]
    rounds: dict[tuple[int, bool], list[Point]] = {key: [] for key in plan}
    for number in range(1, options.rounds + 1):
        for tokens, is_naive in plan:
            name = "naive" if is_naive else "flash"
            print(f"round {number} of {options.rounds}: {name}, {tokens} tokens", file=sys.stderr, flush=True)
            rounds[tokens, is_naive].append(measure(options.binary, tokens, is_naive, options))
    machine = rounds[plan[0]][0]["machine"]
    points = {is_naive: [merge(rounds[key]) for key in plan if key[1] == is_naive] for is_naive in (False, True)}
    print_head(machine, options)
    for some in points.values():
        add_factors(some)
        print_points(some)
    goals = judge(points[False])
    print_goals(goals)
    report = {"machine": machine, "threads": options.threads, "rounds": options.rounds}
    report |= {"flash": points[False], "naive": points[True], "goals": goals}
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if options.svg:
        options.svg.write_text(scale_plot.plot(report))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
