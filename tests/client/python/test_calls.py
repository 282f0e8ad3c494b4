"""Every method of the client, with numpy in and out, against a real server."""

import asyncio
import dataclasses
import inspect
import io
import re

import headlight
import ml_dtypes
import numpy as np
import pytest
import reference
from conftest import ROOT
from headlight import requests
from headlight.channel import OptionKeywords
from headlight.v1 import attention_service_pb2 as attention_pb
from headlight.v1 import options_pb2
from safetensors_file import file_of


def heads(rng: np.random.Generator, tokens: int = 6, count: int = 4) -> list[np.ndarray]:
    return [rng.standard_normal((1, count, tokens, 8)).astype(np.float32) for _ in range(3)]


def expected(given: list[np.ndarray], **keywords) -> reference.Expected:
    request = attention_pb.AttendRequest()
    return reference.attend(requests.fill_request(request, requests.QueryKeyValue(*given), keywords))


def test_attend(client, rng) -> None:
    """All that can come back, as the oracle has it."""
    given = heads(rng)
    answer = client.attend(
        *given, causal="top_left", maps=[2, 0], log_sum_exp=True, head_statistics=True, verify_rows=3
    )
    want = expected(given, causal="top_left")
    reference.assert_close(answer.output, want.output)
    reference.assert_close(answer.log_sum_exp, want.log_sum_exp)
    assert [one.head for one in answer.maps] == [2, 0]
    reference.assert_close(answer.maps[0].weights, want.weights[0, 2])
    assert answer.statistics[1].mean_entropy == pytest.approx(want.statistics(0, 1)["mean_entropy"], abs=1e-5)
    assert answer.execution.causal_alignment == "top_left" and answer.execution.verification.rows == 3
    assert answer.head_outputs is None
    assert 0 < answer.execution.total.total_seconds() < 60


@pytest.mark.parametrize(
    "keywords",
    [
        {"causal": "bottom_right"},
        {"causal": 2},
        {"window": (1, None)},
        {"mask": np.arange(36).reshape(6, 6) % 3 == 0},
        {"mask": np.linspace(-2, 2, 36, dtype=np.float32).reshape(6, 6)},
        {"key_lengths": [4]},
        {"segments": ([0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 2])},
        {"scale": 0.3, "softcap": 5.0, "sinks": [1, 2, 3, 4], "head_gains": [1, 0, 2, 1], "algorithm": "naive"},
        {"position": headlight.rotary("halves", base=500.0, rotary_size=4), "query_offset": 3},
        {"position": headlight.alibi([0.5, 0.25, 0.125, 1]), "query_positions": [5, 1, 2, 3, 4, 0]},
    ],
    ids=lambda keywords: "-".join(keywords),
)
def test_keywords_of_attention(client, rng, keywords) -> None:
    given = heads(rng)
    reference.assert_close(client.attend(*given, **keywords).output, expected(given, **keywords).output)


def test_embeddings_through_matrices(client, rng) -> None:
    """With a context, a learned table and biases; rank 2 in and out."""
    embeddings, context, table = (rng.standard_normal((tokens, 8)).astype(np.float32) for tokens in (5, 7, 9))
    matrices = [rng.standard_normal((8, 8)).astype(np.float32) for _ in range(4)]
    layer = headlight.LayerWeights(*matrices, value_bias=np.ones(8, np.float32))
    keywords = {"query_heads": 2, "position": headlight.learned(table), "query_offset": 1}
    answer = client.attend_embeddings(embeddings, layer, context=context, **keywords)
    request = attention_pb.AttendRequest()
    want = reference.attend(
        requests.fill_request(request, requests.SelfAttention(embeddings, layer, context), keywords)
    )
    reference.assert_close(answer.output, want.output, times=4)


def test_seeds(client) -> None:
    source = requests.SelfAttention(headlight.SeededEmbeddings(1, 6, 16), headlight.SeededWeights(2))
    keywords = {"query_heads": 2, "position": headlight.sinusoidal("interleaved")}
    answer = client.attend_embeddings(source.embeddings, source.layer, **keywords)
    want = reference.attend(requests.fill_request(attention_pb.AttendRequest(), source, keywords))
    reference.assert_close(answer.output, want.output, times=4)


def test_numbers_of_numpy(client, rng) -> None:
    """Keywords take numpy's own numbers and arrays."""
    given = heads(rng)
    keywords = {"causal": np.int64(1), "scale": np.float32(0.5), "sinks": np.zeros(4, np.float32),
                "query_heads": np.int32(4), "key_lengths": np.array([5]), "maps": np.arange(2)}  # fmt: skip
    answer = client.attend(*given, **keywords)
    assert len(answer.maps) == 2 and answer.execution.scale == 0.5
    reference.assert_close(answer.output, expected(given, **{**keywords, "maps": False}).output)


@pytest.mark.parametrize("form", [headlight.top_keys(2), headlight.pooled(2, 3, "max"), "column_sums", "full"], ids=str)
def test_forms_of_maps(client, rng, form) -> None:
    given = heads(rng)
    asked = headlight.weight_maps([1], form=form, rows=[(1, 5)], keys=(0, 4), stage="weights")
    (one,) = client.attend(*given, maps=asked).maps
    cells = expected(given).weights[0, 1, 1:5, :4]
    if isinstance(form, str):
        want = cells if form == "full" else cells.sum(axis=0, keepdims=True)
    elif one.weights is not None:
        want = reference.pooled(cells, 2, 3, form.reducer)
    else:
        kept = np.sort(cells, axis=1)[:, -2:-1]
        want = np.where(cells >= kept, cells, np.nan)[:, : one.cells.shape[1]]
    np.testing.assert_allclose(one.cells, want, atol=1e-5)
    assert (one.row_begin, one.row_end, one.stage) == (1, 5, "weights")


def test_plan_and_compare(client, rng) -> None:
    """A plan of shapes alone is that of the call."""
    given = heads(rng)
    mask = np.ones((6, 6), bool)
    specs = [headlight.Spec(array.shape) for array in given]
    plan = client.plan(*specs, causal="top_left", mask=headlight.Spec((6, 6), "bool"), maps=True)
    answer = client.attend(*given, causal="top_left", mask=mask, maps=True)
    assert plan.flops == answer.execution.flops and plan.algorithm == answer.execution.algorithm
    assert plan.violations == [] and plan.admission == "admitted"
    huge = [headlight.Spec((1, 8, 200000, 64), "bfloat16")] * 3
    assert client.plan(*huge, algorithm="naive").violations[0].expected
    seeded = (headlight.SeededEmbeddings(1, 6, 16), headlight.SeededWeights(2))
    assert client.plan_embeddings(*seeded, query_heads=2).projection_flops > 0
    assert client.compare(*given).naive_reference.max_abs_difference < 1e-5
    assert client.compare_embeddings(*seeded, query_heads=2).reference.rows == 6


def test_analyses(client) -> None:
    demo = client.get_demo()
    assert demo.layer == "demo" and demo.embeddings.shape == (len(demo.tokens), 16)
    report = client.analyze_heads([headlight.HeadSequence(demo.embeddings, range(10))], demo.layer)
    assert report.heads[0].habit == "previous_token" and "one step back" in report.heads[0].description
    ablated = client.ablate_heads(demo.embeddings, demo.layer, [0], mode="mean")
    assert ablated.output.shape == (10, 16) and ablated.change.relative_l2 == ablated.losses[0].change.relative_l2
    swap = headlight.CircuitSwap(demo.embeddings, aim_head=0, cargo_head=1)
    circuits = client.analyze_circuits(demo.layer, heads=[0], directions=2, swap=swap, queries=demo.embeddings[:3],
                                       keys=demo.embeddings)  # fmt: skip
    assert circuits.heads[0].query_key.left.shape == (2, 16) and circuits.heads[0].scores.shape == (3, 10)
    assert circuits.swapped_map.shape == (10, 10)


def test_trace(client) -> None:
    """The induction head's bet, and that it is gone without it."""
    text = "Mr and Mrs Potter thanked the driver ; then Mrs"
    trace = client.trace_stack("induction", text, maps=True, bets=1)
    assert trace.bets[0].token == "Potter" and trace.logits is None
    assert [(one.layer, one.head) for one in trace.weight_maps()][:5] == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]
    best = max(trace.attributions, key=lambda one: one.centered_logit)
    without = client.trace_stack("induction", text.split(), off=[(best.layer, best.head)], target="Potter")
    assert without.target.probability < trace.bets[0].probability / 2


def test_layers(client, tmp_path) -> None:
    """Upload by path, by bytes and from an open file; prune; get; delete."""
    names = {"query": (8, 8), "key": (8, 8), "value": (8, 8), "output": (8, 8)}
    rng = np.random.default_rng(1)
    weights = client.get_layer("demo", include_weights=True).weights
    assert weights.query.shape == (16, 36) and not weights.query.flags.writeable
    file = tmp_path / "layer.safetensors"
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in names.items()}
    file.write_bytes(file_of(arrays))
    first = client.upload_layer(file, "python", query_heads=2)
    assert not first.known and first.layers[0].origin == "upload"
    assert client.upload_layer(file.read_bytes(), "python", query_heads=2).known
    opened = io.BytesIO(file.read_bytes())
    assert client.upload_layer(opened, "python", query_heads=2).id == first.id and not opened.closed
    with pytest.raises(FileNotFoundError):
        client.upload_layer(tmp_path / "missing", "python")
    with pytest.raises(headlight.AlreadyExistsError):
        client.upload_layer(file, "python", query_heads=4)
    assert client.prune_layer("python", [0], "python-small").kept_heads == [1]
    assert {"python", "python-small"} <= {layer.name for layer in client.list_layers().layers}
    assert client.attend_embeddings(np.ones((3, 8), np.float32), "python").output.shape == (3, 8)
    for name in ("python", "python-small"):
        assert client.delete_layer(name).layers == [name]


def test_server_info(client) -> None:
    """Its version is the package's, and the project's."""
    assert client.get_server_info().version == headlight.__version__
    cmake = (ROOT / "CMakeLists.txt").read_text()
    assert f"project(headlight VERSION {headlight.__version__} " in cmake


def test_any_message(client, rng) -> None:
    """What the methods do not say can be said by message, with the same retries and errors."""
    request = requests.fill_request(attention_pb.AttendRequest(), requests.QueryKeyValue(*heads(rng)), {})
    assert list(client.call(client.attention.Attend, request).output.shape) == [1, 4, 6, 8]


def test_wrong_keywords(client, rng) -> None:
    """A misspelt keyword or name is no default."""
    given = heads(rng)
    with pytest.raises(TypeError, match="quary_heads"):
        client.attend(*given, quary_heads=3)
    with pytest.raises(ValueError, match="'top' is none of top_left, bottom_right, explicit"):
        client.attend(*given, causal="top")
    with pytest.raises(ValueError, match="systems disagree"):
        client.attend(*given, causal=True)
    with pytest.raises(TypeError, match="complex64"):
        client.attend(given[0].astype(np.complex64), *given[1:])
    for tokens in ([1, 2], [b"a", b"b"], b"a b", [["a"]]):
        with pytest.raises(TypeError, match="tokens are texts"):
            client.attend(*given, tokens=tokens)
        with pytest.raises(TypeError, match="tokens are texts"):
            client.trace_stack("induction", tokens)
    with pytest.raises(AttributeError, match="no field 'outputs'"):
        client.attend(*given).outputs  # noqa: B018


def test_every_rpc_and_field_has_its_keyword() -> None:
    """No method or keyword is missing when the contract grows."""
    spelled = {"AttendRequest", "PlanAttentionRequest", "CompareAlgorithmsRequest"}
    source = (ROOT / "client/python/src/headlight/client.py").read_text()
    contract = "".join(path.read_text() for path in (ROOT / "proto/headlight/v1").glob("*_service.proto"))
    for rpc in re.findall(r"rpc (\w+)\(", contract):
        assert re.search(rf"self\.(attention|analysis|layers)\.{rpc}\b", source), rpc
    known = set(headlight.AttendKeywords.__annotations__)
    options = {field.name for field in options_pb2.AttentionOptions.DESCRIPTOR.fields} - {"mask"}
    places = {field.name for field in options_pb2.PositionScheme.DESCRIPTOR.fields if not field.containing_oneof
              or field.containing_oneof.name.startswith("_")}  # fmt: skip
    masks = {"mask" if field.name == "tensor" else field.name for field in options_pb2.Mask.DESCRIPTOR.fields}
    outputs = {field.name for field in requests.outputs_pb.OutputSelection.DESCRIPTOR.fields}
    assert options | places | masks | outputs | {"priority"} == known
    assert spelled <= set(attention_pb.DESCRIPTOR.message_types_by_name)
    assert set(OptionKeywords.__annotations__) == {field.name for field in dataclasses.fields(headlight.Options)}


def test_asyncio_twin_is_in_step() -> None:
    """The same methods with the same parameters, annotations and words; those that call are coroutines."""
    twins = {"__enter__": "__aenter__", "__exit__": "__aexit__"}
    own = {name: member for name, member in vars(headlight.Client).items() if inspect.isfunction(member)}
    other = {name: member for name, member in vars(headlight.AsyncClient).items() if inspect.isfunction(member)}
    assert {twins.get(name, name) for name in own} == set(other)
    for name, method in own.items():
        twin = other[twins.get(name, name)]
        signature, same = inspect.signature(method), inspect.signature(twin)
        if name == "call":
            assert list(signature.parameters) == list(same.parameters)
        else:
            assert signature == same, name
        assert inspect.getdoc(method) == inspect.getdoc(twin), name
        assert inspect.iscoroutinefunction(twin) or name == "__init__", name


def test_asyncio_calls(server, client, rng) -> None:
    """The same answers, many calls at once, and the same errors."""
    given = heads(rng)

    async def run() -> list:
        async with headlight.AsyncClient(server.address) as twin:
            answers = await asyncio.gather(*(twin.attend(*given, causal=offset, maps=True) for offset in range(8)))
            with pytest.raises(headlight.NotFoundError) as caught:
                await twin.attend_embeddings(np.ones((3, 16), np.float32), "nobody")
            assert caught.value.reason == "LAYER_NOT_FOUND" and caught.value.request_id
            with pytest.raises(headlight.InvalidArgumentError):
                await twin.upload_layer(b"no safetensors", "python-async")
            assert (await twin.trace_stack("induction", "Mr and Mrs Potter")).bets
            return answers

    for offset, answer in enumerate(asyncio.run(run())):
        want = client.attend(*given, causal=offset, maps=True)
        assert np.array_equal(answer.output, want.output)
        assert np.array_equal(answer.maps[3].weights, want.maps[3].weights)


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_kinds(client, rng, kind) -> None:
    """The output's kind is the input's."""
    given = [array.astype(kind) for array in heads(rng)]
    answer = client.attend(*given)
    assert answer.output.dtype == kind
    reference.assert_close(answer.output, expected(given).output)
    assert client.attend(*given, tensor_kind="f32").output.dtype == np.float32
