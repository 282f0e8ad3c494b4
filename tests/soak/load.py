"""Clients that put a server under load: coroutines, in processes of their own or in a thread of this one.

Requests and answers are bytes here, so that a client costs little beside the server that it shares the machine with.
"""

import asyncio
import functools
import random
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context

import grpc

ATTEND = "/headlight.v1.AttentionService/Attend"
CHANNELS = 4  # connections of one job
PROCESSES = 3
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
]
# How calls end: a code's name, or one of these.
OK, REFUSED, DRAINING = "OK", "REFUSED", "DRAINING"


@dataclass(frozen=True)
class Job:
    """Calls with one request for a time: `rate` a second whatever comes back, or `clients` that call again at once."""

    request: bytes
    seconds: float
    rate: float = 0
    clients: int = 0
    most_calls: int = 1 << 60
    timeout: float = 120  # each call's deadline, seconds
    cancel_within: float = 0  # seconds: each call is given up at a random moment within; 0: none is
    waits_when_refused: bool = False  # for as long as the server says
    ends_when_unavailable: bool = False
    seed: int = 0


@dataclass
class Seen:
    """What became of a job's calls: how each ended, when it began and how long it took, in seconds from the start."""

    calls: list[tuple[str, float, float]] = field(default_factory=list)

    def count(self, *ends: str) -> int:
        return sum(end in ends for end, _, _ in self.calls)

    def counts(self) -> dict[str, int]:
        return {end: self.count(end) for end in sorted({end for end, _, _ in self.calls})}

    def latencies(self, end: str = OK) -> list[float]:
        return sorted(took for ended, _, took in self.calls if ended == end)

    def p(self, percent: float, end: str = OK) -> float:
        """A percentile of how long calls took that ended so, in seconds; infinity of none."""
        took = self.latencies(end)
        return took[min(int(len(took) * percent / 100), len(took) - 1)] if took else float("inf")

    def rate(self, begin: float, end: float) -> float:
        """Calls a second that were answered between these moments."""
        return sum(ended == OK and begin <= at + took < end for ended, at, took in self.calls) / (end - begin)

    def last(self) -> float:
        """When the last call ended."""
        return max((at + took for _, at, took in self.calls), default=0)


def merged(parts: list[Seen]) -> Seen:
    return Seen([call for part in parts for call in part.calls])


def name_of(error: grpc.aio.AioRpcError) -> tuple[str, float]:
    """How a call ended, and after how many seconds it may be tried again."""
    trailers = dict(error.trailing_metadata() or ())
    wait = int(trailers.get("grpc-retry-pushback-ms", 0)) / 1000
    own = {grpc.StatusCode.RESOURCE_EXHAUSTED: REFUSED, grpc.StatusCode.UNAVAILABLE: DRAINING}
    return (own[error.code()] if wait and error.code() in own else error.code().name), wait


class Client:
    """Does one job."""

    def __init__(self, address: str, job: Job):
        self.job, self.seen, self.random = job, Seen(), random.Random(job.seed)
        self.channels = [grpc.aio.insecure_channel(address, OPTIONS) for _ in range(CHANNELS)]
        self.methods = [channel.unary_unary(ATTEND) for channel in self.channels]
        self.began, self.made = time.monotonic(), 0

    async def call(self) -> str:
        """Makes one call, and waits afterwards where the job says so."""
        self.made += 1
        at, wait = time.monotonic(), 0.0
        call = self.methods[self.made % CHANNELS](self.job.request, timeout=self.job.timeout)
        if self.job.cancel_within:
            asyncio.get_running_loop().call_later(self.random.uniform(0, self.job.cancel_within), call.cancel)
        try:
            await call
            end = OK
        except grpc.aio.AioRpcError as error:
            end, wait = name_of(error)
        except asyncio.CancelledError:
            end = "CANCELLED"
        self.seen.calls.append((end, at - self.began, time.monotonic() - at))
        if wait and self.job.waits_when_refused:
            await asyncio.sleep(wait)
        return end

    def goes_on(self) -> bool:
        return time.monotonic() - self.began < self.job.seconds and self.made < self.job.most_calls

    async def closed_loop(self) -> None:
        while self.goes_on():
            end = await self.call()
            if self.job.ends_when_unavailable and end in ("UNAVAILABLE", DRAINING):
                return

    async def open_loop(self) -> None:
        calls, due = [], self.began
        while self.goes_on():
            calls.append(asyncio.ensure_future(self.call()))
            due += self.random.expovariate(self.job.rate)
            await asyncio.sleep(max(due - time.monotonic(), 0))
        await asyncio.gather(*calls)

    async def run(self) -> Seen:
        loops = [self.open_loop()] if self.job.rate else [self.closed_loop() for _ in range(self.job.clients)]
        await asyncio.gather(*loops)
        for channel in self.channels:
            await channel.close()
        return self.seen


@functools.cache
def loop() -> asyncio.AbstractEventLoop:
    """The one of this process: gRPC's own would go on beyond another's end."""
    made = asyncio.new_event_loop()
    threading.Thread(target=made.run_forever, daemon=True).start()
    return made


def begin(address: str, job: Job) -> "Future[Seen]":
    async def all_of_it() -> Seen:
        return await Client(address, job).run()

    return asyncio.run_coroutine_threadsafe(all_of_it(), loop())


def run(address: str, job: Job) -> Seen:
    return begin(address, job).result()


class Crew:
    """Does jobs beside whatever else happens: in processes, or in a thread of this one."""

    def __init__(self, processes: bool):
        self._pool = ProcessPoolExecutor(PROCESSES, get_context("spawn")) if processes else None

    def begin(self, address: str, *jobs: Job) -> list["Future[Seen]"]:
        seeded = [replace(job, seed=seed) for seed, job in enumerate(jobs)]
        return [self._pool.submit(run, address, job) if self._pool else begin(address, job) for job in seeded]

    def close(self) -> None:
        if self._pool:
            self._pool.shutdown()
