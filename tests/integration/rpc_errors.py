"""Errors as clients see them: code, message and google.rpc details."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc
import pytest
from google.protobuf.descriptor import Descriptor
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

DOMAIN = "headlight.v1"
DETAILS_KEY = "grpc-status-details-bin"
MOST_DETAIL_BYTES = 2048


@dataclass
class RpcFailure:
    """A failed call."""

    code: grpc.StatusCode
    message: str
    detail_bytes: int = 0
    reason: str = ""
    domain: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    violations: dict[str, str] = field(default_factory=dict)  # field path to description
    violation_list: list[tuple[str, str]] = field(default_factory=list)
    retry_seconds: float | None = None
    pushback_ms: int | None = None

    @property
    def violation_count(self) -> int:
        return int(self.metadata.get("violations", "0"))


def parse(error: grpc.RpcError) -> RpcFailure:
    failure = RpcFailure(error.code(), error.details() or "")
    trailers = dict(error.trailing_metadata() or ())
    if "grpc-retry-pushback-ms" in trailers:
        failure.pushback_ms = int(trailers["grpc-retry-pushback-ms"])
    failure.detail_bytes = len(trailers.get(DETAILS_KEY, b""))
    status = rpc_status.from_call(error)
    for detail in (status or status_pb2.Status()).details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            failure.reason, failure.domain, failure.metadata = info.reason, info.domain, dict(info.metadata)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest.FromString(detail.value)
            failure.violation_list = [(v.field, v.description) for v in bad.field_violations]
            failure.violations = dict(failure.violation_list)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo.FromString(detail.value)
            failure.retry_seconds = retry.retry_delay.ToNanoseconds() / 1e9
    return failure


def failure_of(call: Callable[[], object]) -> RpcFailure:
    """The error of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return parse(caught.value)


def refusal_of(call: Callable[[], object], code: grpc.StatusCode, reason: str) -> RpcFailure:
    """The error of a call that the server itself must refuse, with everything that all its errors promise."""
    failure = failure_of(call)
    assert failure.code == code, f"{failure.code}: {failure.message}"
    assert failure.reason == reason, f"{failure.reason}: {failure.message}"
    assert failure.domain == DOMAIN
    assert failure.message
    assert 0 < failure.detail_bytes <= MOST_DETAIL_BYTES
    return failure


def is_field_path(path: str, message: Descriptor) -> bool:
    """Whether a violation's field leads to a field, or a choice between fields, of the message."""
    name, _, rest = path.partition(".")
    step = re.fullmatch(r"([a-z][a-z0-9_]*)(\[\d+\])?", name)
    if step is None:
        return False
    if step[1] in message.oneofs_by_name:
        return not step[2] and not rest
    field_of = message.fields_by_name.get(step[1])
    if field_of is None or (step[2] and not field_of.is_repeated):
        return False
    return not rest or (field_of.message_type is not None and is_field_path(rest, field_of.message_type))
