"""How a server is called: what both clients share. docs/clients.md says why."""

from __future__ import annotations

import json
import math
import random
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import TypedDict

import grpc

from headlight.errors import HeadlightError, error_with

DEFAULT_ADDRESS = "127.0.0.1:50051"
_STREAMS = [
    {"service": "headlight.v1.AttentionService", "method": "AttendStream"},
    {"service": "headlight.v1.LayerService", "method": "UploadLayer"},
]
_SERVICES = ("AttentionService", "AnalysisService", "LayerService")
_MOST_ATTEMPTS = 5  # gRPC takes no more
_MOST_BYTES = 2**31 - 1  # an int to gRPC
_LONGEST_SECONDS = 1e9  # gRPC counts nanoseconds since 1970 in 64 bits: beyond 2262 a deadline has passed at once


Pair = tuple[str, str | bytes]
Metadata = Mapping[str, str | bytes] | Iterable[Pair]


def check_address(address: str) -> None:
    """TypeError, ValueError: it is none."""
    if not isinstance(address, str):
        raise TypeError(f'the address is a text such as "{DEFAULT_ADDRESS}", not {address!r}')
    if not address:
        raise ValueError(f'the address is empty; it is a text such as "{DEFAULT_ADDRESS}"')


def _check_deadline(seconds: float) -> None:
    if not isinstance(seconds, Real):
        raise TypeError(f"the deadline is a number of seconds, not {seconds!r}")
    if not seconds > 0:
        raise ValueError("the deadline is not above 0")


def _check_range(name: str, value: int, most: int) -> None:
    if not isinstance(value, Integral):
        raise TypeError(f"{name} is an integer, not {value!r}")
    if not 1 <= value <= most:
        raise ValueError(f"{name} is not from 1 to {most}")


def _pairs(metadata: Metadata) -> tuple[Pair, ...]:
    return tuple(metadata.items() if isinstance(metadata, Mapping) else metadata)


def _check_pair(pair: Pair) -> None:
    """No message shows a value, which may be a secret."""
    if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not isinstance(pair[0], str):
        raise TypeError("metadata is a dict of texts, or pairs of a key and a value")
    key, value = pair
    if not re.fullmatch("[0-9a-z_.-]+", key):
        raise ValueError(f"the key {key!r} of metadata is not of 0-9, a-z, _, - and . alone")
    if key.endswith("-bin"):
        if not isinstance(value, bytes):
            raise TypeError(f"{key!r} of metadata takes bytes, as all keys that end in -bin")
    elif not isinstance(value, (str, bytes)):
        raise TypeError(f"{key!r} of metadata takes a text")
    elif not all(0x20 <= byte <= 0x7E for byte in (value.encode() if isinstance(value, str) else value)):
        raise ValueError(f"{key!r} of metadata has a character that is not printable ASCII")


@dataclass(frozen=True)
class Tls:
    """A connection with TLS, 1.2 or newer. All in PEM form."""

    roots: bytes | None = None  # who may have signed the server's certificate; None: whom gRPC trusts
    certificate_chain: bytes | None = None  # the client's own, where the server asks for one; with its key
    private_key: bytes | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            if not isinstance(getattr(self, field.name), (bytes, type(None))):
                raise TypeError(f"{field.name} of Tls takes the bytes of a PEM file: pathlib.Path(...).read_bytes()")

    def credentials(self) -> grpc.ChannelCredentials:
        """As gRPC takes them."""
        return grpc.ssl_channel_credentials(self.roots, self.private_key, self.certificate_chain)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Of a client. ValueError: one that is out of its range. TypeError: one of another kind."""

    deadline: float = 60.0  # seconds for a call, all its attempts and the waiting between them; math.inf: none
    max_attempts: int = 4  # how often a call is tried at most: 1 (no retry) to 5
    max_message_bytes: int = 256 << 20  # of an answer; a request that is larger is sent, but not kept for a retry
    # Turn by turn to every address of the name that says it is serving; otherwise to the first that answers.
    spread_over_replicas: bool = True
    tls: Tls | None = None  # None: the connection is not encrypted
    token: str = ""  # goes with every call as "authorization: Bearer TOKEN"
    metadata: Metadata = ()  # goes with every call, too: a dict, or pairs, whose keys may be the same

    def __post_init__(self) -> None:
        _check_deadline(self.deadline)
        _check_range("max_attempts", self.max_attempts, _MOST_ATTEMPTS)
        _check_range("max_message_bytes", self.max_message_bytes, _MOST_BYTES)
        if not isinstance(self.tls, (Tls, type(None))):
            raise TypeError(f"tls is a headlight.Tls, whose Tls() trusts whom gRPC trusts, not {self.tls!r}")
        if self.tls is not None and (self.tls.certificate_chain is None) != (self.tls.private_key is None):
            raise ValueError("a client's certificate and its key go together")
        if not isinstance(self.token, str):
            raise TypeError("the token is a text")
        if not all("!" <= character <= "~" for character in self.token):
            raise ValueError("the token has a character that is not printable ASCII")
        object.__setattr__(self, "metadata", _pairs(self.metadata))  # an iterator is read once, but sent many times
        for pair in _pairs(self.metadata):
            _check_pair(pair)

    def service_config(self) -> str:
        """Retries, and who is called."""
        retry = {
            # A policy for fewer than 2 attempts is none to gRPC, even where retries are off.
            "maxAttempts": max(int(self.max_attempts), 2),
            "initialBackoff": "0.1s",
            "maxBackoff": "1s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
        names = [{"service": f"headlight.v1.{service}"} for service in _SERVICES]
        config: dict[str, object] = {
            # Streams are tried again by Attempts: gRPC's core may lose what it sends once more, and wait for ever.
            "methodConfig": [{"name": _STREAMS}, {"name": names, "retryPolicy": retry}],
            "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
        }
        if self.spread_over_replicas:
            config["loadBalancingConfig"] = [{"round_robin": {}}]
            config["healthCheckConfig"] = {"serviceName": "headlight.v1.AttentionService"}
        return json.dumps(config)

    def channel_arguments(self) -> list[tuple[str, object]]:
        """As gRPC takes them."""
        return [
            ("grpc.service_config", self.service_config()),
            ("grpc.enable_retries", int(self.max_attempts > 1)),
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.per_rpc_retry_buffer_size", self.max_message_bytes),
            ("grpc.dns_min_time_between_resolutions_ms", 1000),
        ]

    def call_metadata(self) -> list[Pair]:
        """What goes with every call."""
        authorization = [("authorization", f"Bearer {self.token}")] if self.token else []
        return [*authorization, *_pairs(self.metadata)]


class OptionKeywords(TypedDict, total=False):
    """The fields of Options, for type checkers."""

    deadline: float
    max_attempts: int
    max_message_bytes: int
    spread_over_replicas: bool
    tls: Tls | None
    token: str
    metadata: Metadata


class Attempts:
    """The attempts of one call. gRPC itself sees to UNAVAILABLE, but of streams, which begin anew here;
    RESOURCE_EXHAUSTED is tried again here, and only where the server said when to come back, because a message that is
    too large carries the same code. ValueError: a deadline that is not above 0."""

    def __init__(self, options: Options, deadline: float | None, streams: bool = False) -> None:
        seconds = options.deadline if deadline is None else deadline
        _check_deadline(seconds)
        self._end = time.monotonic() + seconds
        self._left = options.max_attempts
        self._streams = streams
        self._backoff = 0.1

    def timeout(self) -> float | None:
        """Seconds that are left; None: no bound. DeadlineExceededError: there are none."""
        if math.isinf(self._end):
            return None
        left = self._end - time.monotonic()
        if left <= 0:  # gRPC would call all the same, and may even answer
            raise error_with(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed before the call")
        return min(left, _LONGEST_SECONDS)

    def wait_after(self, error: HeadlightError) -> float | None:
        """Seconds before the next attempt; None: there is none."""
        self._left -= 1
        breaks = self._streams and error.code == grpc.StatusCode.UNAVAILABLE
        wait = error.retry_after if breaks or error.code == grpc.StatusCode.RESOURCE_EXHAUSTED else None
        if wait is None and breaks:
            wait, self._backoff = self._backoff * random.uniform(0.8, 1.2), min(2 * self._backoff, 1.0)
        if wait is None or self._left == 0 or time.monotonic() + wait >= self._end:
            return None
        return wait
