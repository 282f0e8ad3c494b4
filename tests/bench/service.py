"""`./dev bench service`: our server beside a bare gRPC echo, grpcio with PyTorch, and Triton with ONNX Runtime.

All serve the same attention (B 1, H 8, D 64, float32 Q, K and V) to the same closed loop, headlight-load, on this
machine, with 2 threads each. Within a case the servers take turns in short slices, and medians over the rounds count:
machines are shared. Nothing but the server whose turn it is has work. Numbers of different runs do not compare.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "service"))
import arguments as bench_arguments  # noqa: E402
import messages  # noqa: E402
import report  # noqa: E402
import servers  # noqa: E402
from messages import Case  # noqa: E402
from report import Result  # noqa: E402
from servers import NotRun, Server  # noqa: E402

ATTEND = "/headlight.v1.AttentionService/Attend"
INFER = "/inference.GRPCInferenceService/ModelInfer"
# Workers of a peer, and threads within each: 2 threads in all. The faster of the two takes part, case by case.
SETTINGS = ((2, 1), (1, 2))


@dataclass
class Contender:
    """A server in one or more settings, and how it is asked."""

    name: str
    method: str
    arguments: Callable[[Case], list[str]]
    settings: list[Server] = field(default_factory=list)


def attend_arguments(case: Case) -> list[str]:
    return [f"--request={case.attend_request}", f"--expect={case.attend_expected}", "--output-field=1.3"]


def headlight_arguments(case: Case) -> list[str]:
    times = {"queue": "6.15", "project": "6.16", "attend": "6.17", "total": "6.19"}
    return [*attend_arguments(case), *(f"--time={name}={path}" for name, path in times.items())]


def infer_arguments(case: Case) -> list[str]:
    return [f"--request={case.infer_request}", f"--expect={case.infer_expected}", "--output-field=6"]


class Bench:
    """One run. `close` ends every server, whatever happened."""

    def __init__(self, options: argparse.Namespace, folder: Path):
        self.options = options
        self.folder = folder
        self.binaries = Path(options.bin).resolve()
        self.running: list[Server] = []
        self.not_run: dict[str, str] = {}
        self.results: list[Result] = []
        headlight = self.keep(servers.start_headlight(self.binaries, folder))
        self.address = headlight.address
        self.headlight = Contender(report.HEADLIGHT, ATTEND, headlight_arguments, [headlight])
        self.echo = Contender(report.ECHO, ATTEND, lambda case: [f"--request={case.attend_request}"])
        self.peers = [
            Contender(report.TORCH, ATTEND, attend_arguments),
            Contender(report.TRITON, INFER, infer_arguments),
        ]

    def keep(self, server: Server) -> Server:
        self.running.append(server)
        return server

    def start_peers(self) -> None:
        torch, triton = self.peers
        starts = {
            torch.name: lambda w, t: servers.start_torch(self.folder, messages.STUBS, w, t),
            triton.name: lambda w, t: servers.start_triton(self.folder, self.folder / f"triton-{w}", w, t),
        }
        for peer in self.peers:
            for workers, threads in SETTINGS:
                try:
                    peer.settings.append(self.keep(starts[peer.name](workers, threads)))
                except (NotRun, OSError, ImportError) as why:
                    self.drop(peer, str(why))
                    break

    def drop(self, contender: Contender, why: str) -> None:
        """It does not take part any more: all its servers are ended, so that they take no time from others."""
        print(f"{contender.name}: not run: {why}", flush=True)
        self.not_run[contender.name] = why
        for server in contender.settings:
            server.close()
        contender.settings.clear()

    def load(self, contender: Contender, server: Server, case: Case, clients: int, seconds: float) -> dict:
        """One slice. NotRun: it failed, or the answer was wrong."""
        command = [
            str(self.binaries / "headlight-load"),
            f"--address={server.address}",
            f"--method={contender.method}",
            f"--clients={clients}",
            f"--seconds={seconds}",
            f"--warmup={self.options.warmup}",
            *contender.arguments(case),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120)
        except subprocess.TimeoutExpired:
            raise NotRun(f"{case.tokens} tokens, {clients} clients: no end of a slice") from None
        line = json.loads(done.stdout) if done.stdout else {"failure": done.stderr.strip()}
        if done.returncode != 0:
            raise NotRun(f"{case.tokens} tokens, {clients} clients: {line['failure']}")
        return line

    def choose(self, contender: Contender, case: Case, clients: int) -> Server:
        """The setting that made more calls in a slice of its own."""
        if len(contender.settings) == 1:
            return contender.settings[0]
        seconds = self.options.seconds / 2
        speeds = [self.load(contender, s, case, clients, seconds)["calls_per_second"] for s in contender.settings]
        return contender.settings[speeds.index(max(speeds))]

    def run_case(self, case: Case, clients: int) -> None:
        chosen: list[tuple[Contender, Server, list[dict]]] = []
        for contender in (self.headlight, self.echo, *self.peers):
            if not contender.settings:
                continue
            try:
                chosen.append((contender, self.choose(contender, case, clients), []))
            except NotRun as why:
                self.fail(contender, why)
        for number in range(self.options.rounds):
            # Whoever is first in one round is last in the next.
            for contender, server, slices in chosen if number % 2 == 0 else reversed(chosen):
                if not contender.settings:
                    continue
                try:
                    slices.append(self.load(contender, server, case, clients, self.options.seconds))
                except NotRun as why:
                    self.fail(contender, why)
        for contender, server, slices in chosen:
            if contender.settings:
                self.results.append(summarise(contender, server, case, clients, slices))

    def fail(self, contender: Contender, why: NotRun) -> None:
        """A peer that fails is left out; without us or the echo there is nothing to tell."""
        if contender not in self.peers:
            raise RuntimeError(f"{contender.name}: {why}")
        self.drop(contender, str(why))

    def run(self) -> None:
        for tokens in self.options.tokens:
            case = messages.make_case(tokens, self.address, self.folder)
            echo = self.keep(servers.start_echo(self.binaries, self.folder, case.answer_bytes))
            self.echo.settings = [echo]
            for clients in self.options.clients:
                print(f"{tokens} tokens, {clients} clients", flush=True)
                self.run_case(case, clients)
            echo.close()

    def close(self) -> None:
        for server in self.running:
            server.close()


def summarise(contender: Contender, server: Server, case: Case, clients: int, slices: list[dict]) -> Result:
    def median(name: str) -> float:
        return statistics.median(one[name] for one in slices)

    times = {
        name: statistics.median(one["server_p50_us"][name] for one in slices)
        for name in slices[0].get("server_p50_us", {})
    }
    return Result(
        contender.name, server.name, case.tokens, clients,
        median("calls_per_second"), median("p50_us"), median("p99_us"), times, slices,
    )  # fmt: skip


def main() -> int:
    options = bench_arguments.service(sys.argv[1:])
    # Ended from outside it goes the way of Ctrl-C, through `close`.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="headlight-bench-") as folder:
        bench = Bench(options, Path(folder))
        try:
            if options.no_peers:
                bench.not_run = {peer.name: "not asked for" for peer in bench.peers}
            else:
                bench.start_peers()
            triton = next(iter(bench.peers[1].settings), None)
            machine = report.machine(messages.server_info(bench.address), servers.peer_versions(triton))
            bench.run()
        except KeyboardInterrupt:
            return 130
        finally:
            bench.close()
    machine["load_average_after"] = os.getloadavg()[0]
    goals = report.goals(bench.results)
    report.show(machine, bench.results, goals, bench.not_run)
    if options.json is not None:
        record = {
            "machine": machine,
            "options": {name: str(value) for name, value in vars(options).items()},
            "results": [asdict(result) for result in bench.results],
            "goals": [asdict(goal) for goal in goals],
            "not_run": bench.not_run,
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0 if options.no_peers or not bench.not_run else 1


if __name__ == "__main__":
    sys.exit(main())
