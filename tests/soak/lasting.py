"""Scenarios of time: memory that must not grow, memory that is given back, and the end of the process."""

import os
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import make
import numpy as np
from load import DRAINING, OK, REFUSED, Job, merged
from make import MIB
from scene import Scene, eventually, judge_given_back, load_binary, resident, small, work
from server_process import SANITIZED, Server
from wire import service_pb

ATTEND = "/headlight.v1.AttentionService/Attend"
SLOPE = 1.0  # MiB for 100,000 calls
CYCLES = 50


def slope(samples: list[tuple[float, float]]) -> float:
    """MiB for 100,000 calls, from (calls, MiB) without the first third, in which caches fill."""
    calls, mib = np.array(samples[len(samples) // 3 :]).T
    return float(np.polyfit(calls / 1e5, mib, 1)[0]) if calls[-1] > calls[0] else float("inf")


def leaking(samples: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same series, had each call left 32 bytes."""
    return [(calls, mib + calls * 32 / MIB) for calls, mib in samples]


def memory_slope(scene: Scene) -> None:
    """Small calls without end, and how memory goes with their number."""
    binary = load_binary()
    if not binary.exists():
        scene.skipped = f"{binary.name} is not built"
        return
    with scene.server(peak_mib=64) as server, tempfile.NamedTemporaryFile() as request:
        request.write(small())
        request.flush()
        options = f"--clients=4 --seconds={scene.seconds} --request={request.name} --method={ATTEND}".split()
        client = subprocess.Popen([binary, f"--address={server.address}", *options], stdout=subprocess.PIPE, text=True)
        samples, pause = [], min(0.5, scene.seconds / 20)
        while client.poll() is None:
            samples.append((server.metrics().value("grpc_server_handled_total", grpc_code="OK"), resident(server)))
            time.sleep(pause)
        scene.promise("failures of the client", float('"failure"' in client.stdout.read()))
        client.stdout.close()
        scene.tell("calls", samples[-1][0] - samples[0][0])
        scene.at_most("slope for 100,000 calls", slope(samples), SLOPE, "MiB")
        # The check can fail, whatever was measured: on a flat series 32 bytes a call are three times the bound.
        flat = [(calls, 100.0) for calls, _ in samples]
        scene.promise("the check passes what does not grow", float(slope(flat) <= SLOPE), 1)
        scene.promise("the check finds 32 bytes a call", float(slope(leaking(flat)) > SLOPE), 1)


def burst_then_idle(scene: Scene) -> None:
    """Large calls at once, and then none: memory goes back."""
    request = make.seeded(tokens=scene.count(2048, 512), width=512, heads=8)
    request.outputs.maps.append(make.full_map(heads=[0, 1]))
    with scene.server("--max-wait-seconds=1000", peak_mib=2048) as server:
        before, most = resident(server), 0.0
        job = Job(request.SerializeToString(), scene.seconds / 4, clients=8)
        (burst,) = scene.crew.begin(server.address, job)
        while not burst.done():
            most = max(most, resident(server))
            time.sleep(0.02)
        scene.promise("calls lost", len(burst.result().calls) - burst.result().count(OK, REFUSED))
        scene.tell("resident in the burst", most, "MiB")
        judge_given_back(scene, server, before)


def admitted(server: Server) -> float:
    return server.metrics().value("headlight_admission_total", decision="admitted")


def admitted_at_last(server: Server) -> float | None:
    """How many calls it had admitted when it ended, as it said until then; none where it did not say."""
    last = None
    while True:
        try:
            metrics = server.metrics()
        except OSError:
            return last
        if metrics.value("headlight_draining") == 1:
            last = metrics.value("headlight_admission_total", decision="admitted")
        time.sleep(0.01)


@dataclass
class Ends:
    """What became of servers that were told to end, and of their calls."""

    answered: int = 0
    lost: float = 0
    otherwise: int = 0
    unheard: int = 0  # servers that could not say how many they had admitted
    bad_exits: int = 0


def end_under_load(scene: Scene, server: Server, pause: float, ends: Ends) -> None:
    request, longer = work(server, 0.01).SerializeToString(), work(server, 0.7)
    before = admitted(server)
    long = server.stub.Attend.future(longer, timeout=60)
    job = Job(request, 60, clients=8, ends_when_unavailable=True)
    begun = scene.crew.begin(server.address, job, job)
    eventually(lambda: admitted(server) >= before + 10, 30)
    time.sleep(pause)
    server.terminate()
    last = admitted_at_last(server)
    all_calls = merged([one.result() for one in begun])
    answered = all_calls.count(OK) + (long.code() == grpc.StatusCode.OK)
    ends.answered += answered
    ends.otherwise += len(all_calls.calls) - all_calls.count(OK, REFUSED, DRAINING, "UNAVAILABLE")
    ends.unheard += last is None
    ends.lost += 0 if last is None else max(last - before - answered, 0)
    ends.bad_exits += server.wait(60) != 0


def sigterm_under_load(scene: Scene) -> None:
    """The server is told to end while clients call. Whatever it had admitted is answered."""
    rng, ends = random.Random(1), Ends()
    cycles = 1 if scene.quick else max(3, min(CYCLES, int(scene.seconds / 2.5)))
    for _ in range(cycles):
        server = Server()
        try:
            end_under_load(scene, server, rng.uniform(0, 0.3), ends)
        finally:
            server.close()
    scene.tell("times", cycles)
    scene.tell("calls answered", ends.answered)
    scene.at_most("times that it was not heard how many were admitted", ends.unheard, cycles / 4)
    scene.promise("calls admitted and not answered", ends.lost)
    scene.promise("calls that ended otherwise", ends.otherwise)
    scene.promise("times that the exit code was not 0", ends.bad_exits)


@contextmanager
def cgroup() -> Iterator[tuple[Path, str] | None]:
    """A cgroup of our own with the name of the file that is its memory's limit; none where none can be made."""
    own = {line.split(":")[1]: line.split(":", 2)[2] for line in Path("/proc/self/cgroup").read_text().splitlines()}
    top = Path("/sys/fs/cgroup")
    places = [
        (top / "memory" / own.get("memory", "/").strip("/"), "memory.limit_in_bytes"),
        (top / own.get("", "/").strip("/"), "memory.max"),
    ]
    for parent, limit in places:
        folder = parent / f"headlight-soak-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            if os.access(folder / limit, os.W_OK):
                yield folder, limit
                return
        finally:
            members = folder / "cgroup.procs"
            eventually(lambda members=members: not members.read_text(), 10)
            folder.rmdir()
    yield None


def cgroup_limit(scene: Scene) -> None:
    """A fifth more memory than it needs at rest: what has no room is refused, and nobody is killed."""
    with cgroup() as place:
        if place is None:
            scene.skipped = "no cgroup with a memory limit can be made here"
            return
        if SANITIZED:
            scene.skipped = "a sanitizer takes many times the memory"
            return
        folder, limit = place
        into = ("sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh")
        with scene.server("--threads=2", under=into) as server:
            baseline = resident(server)
        scene.tell("baseline", baseline, "MiB")
        # Briefly tried with more: not every build, nor every machine, needs as little beside what it rests with.
        (folder / limit).write_text(str(int(scene.count(1.2, 3) * baseline * MIB)))
        large = make.seeded(tokens=2048, width=512, heads=8)
        large.outputs.maps.append(make.full_map())
        with scene.server("--threads=2", under=into) as server:
            (calls,) = scene.load(server, Job(large.SerializeToString(), scene.seconds / 2, clients=4))
            scene.at_least("large calls refused", calls.count(REFUSED, "INVALID_ARGUMENT"), 1)
            ended = calls.count(OK, REFUSED, "INVALID_ARGUMENT")
            scene.promise("large calls neither answered nor refused", len(calls.calls) - ended)
        if scene.quick:
            return
        with scene.server("--threads=2", under=into) as server:
            (uploads,) = scene.load(server, Job(bytes([0x7A]) * (4 * MIB), scene.seconds / 2, clients=2))
            for end, count in uploads.counts().items():
                scene.tell(f"uploads of 4 MiB that ended {end}", count)


def first_call(scene: Scene) -> None:
    """What the first call after the ready line takes, and those after it: of a shape of the warm-up, and of two others,
    whose products oneDNN makes then."""
    shapes = {"T 128": (128, 256, 4), "T 16, not warmed": (16, 64, 2), "T 512, not warmed": (512, 512, 8)}
    took: dict[str, list[list[float]]] = {shape: [] for shape in shapes}
    for _ in range(int(scene.count(max(8, min(20, scene.seconds / 3)), 1))):
        for shape, (tokens, width, heads) in shapes.items():
            with closing(Server()) as server:
                request = make.seeded(tokens=tokens, width=width, heads=heads)
                server.stub.GetServerInfo(service_pb.GetServerInfoRequest(), timeout=10)  # connects
                took[shape].append([])
                for _ in range(40):
                    began = time.monotonic()
                    server.attend(request)
                    took[shape][-1].append(time.monotonic() - began)
    with scene.server() as server:
        server.attend(request)
    for shape, runs in took.items():
        first, steady = np.median([run[0] for run in runs]), np.median([run[10:] for run in runs])
        scene.tell(f"steady call, {shape}", 1000 * float(steady), "ms")
        if "not" in shape:
            scene.tell(f"first call, {shape}", float(first / steady), "x")
        else:
            scene.at_most(f"first call, {shape}", float(first / steady), 1.5, "x")


SCENARIOS = {
    "first_call": (first_call, 10),
    "memory_slope": (memory_slope, 60),
    "burst_then_idle": (burst_then_idle, 45),
    "sigterm_under_load": (sigterm_under_load, 130),
    "cgroup_limit": (cgroup_limit, 20),
}
