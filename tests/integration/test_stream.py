"""AttendStream: the same bits as Attend, whatever the chunks; lengths beyond it; and every way in which a stream can end."""

import contextlib
import json
import os
import pathlib
import pty
import queue
import re
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator

import grpc
import make
import numpy as np
import pytest
import test_forms
from grpc import StatusCode
from make import BOTTOM_RIGHT, TOP_LEFT, Sizes, column_sums, embeddings, full_map, pooled, qkv, top_keys, with_algorithm
from rpc_errors import failure_of, refusal_of
from server_process import CLI, environment, wait_until
from streams import COMMIT, MIB, assemble, attend_streamed, chunk_of, chunks_of, header_of, messages_of, tensors_of
from wire import ALGORITHM_NAMES, ALGORITHMS, BF16, F16, F32, FLASH, KINDS, array, outputs_pb, service_grpc, service_pb, tensor

INVALID = StatusCode.INVALID_ARGUMENT
LATE = StatusCode.DEADLINE_EXCEEDED
QUERY, KEY, MASK = (service_pb.StreamedTensor.Value(f"STREAMED_TENSOR_{n}") for n in ("QUERY", "KEY", "MASK"))
# Beside input and output; a sanitizer keeps books of its own.
SPARE = (64 if not os.environ.get("HEADLIGHT_SANITIZE") else 8192) * MIB
MEAN, MAX = outputs_pb.POOL_REDUCER_MEAN, outputs_pb.POOL_REDUCER_MAX

FORMS = {
    name: maker
    for table in (test_forms.INPUTS, test_forms.POSITIONS, test_forms.MASKS, test_forms.KINDS)
    for name, maker in table.items()
}


def giant_header() -> service_pb.AttendStreamRequest:
    """Of 131,072 tokens: 256 MiB a tensor."""
    message = service_pb.AttendStreamRequest()
    given = message.header.call.query_key_value
    for name in ("query", "key", "value"):
        getattr(given, name).shape.extend([1, 8, 131_072, 64])
        getattr(given, name).kind = KINDS[F32]
    message.header.call.options.mask.causal.alignment = TOP_LEFT
    return message


def calling(server, messages: Iterable[service_pb.AttendStreamRequest], timeout: float = 30):
    """What a stream of these messages is answered with."""
    return list(server.stub.AttendStream(iter(messages), timeout=timeout))


class Open:
    """A stream whose messages are sent one by one; it stays open for more."""

    def __init__(self, server, timeout: float = 30, channel: grpc.Channel | None = None):
        self._queue: queue.SimpleQueue = queue.SimpleQueue()
        stub = server.stub if channel is None else service_grpc.AttentionServiceStub(channel)
        self.answers = stub.AttendStream(iter(self._queue.get, None), timeout=timeout)

    def send(self, *messages: service_pb.AttendStreamRequest) -> None:
        for message in messages:
            self._queue.put(message)

    def half_close(self) -> None:
        self._queue.put(None)


@pytest.fixture
def opened(server) -> Iterator:
    """Opens streams that end with the test."""
    streams: list[Open] = []

    def make_one(of=server, **how) -> Open:
        streams.append(Open(of, **how))
        return streams[-1]

    yield make_one
    for stream in streams:
        stream.half_close()
        stream.answers.cancel()


# The same bits.


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=ALGORITHM_NAMES)
@pytest.mark.parametrize("maker", FORMS.values(), ids=FORMS.keys())
def test_every_form_has_the_bits_of_the_unary_call(server, rng, maker, algorithm: int) -> None:
    request = make.everything(with_algorithm(maker(rng), algorithm))
    assert make.bits(attend_streamed(server, request, rng, 700)) == make.bits(server.attend(request))


def with_every_output(rng, rank: int, kind=None) -> service_pb.AttendRequest:
    """Several tiles, tails, heads that share keys; maps of every form and stage."""
    sizes = Sizes(heads=6, key_heads=2, tokens=300, keys=290, size=16, batch=2)
    if kind is not None:
        sizes.kind = kind
    request = qkv(rng, sizes, rank)
    request.options.mask.causal.alignment = BOTTOM_RIGHT
    request.options.algorithm = FLASH
    o = request.outputs
    o.log_sum_exp = o.head_outputs = o.head_statistics = True
    o.verify_rows = 3
    rows = [outputs_pb.RowRange(begin=0, end=7), outputs_pb.RowRange(begin=250, end=300)]
    stages = (outputs_pb.MAP_STAGE_WEIGHTS, outputs_pb.MAP_STAGE_SCALED)
    o.maps.extend([full_map(heads=[5, 0], rows=rows), top_keys(5), pooled(9, 8, MEAN), column_sums()])
    o.maps.extend([full_map(heads=[1], stage=stages[1]), top_keys(300, heads=[2]), pooled(300, 290, MAX, stage=stages[0])])
    return request


@pytest.mark.parametrize("kind", [None, BF16, F16], ids=["f32", "bf16", "f16"])
@pytest.mark.parametrize("rank", [3, 4])
def test_everything_that_can_be_asked_for(server, rng, rank: int, kind) -> None:
    request = with_every_output(rng, rank, kind)
    unary, streamed = server.attend(request), attend_streamed(server, request, rng, 20_000)
    assert make.bits(streamed) == make.bits(unary)
    for field in ("algorithm", "cpu_target", "flops", "scratch_bytes", "packed_bytes", "workspace_bytes"):
        assert getattr(streamed.execution, field) == getattr(unary.execution, field)
    assert streamed.execution.verification.rows == 3


def test_a_map_of_many_blocks(server, rng) -> None:
    """600 x 600 x 4 bytes are more than one message holds, and so are 40,000 x 12 top keys."""
    request = qkv(rng, Sizes(heads=1, tokens=600, size=8))
    request.outputs.maps.append(full_map())
    assert make.bits(attend_streamed(server, request)) == make.bits(server.attend(request))
    request = qkv(rng, Sizes(heads=1, tokens=10_000, keys=40, size=4))
    request.outputs.maps.append(top_keys(20))
    assert make.bits(attend_streamed(server, request)) == make.bits(server.attend(request))


@pytest.mark.parametrize("size", [1, 7, 1000, MIB])
def test_chunks_of_any_size(server, rng, size: int) -> None:
    request = qkv(rng, Sizes(heads=2, tokens=11, size=4, kind=F16))
    assert make.bits(attend_streamed(server, request, None, size)) == make.bits(server.attend(request))


def test_labels_priority_and_a_named_layer(server, rng) -> None:
    demo = server.stub.GetDemo(service_pb.GetDemoRequest(), timeout=10)
    request = service_pb.AttendRequest(tokens=demo.tokens, priority=service_pb.PRIORITY_BATCH)
    request.self_attention.layer = demo.layer
    request.self_attention.embeddings.CopyFrom(demo.embeddings)
    assert make.bits(attend_streamed(server, request)) == make.bits(server.attend(request))


def test_what_the_acceptance_says(server, rng) -> None:
    request = with_every_output(rng, rank=3)
    first = calling(server, messages_of(request))[0].acceptance
    plan = make.plan_of(request)
    plan.streamed = True
    want = server.stub.PlanAttention(plan, timeout=10)
    for same in ("algorithm", "flops", "flash_bytes", "naive_bytes", "response_bytes", "head_size"):
        assert getattr(first.plan, same) == getattr(want, same)
    assert {i.tensor: list(i.spec.shape) for i in first.inputs}[KEY] == list(request.query_key_value.key.shape)
    assert [r.tensor for r in first.results] == [
        service_pb.STREAMED_TENSOR_OUTPUT, service_pb.STREAMED_TENSOR_HEAD_OUTPUTS, service_pb.STREAMED_TENSOR_LOG_SUM_EXP
    ]  # fmt: skip
    assert first.maps == len(server.attend(request).maps)
    assert first.head_statistics == 12


# Beyond the unary limits.


def test_more_tokens_than_a_unary_call_may_have(server, rng) -> None:
    request = qkv(rng, Sizes(heads=1, tokens=20_000, size=8))
    request.options.mask.window.left = request.options.mask.window.right = 40
    refusal_of(lambda: server.attend(request), INVALID, "REQUEST_TOO_EXPENSIVE")
    request.outputs.verify_rows = 32
    request.outputs.maps.extend([pooled(512, 512, MEAN), top_keys(8), column_sums()])
    request.outputs.head_statistics = True
    answer = attend_streamed(server, request)
    assert array(answer.output).shape == (1, 1, 20_000, 8)
    assert answer.execution.verification.max_abs_error < 1e-5
    sums = array(answer.maps[2].weights)
    assert sums.sum() == pytest.approx(20_000, rel=1e-5)
    assert array(answer.maps[0].weights).shape == (512, 512)
    assert set(answer.maps[1].top_keys.counts) == {8}
    plan = make.plan_of(request)
    assert [v.field for v in server.stub.PlanAttention(plan, timeout=10).violations][:1] == ["query_key_value.query.shape"]
    plan.streamed = True
    assert not server.stub.PlanAttention(plan, timeout=10).violations


def test_no_more_tokens_than_a_stream_may_have(server) -> None:
    request = make.seeded(tokens=262_145, width=4, heads=1)
    failure = refusal_of(lambda: calling(server, [header_of(request)]), INVALID, "REQUEST_TOO_EXPENSIVE")
    assert "1 to 262144" in failure.violations["self_attention.seeded_embeddings.tokens"]


def test_an_answer_may_be_as_large_as_the_flag_says(start, rng) -> None:
    server = start("--threads=2", "--max-response-bytes=1000", "--max-stream-response-bytes=50000")
    request = qkv(rng, Sizes(heads=2, tokens=100, size=8))
    refusal_of(lambda: server.attend(request), INVALID, "RESPONSE_TOO_LARGE")
    assert attend_streamed(server, request).output.shape == [1, 2, 100, 8]
    request.outputs.maps.append(full_map())
    refusal_of(lambda: calling(server, [header_of(request)]), INVALID, "RESPONSE_TOO_LARGE")


# While it is computed.


def test_rows_come_while_others_are_computed_and_progress_every_second(start, rng) -> None:
    server = start("--threads=1", "--max-call-seconds=100000")
    for rank in (3, 4):
        request = qkv(rng, Sizes(heads=8, tokens=8192, size=64), rank)
        request.options.precision = 0
        came = []
        for message in server.stub.AttendStream(messages_of(request), timeout=300):
            came.append((time.monotonic(), message))
        parts = [message.WhichOneof("part") for _, message in came]
        waits = np.diff([t for t, m in came[1:]])
        assert waits.max() < 1.0 + 0.5  # a loaded machine may be late
        first_chunk = parts.index("chunk")
        progress = [m.progress for _, m in came[first_chunk:] if m.WhichOneof("part") == "progress"]
        assert progress and progress[0].done_tiles < progress[0].all_tiles
        assemble(message for _, message in came)


def test_a_stream_that_only_sends_holds_up_nobody(start, rng, opened) -> None:
    """Its memory is reserved, its time is not counted."""
    server = start("--threads=1", "--max-wait-seconds=0.001", "--max-call-seconds=100000")
    stream = opened(server)
    giant = qkv(rng, Sizes(heads=8, tokens=4096, size=64))
    stream.send(header_of(giant))
    next(stream.answers)
    reserved = server.metrics().value("headlight_memory_reserved_bytes")
    assert reserved >= 4 * giant.query_key_value.query.ByteSize() - 1000
    small = qkv(rng, Sizes(heads=2, tokens=64, size=16))
    assert array(server.attend(small).output).shape == (1, 2, 64, 16)
    stream.answers.cancel()
    wait_until(lambda: server.held() == 0)


def test_cancelled_at_every_stage_leaves_nothing(start, rng, opened) -> None:
    server = start("--threads=2", "--max-call-seconds=100000", "--max-wait-seconds=1000")
    giant = qkv(rng, Sizes(heads=8, tokens=14_000, size=64))
    data = list(chunks_of(giant))
    for sent in ([], [header_of(giant)], [header_of(giant), *data[:3]], [header_of(giant), *data, COMMIT]):
        stream = opened(server, timeout=60)
        stream.send(*sent)
        if sent:
            next(stream.answers)
        if COMMIT in sent:
            while not next(stream.answers).HasField("progress"):
                pass
        stream.answers.cancel()
        took = wait_until(lambda: server.held() == 0, 10)
        assert took < 2


def test_a_deadline_that_passes(server, rng, opened) -> None:
    small = qkv(rng)
    stream = opened(timeout=0.3)
    stream.send(header_of(small))
    assert failure_of(lambda: list(stream.answers)).code == LATE
    wait_until(lambda: server.held() == 0)


def test_a_deadline_that_cannot_be_met_is_told_at_the_header(start, rng, opened) -> None:
    server = start("--threads=1", "--max-call-seconds=100000")
    giant = make.seeded(tokens=16_000, width=1024, heads=16)
    assert attend_streamed(server, qkv(rng, Sizes(heads=4, tokens=2000, size=64))) is not None  # something to go by
    stream = opened(server, timeout=0.5)
    stream.send(header_of(giant))
    refusal_of(lambda: list(stream.answers), LATE, "DEADLINE_EXCEEDED")


# Clients that fall silent.


def test_silence_ends_a_stream_and_gives_back_what_was_reserved(start, opened, rng) -> None:
    server = start("--threads=2", "--max-stream-idle=0.5", "--max-call-seconds=100000")
    request = giant_header()
    stream = opened(server, timeout=10_000)
    stream.send(request, chunk_of(QUERY, 0, bytes(MIB)))
    assert next(stream.answers).HasField("acceptance")
    assert server.metrics().value("headlight_memory_reserved_bytes") >= 2**30
    began = time.monotonic()
    failure = refusal_of(lambda: list(stream.answers), LATE, "DEADLINE_EXCEEDED")
    assert "sent nothing for 500ms" in failure.message
    assert 0.3 < time.monotonic() - began < 5
    wait_until(lambda: server.held() == 0)


def test_a_client_that_does_not_read_is_left(start, opened, rng) -> None:
    server = start("--threads=2", "--max-stream-idle=0.5", "--max-wait-seconds=1000")
    request = qkv(rng, Sizes(heads=8, tokens=8192, keys=16, size=64))
    channel = server.new_channel([("grpc.http2.bdp_probe", 0)])
    stream = opened(server, channel=channel)
    stream.send(*messages_of(request))
    next(stream.answers)
    time.sleep(1.5)  # gRPC's own buffers take some, 16 MiB they do not
    wait_until(lambda: server.held() == 0, 10)
    assert failure_of(lambda: list(stream.answers)).code in (LATE, StatusCode.CANCELLED)
    channel.close()
    log = server.stderr()
    assert '"code":"DeadlineExceeded"' in log or "DEADLINE_EXCEEDED" in log


# Servers that end.


@pytest.mark.parametrize("waits", ["header", "chunks", "reader"])
def test_a_drain_that_is_cut_off_tells_streams_that_wait_for_their_client(start, opened, rng, waits: str) -> None:
    server = start("--threads=2", "--drain-timeout=0.3", "--max-wait-seconds=1000")
    with server.new_channel([("grpc.http2.bdp_probe", 0)]) as channel:
        stream = opened(server, channel=channel)
        request = qkv(rng, Sizes(heads=8, tokens=8192, keys=16, size=64))
        messages = list(messages_of(request))
        stream.send(*{"header": [], "chunks": messages[:3], "reader": messages}[waits])
        if waits != "header":
            assert next(stream.answers).HasField("acceptance")
        time.sleep(1)  # computed is this in a tenth of it
        assert server.metrics().value("headlight_workers_busy") == 0
        server.terminate()
        if waits == "reader":  # who does not read is not told, but the log says why
            time.sleep(1)
            failure_of(lambda: list(stream.answers))
        else:
            failure = refusal_of(lambda: list(stream.answers), StatusCode.UNAVAILABLE, "DRAIN_ABORTED")
            assert failure.retry_seconds > 0
        assert server.wait(10) == 3
    assert '"reason":"DRAIN_ABORTED"' in server.stderr()


# Messages that make no sense.


def framing(rng) -> dict[str, tuple[list[service_pb.AttendStreamRequest], dict[str, str]]]:
    """Messages, and what of the refusal's fields must be said."""
    request = qkv(rng, Sizes(heads=1, tokens=4, size=4))
    header, data = header_of(request), tensors_of(request)
    whole = list(chunks_of(request))
    masked = service_pb.AttendRequest()
    masked.CopyFrom(request)
    masked.options.mask.tensor.CopyFrom(tensor(np.ones((4, 4), bool)))
    with_data = header_of(masked)
    with_data.header.call.ClearField("mask_tensor")
    with_data.header.call.options.mask.tensor.CopyFrom(masked.options.mask.tensor)
    far = "chunks of a tensor go on where the one before ended"
    return {
        "nothing in a message": ([service_pb.AttendStreamRequest()], {"part": "header, chunk or commit"}),
        "a chunk first": (whole, {"header": "in the first message"}),
        "a commit first": ([COMMIT], {"header": "in the first message"}),
        "two headers": ([header, header], {"header": "a second one"}),
        "a tensor that is not there": ([header, chunk_of(MASK, 0, b"x")], {"chunk.tensor": "STREAMED_TENSOR_MASK"}),
        "a tensor of another version": ([header, chunk_of(99, 0, b"x")], {"chunk.tensor": "number 99"}),
        "no tensor": ([header, chunk_of(0, 0, b"x")], {"chunk.tensor": "UNSPECIFIED"}),
        "an empty chunk": ([header, chunk_of(QUERY, 0, b"")], {"chunk.data": "0 bytes"}),
        "a chunk that is too large": ([header, chunk_of(QUERY, 0, bytes(MIB + 1))], {"chunk.data": "1 to 1048576"}),
        "a gap": ([header, chunk_of(QUERY, 8, b"12345678")], {"chunk.offset": far}),
        "the same again": ([header, whole[0], whole[0]], {"chunk.offset": far}),
        "beyond 64 bits": ([header, chunk_of(QUERY, 2**64 - 1, b"x")], {"chunk.offset": far}),
        "more than was declared": (
            [header, chunk_of(QUERY, 0, data[QUERY] + b"x")],
            {"chunk.data": "the header declared 64"},
        ),
        "several at once": (
            [header, chunk_of(QUERY, 3, b"")],
            {"chunk.data": "0 bytes", "chunk.offset": far},
        ),
        "not all of it": (
            [header, *whole[:1], COMMIT],
            {"query_key_value.key": "0 bytes", "query_key_value.value": "64 bytes for [1, 1, 4, 4] of f32"},
        ),
        "no commit": ([header, *whole], {"part": "a commit before it"}),
        "data in the header": ([with_data], {"options.mask.tensor.data": "it comes in chunks"}),
    }  # fmt: skip


FRAMING = framing(np.random.default_rng(5))


@pytest.mark.parametrize("case", FRAMING.values(), ids=FRAMING.keys())
def test_messages_that_do_not_fit_are_refused(server, canary, case) -> None:
    messages, said = case
    failure = refusal_of(lambda: calling(server, messages), INVALID, "INVALID_REQUEST")
    assert failure.violations.keys() == said.keys()
    for field, text in said.items():
        assert text in failure.violations[field]
    wait_until(lambda: server.held() == 0)
    canary()


def test_a_message_after_the_commit(start, rng, opened) -> None:
    server = start("--threads=1", "--max-call-seconds=100000")
    giant = qkv(rng, Sizes(heads=8, tokens=4096, size=64))
    stream = opened(server)
    stream.send(*messages_of(giant), COMMIT)
    failure = refusal_of(lambda: list(stream.answers), INVALID, "INVALID_REQUEST")
    assert "a message after the commit" in failure.violations["part"]
    wait_until(lambda: server.held() == 0)


def test_a_header_is_checked_as_the_unary_request_is(server, rng) -> None:
    request = qkv(rng, Sizes(heads=2, tokens=5, size=4))
    del request.query_key_value.key.shape[:]
    request.query_key_value.key.shape.extend([1, 2, 5, 3])
    request.options.softcap = -1
    request.outputs.verify_rows = 65
    streamed = refusal_of(lambda: calling(server, [header_of(request)]), INVALID, "INVALID_REQUEST")
    assert {"query_key_value.key.shape", "options.softcap", "outputs.verify_rows"} <= streamed.violations.keys()


def test_values_are_looked_at(server, rng) -> None:
    request = qkv(rng, Sizes(heads=2, tokens=300, size=8))
    spoiled = array(request.query_key_value.value).copy()
    spoiled[0, 1, 299, 7] = np.nan
    request.query_key_value.value.f32_le = spoiled.tobytes()
    unary = refusal_of(lambda: server.attend(request), INVALID, "INVALID_REQUEST")
    streamed = refusal_of(lambda: calling(server, messages_of(request)), INVALID, "INVALID_REQUEST")
    assert streamed.violations == unary.violations
    assert streamed.message == unary.message


# Admission.


def test_what_cannot_be_admitted_is_refused_before_the_first_chunk(start, opened) -> None:
    """The stream stays open for chunks; the header alone is enough."""
    server = start("--threads=1", "--memory-budget-bytes=100000000", "--max-call-seconds=100000")
    stream = opened(server, timeout=10_000)
    stream.send(giant_header())
    failure = refusal_of(lambda: list(stream.answers), INVALID, "REQUEST_TOO_EXPENSIVE")
    assert "bytes of memory" in failure.violations["query_key_value"]


def test_a_full_budget_is_told_with_a_time_to_come_back(start, opened) -> None:
    server = start("--threads=1", "--memory-budget-bytes=3000000000", "--max-call-seconds=100000")
    request = giant_header()
    first, *others = (opened(server, timeout=10_000) for _ in range(3))
    first.send(request)
    assert next(first.answers).HasField("acceptance")
    others[0].send(request)
    assert next(others[0].answers).HasField("acceptance")
    others[1].send(request)
    failure = refusal_of(lambda: list(others[1].answers), StatusCode.RESOURCE_EXHAUSTED, "SERVER_OVERLOADED")
    assert failure.retry_seconds > 0
    assert failure.pushback_ms > 0
    first.answers.cancel()
    wait_until(lambda: server.metrics().value("headlight_memory_reserved_bytes") < 2e9)


def test_a_request_id_is_in_the_headers_and_of_a_refusal_in_the_trailers(server, rng) -> None:
    own = [("x-request-id", "of-a-stream")]
    call = server.stub.AttendStream(messages_of(qkv(rng)), timeout=10, metadata=own)
    list(call)
    assert dict(call.initial_metadata())["x-request-id"] == "of-a-stream"
    call = server.stub.AttendStream(iter([COMMIT]), timeout=10, metadata=own)
    failure_of(lambda: list(call))
    assert "x-request-id" not in dict(call.initial_metadata())
    assert dict(call.trailing_metadata())["x-request-id"] == "of-a-stream"


def test_many_at_once(server, rng) -> None:
    requests = [embeddings(rng, Sizes(heads=4, tokens=n, size=8)) for n in range(20, 60)]
    want = [make.bits(server.attend(request)) for request in requests]
    got: dict[int, bytes] = {}

    def run(i: int) -> None:
        got[i] = make.bits(attend_streamed(server, requests[i], np.random.default_rng(i), 300))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [got[i] for i in range(len(requests))] == want
    wait_until(lambda: server.held() == 0)


def test_streams_are_counted_as_such(server, rng) -> None:
    name, labels = "grpc_server_handled_total", {"grpc_method": "AttendStream", "grpc_type": "bidi_stream", "grpc_code": "OK"}
    before = server.metrics().value(name, **labels)
    attend_streamed(server, qkv(rng))
    wait_until(lambda: server.metrics().value(name, **labels) == before + 1)


def test_memory_is_that_of_input_and_output_and_little_more(start, rng) -> None:
    server = start("--threads=2", "--max-call-seconds=100000")
    request = qkv(rng, Sizes(heads=8, tokens=32_768, size=64))
    request.options.mask.window.left = request.options.mask.window.right = 64
    for message in server.stub.AttendStream(messages_of(request), timeout=120):
        pass
    assert message.HasField("end")
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    peak = 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])
    assert peak <= 4 * len(request.query_key_value.query.f32_le) + SPARE


def test_causal_and_windowed_rows_of_a_long_call(server, rng) -> None:
    """Rows come in any order of heads; each byte once (assemble says so)."""
    request = qkv(rng, Sizes(heads=8, key_heads=2, tokens=3000, size=32), rank=2)
    request.options.mask.causal.alignment = TOP_LEFT
    request.outputs.log_sum_exp = request.outputs.head_outputs = True
    assert make.bits(attend_streamed(server, request)) == make.bits(server.attend(request))


# The command line.


def command(server, *arguments: str) -> list[str]:
    return [CLI, "--address", server.address, "attend", *arguments]


def inputs_in(folder, rng, tokens: int, size: int = 16) -> list[str]:
    flags = []
    for name in ("query", "key", "value"):
        np.save(folder / f"{name}.npy", rng.standard_normal((1, 2, tokens, size), dtype=F32))
        flags += [f"--{name}", str(folder / f"{name}.npy")]
    return flags


def test_the_command_line_streams_what_it_is_told_to(server, rng, tmp_path) -> None:
    flags = [*inputs_in(tmp_path, rng, 200), "--causal", "top-left", "--maps", "0:top=4", "--maps", "all:pooled=8x8,max"]
    answers = []
    for stream in ([], ["--stream"]):
        out = tmp_path / f"out{len(stream)}.npy"
        run = subprocess.run(
            command(server, *flags, *stream, "--output", str(out), "--json"),
            env=environment(), capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (run.returncode, run.stderr) == (0, "")
        answers.append((out.read_bytes(), json.loads(run.stdout)["maps"]))
    assert answers[0] == answers[1]


def test_a_terminal_shows_how_far_a_long_call_is(server, rng, tmp_path) -> None:
    flags = [*inputs_in(tmp_path, rng, 17_000), "--output", str(tmp_path / "out.npy")]
    leader, terminal = pty.openpty()
    run = subprocess.Popen(
        [CLI, "--address", server.address, "--timeout", "300", "attend", *flags],
        env=environment(), stdout=subprocess.DEVNULL, stderr=terminal,
    )  # fmt: skip
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal's other end was closed
        while more := os.read(leader, 65_536):
            shown += more
    os.close(leader)
    assert run.wait(60) == 0
    text = shown.decode()
    assert "sending   [########################] 100 %  6.2 MiB of 6.2 MiB" in text
    assert re.search(r"computing \[#* *\] +\d+ %  \d+ of \d+ tiles", text)
    assert text.endswith("\r\x1b[K")
    assert np.load(tmp_path / "out.npy").shape == (1, 2, 17_000, 16)


# Bytes that other libraries write.


def raw_call(server, messages: list[bytes]) -> list[service_pb.AttendStreamResponse]:
    call = server.channel.stream_stream(
        "/headlight.v1.AttentionService/AttendStream",
        response_deserializer=service_pb.AttendStreamResponse.FromString,
    )
    return list(call(iter(messages), timeout=30))


def field(number: int, value: int | bytes) -> bytes:
    """One field of the wire format."""
    if isinstance(value, int):
        return make.varint(number << 3) + make.varint(value)
    return make.varint(number << 3 | 2) + make.varint(len(value)) + value


def test_chunks_with_their_fields_in_any_order(server, rng) -> None:
    """The data first, an unknown field, a field twice: what a parser of protobuf must take."""
    request = qkv(rng, Sizes(heads=2, tokens=9, size=4))
    messages = [header_of(request).SerializeToString()]
    for number, data in tensors_of(request).items():
        half = len(data) // 2
        first = field(3, data[:half]) + field(1, number)
        second = field(9, b"of a later version") + field(1, 99) + field(1, number) + field(2, half) + field(3, data[half:])
        messages += [field(2, first), field(2, second)]
    messages.append(COMMIT.SerializeToString())
    assert make.bits(assemble(raw_call(server, messages))) == make.bits(server.attend(request))


@pytest.mark.parametrize("broken", [b"\xff", b"\x12\x7f", field(2, b"\x1a\x05abc"), field(2, b"\x08"), b"\x12\x80\x80\x80\x80\x80\x01"])
def test_bytes_that_are_no_message(server, rng, canary, broken: bytes) -> None:
    header = header_of(qkv(rng)).SerializeToString()
    failure = refusal_of(lambda: raw_call(server, [header, broken]), INVALID, "INVALID_REQUEST")
    assert "no message" in failure.violations["part"]
    canary()
