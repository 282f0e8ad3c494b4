#!/usr/bin/env python3
"""The fault suite at length: `./dev soak`. Each scenario does something bad to a server of its own, measures what comes
of it, and ends with a fixed call whose answer must have the bits that it always has.

Exit status: 0 every bound was met; 1 one was not; 2 it was called wrongly.
"""

import argparse
import json
import math
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

QUICK_SECONDS = 0.3


def parse(arguments: list[str], names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev soak", description="Runs the fault suite and reports its figures.")
    parser.add_argument("--minutes", type=float, default=12, help="shared out over the scenarios (default 12)")
    parser.add_argument("--only", help=f"these, with commas: {', '.join(names)}")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="seconds in all; bounds on time and memory are not judged")
    options = parser.parse_args(arguments)
    options.only = options.only.split(",") if options.only else names
    unknown = [name for name in options.only if name not in names]
    if unknown:
        parser.error(f"there is no scenario {unknown[0]}")
    if not options.minutes > 0:
        parser.error("--minutes is above 0")
    return options


def show(name: str, scene, seconds: float) -> None:
    print(f"\n{name} ({seconds:.0f} s){': skipped, ' + scene.skipped if scene.skipped else ''}")
    for figure in scene.figures:
        verdict = {True: "met", False: "NOT MET", None: ""}[figure.met]
        measured = f"{figure.measured:.4g} {figure.unit}"
        print(f"  {figure.what:<52} {measured:>16}  {figure.bound:<12} {verdict}", flush=True)


def run_all(options: argparse.Namespace) -> list[dict]:
    import load
    from scenarios import SCENARIOS, run

    shares = sum(SCENARIOS[name].share for name in options.only)
    crew, results = load.Crew(processes=not options.quick), []
    for name in options.only:
        seconds = QUICK_SECONDS if options.quick else options.minutes * 60 * SCENARIOS[name].share / shares
        began = time.monotonic()
        scene = run(name, seconds, options.quick, crew)
        took = time.monotonic() - began
        show(name, scene, took)
        figures = [asdict(figure) for figure in scene.figures]
        for figure in figures:  # JSON has no infinity
            figure["measured"] = figure["measured"] if math.isfinite(figure["measured"]) else None
        results.append({"scenario": name, "seconds": took, "skipped": scene.skipped, "figures": figures})
    crew.close()
    return results


def main(arguments: list[str]) -> int:
    import stubs

    stubs.generate()
    from scenarios import SCENARIOS

    options = parse(arguments, list(SCENARIOS))
    print(f"{len(os.sched_getaffinity(0))} processors, load average {os.getloadavg()[0]:.1f} before")
    results = run_all(options)
    judged = [(r["scenario"], f) for r in results for f in r["figures"] if f["met"] is not None]
    broken = [f"{name}: {figure['what']}" for name, figure in judged if not figure["met"]]
    print(f"\nload average {os.getloadavg()[0]:.1f} afterwards (ours in it)")
    print(f"soak: {len(judged) - len(broken)} of {len(judged)} bounds met in {len(results)} scenarios")
    for line in broken:
        print(f"not met: {line}")
    if options.json:
        options.json.write_text(json.dumps({"quick": options.quick, "scenarios": results}, indent=1) + "\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
