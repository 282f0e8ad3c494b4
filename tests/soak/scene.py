"""What every scenario has: a server, clients, and figures that are held against bounds."""

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import load
import make
import server_process
from server_process import Server
from wire import service_pb

MIB = 1 << 20
# Threads that may come to those at rest, which are gRPC's: it adds some for what is under way.
MORE_THREADS = 24


@dataclass
class Figure:
    """Something measured. `met` is None where it is only told, or not judged."""

    what: str
    measured: float
    unit: str = ""
    bound: str = ""
    met: bool | None = None


@functools.cache
def canary_bits() -> bytes:
    """The canary's answer by a server that nothing has happened to."""
    server = Server()
    try:
        return make.bits(server.attend(make.canary()))
    finally:
        server.close()


def status_of(server: Server, field_name: str) -> int:
    """A number of /proc/PID/status; sizes are in KiB."""
    for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith(field_name + ":"):
            return int(line.split()[1])
    raise KeyError(field_name)


def resident(server: Server) -> float:
    """MiB."""
    return status_of(server, "VmRSS") / 1024


def descriptors(server: Server) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def eventually(condition: Callable[[], bool], seconds: float) -> float:
    """How long it takes until this holds; infinity where that is longer than these seconds."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            return float("inf")
        time.sleep(0.01)
    return time.monotonic() - began


class Watch:
    """Looks at a server every tenth of a second: the most threads, and whether it says that it lives."""

    def __init__(self, server: Server):
        self.server, self.threads, self.dead, self.silent = server, status_of(server, "Threads"), 0, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(0.1) and self.server.process.poll() is None:
            with contextlib.suppress(OSError):
                self.threads = max(self.threads, status_of(self.server, "Threads"))
            try:
                self.dead += self.server.page("/livez")[0] != 200
            except OSError:  # within 10 seconds
                self.silent += 1

    def end(self) -> None:
        self._ended.set()
        self._thread.join()


@dataclass
class Scene:
    """One scenario as it runs, for about `seconds`. Where `quick`, bounds on time and memory are told, not judged."""

    seconds: float
    quick: bool
    crew: load.Crew
    figures: list[Figure] = field(default_factory=list)
    skipped: str = ""

    def tell(self, what: str, measured: float, unit: str = "") -> None:
        self.figures.append(Figure(what, measured, unit))

    def at_most(self, what: str, measured: float, bound: float, unit: str = "") -> None:
        met = None if self.quick else measured <= bound
        self.figures.append(Figure(what, measured, unit, f"<= {bound:.4g}", met))

    def at_least(self, what: str, measured: float, bound: float, unit: str = "") -> None:
        met = None if self.quick else measured >= bound
        self.figures.append(Figure(what, measured, unit, f">= {bound:.4g}", met))

    def promise(self, what: str, measured: float, wanted: float = 0) -> None:
        """What holds on any machine, however busy it is."""
        self.figures.append(Figure(what, measured, "", f"= {wanted:g}", measured == wanted))

    def count(self, long: float, quick: float) -> float:
        return quick if self.quick else long

    @contextlib.contextmanager
    def server(self, *flags: str, peak_mib: float = 512, **options) -> Iterator[Server]:
        """A server; when the block ends it must be alive, hold nothing, and answer the canary as ever. `peak_mib`: how
        much more memory may have been resident meanwhile than at first."""
        wanted = canary_bits()
        server = Server(*flags, **options)
        try:
            self.promise("canary at first, wrong bits", float(make.bits(server.attend(make.canary())) != wanted))
            watch = Watch(server)
            rest = resident(server), watch.threads
            try:
                yield server
            except Exception:
                if server.process.poll() is None:
                    raise
            finally:
                watch.end()
            self._settle(server, watch, rest, peak_mib, wanted)
        finally:
            server.close()

    def _settle(self, server: Server, watch: Watch, rest: tuple[float, int], peak_mib: float, wanted: bytes) -> None:
        crashed = server.process.poll() is not None
        self.promise("crashes", float(crashed))
        if crashed:
            print(f"the server ended with {server.process.returncode}: {server.stderr()[-2000:]}")
            return
        eventually(lambda: server.held() == 0, 60)
        self.promise("places held afterwards", server.held())
        self.promise("canary afterwards, wrong bits", float(make.bits(server.attend(make.canary())) != wanted))
        self.promise("times it was said not to live", watch.dead)
        self.at_most("times it did not say whether it lives", watch.silent, 0)
        self.at_most("threads more than at rest", watch.threads - rest[1], MORE_THREADS)
        self.at_most("resident more than at rest, peak", status_of(server, "VmHWM") / 1024 - rest[0], peak_mib, "MiB")
        self.tell("resident at rest", rest[0], "MiB")

    def load(self, server: Server, *jobs: load.Job) -> list[load.Seen]:
        """Has all jobs done at the same time."""
        return [job.result() for job in self.crew.begin(server.address, *jobs)]


def judge_given_back(scene: Scene, server: Server, before: float) -> None:
    """Once there is nothing to do, memory goes back to the system: to a fifth more than at rest, within 30 seconds."""
    back = eventually(lambda: resident(server) <= 1.2 * before, 0 if scene.quick else 30)
    scene.at_most("back to 1.2 x at rest within", back, 30, "s")
    scene.at_most("resident then", resident(server), 1.2 * before, "MiB")


def small() -> bytes:
    """A call of a millisecond or less."""
    return make.seeded(tokens=64, width=64, heads=2).SerializeToString()


def work(server: Server, seconds: float) -> service_pb.AttendRequest:
    """A small message that computes for about so long, as the server itself predicts, with a small answer."""
    for tokens in (64, 128, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384):
        request = make.seeded(tokens=tokens, width=256, heads=4)
        request.outputs.omit_output = True
        request.outputs.log_sum_exp = True
        if tokens == 512:
            for _ in range(3):
                server.attend(request)
        predicted = server.stub.PlanAttention(make.plan_of(request), timeout=10).predicted
        if predicted.ToNanoseconds() > seconds * 1e9:
            break
    return request


def load_binary() -> Path:
    return Path(server_process.BINARY).with_name("headlight-load")
