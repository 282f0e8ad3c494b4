"""Calls in chunks: when, the same answers, and progress."""

import asyncio
import base64
import itertools
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import headlight
import numpy as np
import pytest
from google.protobuf import json_format
from headlight import requests, streaming
from headlight.channel import Attempts
from headlight.errors import error_with
from headlight.v1 import attention_service_pb2 as attention_pb
from headlight.v1 import attention_service_pb2_grpc as attention_grpc
from headlight.v1 import outputs_pb2 as outputs_pb
from server_process import Server


def heads(rng: np.random.Generator, tokens: int = 300, kind: type = np.float32) -> list[np.ndarray]:
    """Q, K and V of 4 and 2 heads."""
    return [rng.standard_normal((1, count, tokens, 16)).astype(kind) for count in (4, 2, 2)]


def request_of(given: list, **options) -> attention_pb.AttendRequest:
    request = attention_pb.AttendRequest()
    requests.fill_request(request, requests.QueryKeyValue(*given), options)
    return request


def same(one: headlight.Attention, other: headlight.Attention) -> bool:
    kept = []
    for answer in (one, other):
        message = attention_pb.AttendResponse()
        message.CopyFrom(answer.message)
        message.ClearField("execution")
        kept.append(message)
    return kept[0] == kept[1]


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_the_answer_is_that_of_one_message(client, rng, kind) -> None:
    given = heads(rng, kind=kind)
    options = {
        "causal": "top_left", "log_sum_exp": True, "head_outputs": True, "head_statistics": True, "tensor_kind": "f32",
        "maps": [headlight.weight_maps([1]), headlight.weight_maps(form=headlight.top_keys(5)),
                 headlight.weight_maps(form=headlight.pooled(8, 9, "mean"))],
        "mask": rng.random((300, 300)) < 0.9,
    }  # fmt: skip
    assert same(client.attend(*given, **options), client.attend(*given, stream=True, **options))


def test_embeddings_layers_and_labels(client, rng) -> None:
    embeddings = rng.standard_normal((40, 16)).astype(np.float32)
    context = rng.standard_normal((30, 12)).astype(np.float32)
    matrix = [rng.standard_normal(shape).astype(np.float32) for shape in ((16, 8), (12, 8), (12, 8), (8, 5))]
    layer = headlight.LayerWeights(*matrix, query_bias=np.ones(8, np.float32))
    table = rng.standard_normal((50, 16)).astype(np.float32)
    tokens = [f"word{i}" for i in range(40)]
    for options in (
        {"layer": layer, "context": context, "query_heads": 2},
        {"layer": headlight.SeededWeights(7), "query_heads": 4, "position": headlight.learned(table)},
        {"layer": "demo"},
    ):
        unary = client.attend_embeddings(embeddings, tokens=tokens, maps=True, **options)
        streamed = client.attend_embeddings(embeddings, tokens=tokens, maps=True, stream=True, **options)
        assert same(unary, streamed)
        assert streamed.row_tokens == tokens
    seeded = headlight.SeededEmbeddings(1, 20, 16)
    assert same(client.attend_embeddings(seeded, "demo"), client.attend_embeddings(seeded, "demo", stream=True))


def test_what_is_large_goes_in_chunks_by_itself(client, rng) -> None:
    given = [rng.standard_normal((1, 1, 16_385, 4)).astype(np.float32) for _ in range(3)]
    seen: list[headlight.Progress] = []
    answer = client.attend(*given, window=(9, 9), verify_rows=8, progress=seen.append)
    assert answer.output.shape == (1, 1, 16_385, 4)
    assert answer.execution.verification.max_abs_error < 1e-5
    size = given[0].nbytes
    assert [one for one in seen if one.stage == "sending"][-1] == headlight.Progress("sending", 3 * size, 3 * size)
    assert [one for one in seen if one.stage == "receiving"][-1] == headlight.Progress("receiving", size, size)
    assert client.plan(*given, window=(9, 9)).violations == []
    with pytest.raises(headlight.InvalidArgumentError):
        client.attend(*given, window=(9, 9), stream=False)


def test_when_it_is_large() -> None:
    given = [np.zeros((1, 1, streaming.UNARY_TOKENS, 1), np.float32)] * 3
    assert not streaming.needs_stream(request_of(given))
    assert streaming.needs_stream(request_of([given[0], *[np.zeros((1, 1, streaming.UNARY_TOKENS + 1, 1))] * 2]))
    wide = [np.zeros((1, streaming.UNARY_BYTES // 12), np.float32)] * 3
    assert not streaming.needs_stream(request_of(wide))
    assert streaming.needs_stream(request_of(wide, mask=np.zeros((1, 1), bool)))
    seeded = attention_pb.AttendRequest()
    seeded.self_attention.seeded_embeddings.tokens = streaming.UNARY_TOKENS + 1
    assert streaming.needs_stream(seeded)


def test_asyncio(server, client, rng) -> None:
    given = heads(rng)
    want = client.attend(*given, maps=True)

    async def run() -> list[headlight.Attention]:
        async with headlight.AsyncClient(server.address) as twin:
            return await asyncio.gather(*(twin.attend(*given, maps=True, stream=True) for _ in range(8)))

    assert all(same(one, want) for one in asyncio.run(run()))


def test_errors_are_those_of_one_message(client, rng) -> None:
    query, key, value = heads(rng)
    with pytest.raises(headlight.InvalidArgumentError) as caught:
        client.attend(query, key[..., :-1], value, stream=True)
    assert [violation.field for violation in caught.value.violations] == ["query_key_value.key.shape"]
    assert caught.value.request_id
    value[0, 0, 5, 3] = np.nan
    with pytest.raises(headlight.InvalidArgumentError, match="nan"):
        client.attend(query, key, value, stream=True)


def test_a_closed_client_and_a_short_deadline(server, rng) -> None:
    one = headlight.Client(server.address)
    with pytest.raises(headlight.DeadlineExceededError):
        one.attend(*heads(rng, 8000), stream=True, deadline=0.02)
    one.close()
    with pytest.raises(headlight.CancelledError):
        one.attend(*heads(rng), stream=True)


def refusal_of(connect: type, server: Server, given: list, *, token: str = "", **options) -> headlight.HeadlightError:
    """What a streamed call that fails raises, of either client."""

    async def run() -> None:
        async with headlight.AsyncClient(server.address, token=token) as twin:
            await twin.attend(*given, stream=True, **options)

    with pytest.raises(headlight.HeadlightError) as caught:
        if connect is headlight.AsyncClient:
            asyncio.run(run())
        else:
            with headlight.Client(server.address, token=token) as one:
                one.attend(*given, stream=True, **options)
    return caught.value


@pytest.mark.parametrize("flags, options, reason", [
    ([], {"head_size": 65}, "INVALID_REQUEST"),
    (["--auth-token-file={tokens}"], {"token": "another"}, "UNAUTHENTICATED"),
    (["--memory-budget-bytes=2000000"], {}, "REQUEST_TOO_EXPENSIVE"),
    ([], {"deadline": 0.05}, ""),
])  # fmt: skip
def test_refusals_are_the_same_by_asyncio(tmp_path, flags, options, reason) -> None:
    """Whether the server ends the call while a message is under way is chance: hence the repetition."""
    (tmp_path / "tokens").write_text("a-token-that-is-long-enough-to-be-taken\n")
    server = Server(*(flag.format(tokens=tmp_path / "tokens") for flag in flags))
    given = [np.zeros((1, 4, 20_000, 64), np.float32)] * 3 if "deadline" in options else [np.zeros((1, 2, 10_000, 32))] * 3
    try:
        want = refusal_of(headlight.Client, server, given, **options)
        refusals = [refusal_of(headlight.AsyncClient, server, given, **options) for _ in range(12)]
    finally:
        server.close()
    assert {refusal.code for refusal in refusals} == {want.code}
    if reason:  # a deadline passes here or there
        assert {refusal.reason for refusal in refusals} == {want.reason} == {reason}
        assert {refusal.message for refusal in refusals} == {want.message}
        assert all(refusal.violations == want.violations and refusal.request_id for refusal in refusals)


class Full(attention_grpc.AttentionServiceServicer):
    """Refuses as many streams as it is told to, without a look at what they send."""

    def __init__(self) -> None:
        self.refusals = 0
        self.calls = 0

    def AttendStream(self, requests, context):  # noqa: N802
        self.calls += 1
        if self.calls <= self.refusals:
            context.set_trailing_metadata([("grpc-retry-pushback-ms", "1")])
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        for _ in requests:
            pass
        yield attention_pb.AttendStreamResponse(acceptance=attention_pb.AttendStreamAcceptance())
        yield attention_pb.AttendStreamResponse(end=attention_pb.AttendStreamEnd())


@pytest.fixture
def full() -> Iterator[Full]:
    service = Full()
    running = grpc.server(ThreadPoolExecutor(2))
    attention_grpc.add_AttentionServiceServicer_to_server(service, running)
    service.address = f"127.0.0.1:{running.add_insecure_port('127.0.0.1:0')}"
    running.start()
    yield service
    running.stop(None).wait()


def test_a_full_server_is_asked_again_by_asyncio(full) -> None:
    given = [np.zeros((1, 2, 10_000, 32), np.float32)] * 3

    async def attend() -> None:
        async with headlight.AsyncClient(full.address, spread_over_replicas=False, max_attempts=3) as twin:
            await twin.attend(*given, stream=True)

    for _ in range(12):
        full.calls, full.refusals = 0, 2
        asyncio.run(attend())
        assert full.calls == 3
    full.calls, full.refusals = 0, 3
    with pytest.raises(headlight.ResourceExhaustedError, match="full") as caught:
        asyncio.run(attend())
    assert full.calls == 3 and caught.value.retry_after == 0.001


def test_streams_end_with_their_task_or_client_by_asyncio(server, rng) -> None:
    given = [rng.standard_normal((1, 4, 20_000, 64)).astype(np.float32)] * 3

    async def run() -> None:
        client = headlight.AsyncClient(server.address)
        sending = asyncio.Event()
        calls = [asyncio.ensure_future(client.attend(*given, progress=lambda _: sending.set())) for _ in range(2)]
        await sending.wait()
        calls[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await calls[0]
        await client.close()
        with pytest.raises(headlight.CancelledError, match="the client is closed"):
            await calls[1]

    asyncio.run(run())


OUTPUT, LOG_SUM_EXP = attention_pb.STREAMED_TENSOR_OUTPUT, attention_pb.STREAMED_TENSOR_LOG_SUM_EXP
END = {"end": {}}


def acceptance(maps: int = 0, statistics: int = 0, **results: dict) -> dict:
    """Of an output [1, 2], 8 bytes, unless it says otherwise."""
    specs = results or {"OUTPUT": {"shape": [1, 2], "kind": "TENSOR_KIND_F32"}}
    named = [{"tensor": f"STREAMED_TENSOR_{name}", "spec": spec} for name, spec in specs.items()]
    return {"acceptance": {"results": named, "maps": maps, "head_statistics": statistics}}


def chunk(offset: int, size: int, tensor: int = OUTPUT) -> dict:
    return {"chunk": {"tensor": tensor, "offset": offset, "data": bytes(size)}}


def block(first: int, rows: int = 1, *, index: int = 0, columns: int = 2, size: int | None = None, **more: int) -> dict:
    """Of a full map of 2 rows, unless `more` says otherwise."""
    data = bytes(4 * rows * columns if size is None else size)
    part = {"row_end": 2, "weights": {"shape": [rows, columns], "f32_le": data}, **more}
    return {"map": {"map": index, "first": first, "part": part}}


def top_keys(first: int, counts: list[int], keys: int) -> dict:
    held = {"counts": counts, "keys": range(keys), "weights": [0.5] * keys}
    return {"map": {"first": first, "part": {"request_index": 1, "row_end": 2, "top_keys": held}}}


FORMS = [{"full": {}}, {"top_keys": {"k": 2}}, {"pooled": {"rows": 3, "columns": 2}}, {"column_sums": {}}]


def assembled(*parts: dict) -> attention_pb.AttendResponse:
    """What a call gives that asks for maps of every form."""
    asked = json_format.ParseDict({"maps": FORMS}, outputs_pb.OutputSelection())
    assembly = streaming.Assembly(lambda _: None, asked.maps)
    for part in parts:
        message = attention_pb.AttendStreamResponse()
        json_format.ParseDict(_encoded(part), message)
        assembly.take(message)
    return assembly.answer()


def _encoded(value: object) -> object:
    """JSON has no bytes and no ranges."""
    if isinstance(value, dict):
        return {name: _encoded(held) for name, held in value.items()}
    if isinstance(value, (list, range)):
        return [_encoded(held) for held in value]
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def test_an_answer_in_any_order() -> None:
    answer = assembled(acceptance(maps=2), chunk(4, 4), block(1, index=1), block(0, 2), chunk(0, 4), block(0, index=1), END)
    assert len(answer.output.f32_le) == 8
    assert [list(one.weights.shape) for one in answer.maps] == [[2, 2]] * 2
    (joined,) = assembled(acceptance(maps=1), chunk(0, 8), top_keys(1, [2], 2), top_keys(0, [1], 1), END).maps
    assert list(joined.top_keys.counts) == [1, 2]
    for form, rows in ((2, 3), (3, 7)):
        (pooled,) = assembled(acceptance(maps=1), chunk(0, 8), block(0, rows, request_index=form), END).maps
        assert list(pooled.weights.shape) == [rows, 2]
    empty = {"shape": [0, 2], "kind": "TENSOR_KIND_F16"}
    assert list(assembled(acceptance(OUTPUT=empty), END).output.shape) == [0, 2]


F32 = "TENSOR_KIND_F32"


@pytest.mark.parametrize("parts", [
    [acceptance(), chunk(0, 8)],
    [acceptance(), chunk(4, 4), END],
    [acceptance(), chunk(4, 4), chunk(4, 4), END],
    [acceptance(), chunk(0, 4), chunk(2, 4), END],
    [acceptance(), chunk(0, 6), chunk(6, 4), END],
    [acceptance(), chunk(0, 8), chunk(0, 8), END],
    [acceptance(), chunk(2**63, 4), chunk(0, 4), END],
    [acceptance(), chunk(0, 0), chunk(0, 8), END],
    [acceptance(), chunk(0, 8, LOG_SUM_EXP), END],
    [acceptance(OUTPUT={"shape": [2], "kind": F32}, LOG_SUM_EXP={"shape": [2], "kind": F32}), chunk(0, 8), chunk(8, 8), END],
    [chunk(0, 8), acceptance(), END],
    [END],
    [acceptance(), acceptance(), chunk(0, 8), END],
    [acceptance(), chunk(0, 8), END, END],
    [acceptance(OUTPUT={"shape": [2], "kind": "TENSOR_KIND_BOOL"}), chunk(0, 2), END],
    [acceptance(OUTPUT={"shape": [2], "kind": 77}), chunk(0, 2), END],
    [acceptance(OUTPUT={"shape": [-2], "kind": F32}), END],
    [acceptance(OUTPUT={"shape": [2**62, 2**62], "kind": F32}), END],
    [acceptance(QUERY={"shape": [2], "kind": F32}), END],
    [acceptance(statistics=1), chunk(0, 8), END],
    [acceptance(maps=2**63), chunk(0, 8), END],
    [acceptance(maps=1), chunk(0, 8), END],
    [acceptance(maps=1), chunk(0, 8), block(0, 2, index=1), END],
    [acceptance(maps=1), chunk(0, 8), block(1), END],
    [acceptance(maps=1), chunk(0, 8), block(0), block(0), END],
    [acceptance(maps=1), chunk(0, 8), block(0), block(2), END],
    [acceptance(maps=1), chunk(0, 8), block(0), block(1, columns=3), END],
    [acceptance(maps=1), chunk(0, 8), block(0), block(1, head=1), END],
    [acceptance(maps=1), chunk(0, 8), block(0), top_keys(1, [1], 1), END],
    [acceptance(maps=1), chunk(0, 8), block(0), END],
    [acceptance(maps=1), chunk(0, 8), block(0, 2, request_index=1), END],
    [acceptance(maps=1), chunk(0, 8), block(0, 2, request_index=2), END],
    [acceptance(maps=1), chunk(0, 8), block(0, 2, request_index=4), END],
    [acceptance(maps=1), chunk(0, 8), block(0, 2, size=12), END],
    [acceptance(maps=1), chunk(0, 8), block(0, -2, size=0), END],
    [acceptance(maps=1), chunk(0, 8), top_keys(0, [1, 2], 2), END],
    [acceptance(maps=1), chunk(0, 8), top_keys(0, [1], 1), END],
    [acceptance(maps=1), chunk(0, 8), {"map": {"part": {"weights": {"shape": [], "f32_le": bytes(4)}}}}, END],
    [acceptance(maps=1), chunk(0, 8), {"map": {"part": {"weights": {"shape": [2, 1], "bool_u8": bytes(2)}}}}, END],
    [acceptance(maps=1), chunk(0, 8), {"map": {"part": {}}}, END],
])  # fmt: skip
def test_a_broken_answer_is_none(parts) -> None:
    with pytest.raises(headlight.HeadlightError) as caught:
        assembled(*parts)
    assert caught.value.code == grpc.StatusCode.DATA_LOSS


@pytest.mark.parametrize("stage", ["sending", "receiving"])
def test_what_a_function_raises_is_raised(server, client, rng, stage: str) -> None:
    def refuse(now: headlight.Progress) -> None:
        if now.stage == stage:
            raise ArithmeticError("not today")

    with pytest.raises(ArithmeticError, match="not today"):
        client.attend(*heads(rng), stream=True, progress=refuse)

    async def run() -> None:
        async with headlight.AsyncClient(server.address) as twin:
            await twin.attend(*heads(rng), stream=True, progress=refuse)

    with pytest.raises(ArithmeticError, match="not today"):
        asyncio.run(run())


def test_a_bar_where_it_is_asked_for(client, rng, capsys) -> None:
    client.attend(*heads(rng), stream=True, progress=True)
    shown = capsys.readouterr().err
    assert "sending: 100%" in shown and "receiving: 100%" in shown
    client.attend(*heads(rng), stream=True)  # nobody looks on
    assert capsys.readouterr().err == ""


def bars_of(capsys, *seen: tuple[str, int, int]) -> list[str]:
    """How each bar ends: "sending: 100%"."""
    with streaming.watching(True) as watch:
        for one in seen:
            watch(headlight.Progress(*one))
    shown = [line.split("|")[0] for line in re.split("[\r\n]", capsys.readouterr().err) if line.strip()]
    return [list(lines)[-1] for _, lines in itertools.groupby(shown, lambda line: line.split(":")[0])]


@pytest.mark.parametrize("later", [[], [("receiving", 30, 40)], [("computing", 8, 8), ("receiving", 40, 40)]])
def test_bars_come_one_after_the_other(capsys, later) -> None:
    seen = [("sending", 1, 2), ("sending", 2, 2), ("computing", 0, 8), ("receiving", 10, 40), ("computing", 7, 8),
            ("receiving", 20, 40), ("computing", 8, 8), *later]  # fmt: skip
    received = 100 * max([20, *(done for stage, done, _ in later if stage == "receiving")]) // 40
    assert bars_of(capsys, *seen) == ["sending: 100%", "computing: 100%", f"receiving: {received:3}%"]


def test_a_bar_where_nothing_is_told_of_computing(capsys) -> None:
    """Nor is it where there are no tiles."""
    for none in ([], [("computing", 0, 0)]):
        assert bars_of(capsys, *none, ("receiving", 10, 40), ("receiving", 20, 40)) == ["receiving:  50%"]


def test_the_rate_of_a_bar_is_of_what_came_while_it_was_shown(monkeypatch) -> None:
    class Bar:
        def __init__(self, *, desc: str, total: int, initial: int, **_: object) -> None:
            self.n = initial
            made.append((desc, total, initial))

        def update(self, more: int) -> None:
            self.n += more

        def close(self) -> None:
            pass

    made: list[tuple[str, int, int]] = []
    monkeypatch.setattr(streaming.tqdm, "tqdm", Bar)
    bars = streaming._Bars()
    rows = [("receiving", done, 40) for done in (10, 20, 30)]
    for seen in (("computing", 3, 8), *rows[:2], ("computing", 8, 8), rows[2]):
        bars(headlight.Progress(*seen))
    assert made == [("computing", 8, 3), ("receiving", 40, 20)]


def test_a_bar_takes_tqdm(client, rng, monkeypatch) -> None:
    monkeypatch.setattr(streaming, "tqdm", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    client.attend(*heads(rng), stream=True)
    with pytest.raises(ModuleNotFoundError, match="pip install tqdm"):
        client.attend(*heads(rng), stream=True, progress=True)


def test_streams_that_break_begin_anew_as_often_as_calls_are_tried() -> None:
    """gRPC itself sees to other calls."""
    options, gone = headlight.Options(max_attempts=3), error_with(grpc.StatusCode.UNAVAILABLE, "gone")
    attempts = Attempts(options, 10, streams=True)
    first, second, third = (attempts.wait_after(gone) for _ in range(3))
    assert 0.08 <= first <= 0.12 and 0.16 <= second <= 0.24 and third is None
    assert Attempts(options, 10).wait_after(gone) is None
