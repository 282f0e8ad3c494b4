"""Calls a Headlight server from within a cluster until it is ended, and prints what came of it once a second, as JSON.

    load.py TARGET [--small N] [--large N] [--heavy N] [--attempts N]     threads of each kind of call

The client is as docs/clients.md has it: round_robin over the addresses of the name, by their health. But a call is tried
once unless --attempts says more, so that each failure shows.
"""

import argparse
import collections
import json
import os
import random
import signal
import struct
import threading
import time

import grpc
from headlight.v1 import attention_service_pb2 as pb
from headlight.v1 import attention_service_pb2_grpc as rpc

SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": "headlight.v1.AttentionService"},
}
OPTIONS = [
    ("grpc.max_receive_message_length", 256 << 20),
    ("grpc.per_rpc_retry_buffer_size", 256 << 20),
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
]
RETRIES = {
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
SECONDS = 30


def options_of(attempts: int) -> list[tuple[str, object]]:
    config = dict(SERVICE_CONFIG)
    if attempts > 1:
        method = {"name": [{"service": "headlight.v1.AttentionService"}], "retryPolicy": {"maxAttempts": attempts, **RETRIES}}
        config["methodConfig"] = [method]
    return [*OPTIONS, ("grpc.service_config", json.dumps(config)), ("grpc.enable_retries", int(attempts > 1))]


def small() -> pb.AttendRequest:
    request = pb.AttendRequest()
    request.self_attention.seeded_embeddings.seed = 1
    request.self_attention.seeded_embeddings.tokens = 16
    request.self_attention.seeded_embeddings.width = 64
    request.self_attention.seeded_weights.seed = 2
    request.options.query_heads = 4
    return request


def large() -> pb.AttendRequest:
    """Three tensors of 1 MiB, and an answer of one."""
    request = pb.AttendRequest()
    source = random.Random(1)
    some = struct.pack("<1024f", *(source.gauss(0, 1) for _ in range(1024)))
    for name in ("query", "key", "value"):
        tensor = getattr(request.query_key_value, name)
        tensor.shape.extend((1, 8, 512, 64))
        tensor.f32_le = some * 256
    return request


def heavy() -> pb.AttendRequest:
    """A small message that is about 17 GFLOP and, in naive, half a GiB."""
    request = small()
    request.self_attention.seeded_embeddings.tokens = 4096
    request.self_attention.seeded_embeddings.width = 512
    request.options.query_heads = 8
    request.outputs.omit_output = True
    request.outputs.log_sum_exp = True
    return request


class Tally:
    """What came of calls, by kind and code. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made = collections.Counter()
        self._failed = collections.Counter()
        self._last = ""
        self._slowest = 0.0

    def add(self, kind: str, seconds: float, error: grpc.RpcError | None) -> None:
        with self._lock:
            self._made[kind] += 1
            self._slowest = max(self._slowest, seconds)
            if error is not None:
                self._failed[error.code().name] += 1
                self._last = f"{error.code().name}: {error.details()}"

    def line(self) -> str:
        with self._lock:
            seen = {"made": self._made, "failed": self._failed, "last": self._last, "slowest": round(self._slowest, 3)}
            self._slowest = 0.0
            return json.dumps(seen)


def go_on(channel: grpc.Channel, kind: str, pause: float, tally: Tally) -> None:
    stub = rpc.AttentionServiceStub(channel)
    request = {"small": small, "large": large, "heavy": heavy}[kind]()
    while True:
        began = time.monotonic()
        error = None
        try:
            stub.Attend(request, timeout=SECONDS)
        except grpc.RpcError as failure:
            error = failure
        tally.add(kind, time.monotonic() - began, error)
        time.sleep(pause)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    for kind in ("small", "large", "heavy"):
        parser.add_argument(f"--{kind}", type=int, default=0)
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between the calls of a thread")
    parser.add_argument("--attempts", type=int, default=1, help="how often a call is tried while nobody is reached")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # as process 1 it has no default
    tally = Tally()
    for kind in ("small", "large", "heavy"):
        for _ in range(getattr(arguments, kind)):
            channel = grpc.insecure_channel(arguments.target, options_of(arguments.attempts))
            threading.Thread(target=go_on, args=(channel, kind, arguments.pause, tally), daemon=True).start()
    while True:
        time.sleep(1)
        print(tally.line(), flush=True)


if __name__ == "__main__":
    main()
