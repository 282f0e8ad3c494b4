"""What a failed call says. docs/errors.md lists codes and reasons."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2


@dataclass(frozen=True)
class Violation:
    """One thing that is wrong with a request."""

    field: str  # path in the contract's names: "query_key_value.key.shape"
    description: str  # what was sent and what is allowed
    reason: str = ""  # where the server gives one


class HeadlightError(Exception):
    """A call failed; the subclass follows the code. `__cause__` is gRPC's own error."""

    code = grpc.StatusCode.UNKNOWN
    message = ""
    reason = ""  # a name of ErrorReason, "INVALID_REQUEST"; empty where the transport failed, not the server
    domain = ""  # "headlight.v1" for the reasons of ErrorReason
    request_id = ""  # of the call in the server's log; empty where no server answered
    violations: tuple[Violation, ...] = ()  # the server sends the first 8; metadata["violations"] counts all
    retry_after: float | None = None  # seconds, where the server asks to be called again

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.metadata: dict[str, str] = {}  # of ErrorInfo

    def __str__(self) -> str:
        head = f"{self.reason or self.code.name}: {self.message}"
        if self.retry_after is not None:
            head += f" (come back in {self.retry_after:g} s)"
        return "\n  ".join([head, *(f"{v.field}: {v.description}" for v in self.violations if v.field not in head)])


class InvalidArgumentError(HeadlightError, ValueError):
    """A shape, kind, option or value is wrong, or a limit would be exceeded: see `violations`."""


class NotFoundError(HeadlightError, LookupError):
    """No layer has this name."""


class AlreadyExistsError(HeadlightError):
    """The name holds a layer with other bytes."""


class PermissionDeniedError(HeadlightError):
    """The server takes no uploads, or not from this caller."""


class UnauthenticatedError(HeadlightError):
    """Neither a valid token nor a client certificate that may call."""


class UnimplementedError(HeadlightError):
    """The server does not have this call or field."""


class ResourceExhaustedError(HeadlightError):
    """The server is full (`retry_after` says when to come back), or a message is too large."""


class UnavailableError(HeadlightError):
    """Nobody answers at the address, or the server warms up or drains."""


class DeadlineExceededError(HeadlightError, TimeoutError):
    """The deadline passed, or could not be met."""

    __str__ = HeadlightError.__str__


class CancelledError(HeadlightError):
    """The call was given up, or its client is closed."""


class InternalError(HeadlightError):
    """A fault of the server's own."""


_CLASSES: dict[grpc.StatusCode, type[HeadlightError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExistsError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.UNIMPLEMENTED: UnimplementedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhaustedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.CANCELLED: CancelledError,
    grpc.StatusCode.INTERNAL: InternalError,
}


def _read_details(error: HeadlightError, wire: bytes) -> None:
    status = status_pb2.Status.FromString(wire)
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            error.reason, error.domain, error.metadata = info.reason, info.domain, dict(info.metadata)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest.FromString(detail.value)
            error.violations = tuple(
                Violation(v.field, v.description, getattr(v, "reason", "")) for v in bad.field_violations
            )
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo.FromString(detail.value)
            error.retry_after = retry.retry_delay.ToNanoseconds() / 1e9


def _by_key(metadata: Iterable[tuple[str, Any]] | None) -> dict[str, Any]:
    return dict(list(metadata or ()))  # dict() alone would ask for keys(), which are pairs in gRPC 1.51's asyncio


def error_with(code: grpc.StatusCode, message: str) -> HeadlightError:
    """An error of the code's class."""
    error = _CLASSES.get(code, HeadlightError)(message)
    error.code = code
    return error


def closed_error() -> HeadlightError:
    """Of a call on a client that is closed, or was while the call was under way."""
    return error_with(grpc.StatusCode.CANCELLED, "the client is closed")


def error_of(cause: grpc.RpcError) -> HeadlightError:
    """gRPC's error as one of ours, of a call or of an asyncio call; raise it `from cause`.

    The trailer grpc-retry-pushback-ms stands in where no RetryInfo came; one that is no number from 0, which forbids a
    retry, takes RetryInfo away.
    """
    error = error_with(cause.code(), cause.details() or "")
    trailers = _by_key(cause.trailing_metadata())
    if "grpc-status-details-bin" in trailers:
        _read_details(error, trailers["grpc-status-details-bin"])
    if "grpc-retry-pushback-ms" in trailers:
        pushback = trailers["grpc-retry-pushback-ms"]
        if not pushback.isdigit():
            error.retry_after = None
        elif error.retry_after is None:
            error.retry_after = int(pushback) / 1000
    error.request_id = _by_key(cause.initial_metadata()).get("x-request-id", "") or trailers.get("x-request-id", "")
    return error
