"""Every option and every selection, alone and together, with each algorithm, against the numpy reference."""

import itertools
import os
from collections.abc import Callable
from functools import partial

import grpc
import make
import numpy as np
import pytest
from grpc import StatusCode
from make import (
    BOTTOM_RIGHT,
    EXPLICIT,
    HALVES,
    INTERLEAVED,
    TOP_LEFT,
    Sizes,
    column_sums,
    cross,
    embeddings,
    full_map,
    normal,
    plan_of,
    pooled,
    qkv,
    top_keys,
    with_algorithm,
)
from reference import Expected, assert_close, assert_within, attend, attend_in_bfloat16, bound_of
from reference import pooled as pooled_cells
from rpc_errors import failure_of, refusal_of
from wire import BF16, F16, F32, FLASH, KINDS, NAIVE, array, options_pb, outputs_pb, service_pb, tensor, tensor_pb

Request = service_pb.AttendRequest
SEED = int(os.environ.get("HEADLIGHT_SEED", "4"))
RANDOM_REQUESTS = 60
MIB = 2**20
FORBIDDEN_EVERYWHERE = -50  # an offset that leaves the first rows without a key

WEIGHTS = outputs_pb.MAP_STAGE_WEIGHTS
SCALED = outputs_pb.MAP_STAGE_SCALED
SOFTCAPPED = outputs_pb.MAP_STAGE_SOFTCAPPED
BIASED = outputs_pb.MAP_STAGE_BIASED
STAGES = {"weights": WEIGHTS, "scaled": SCALED, "softcapped": SOFTCAPPED, "biased": BIASED}
MAX, MEAN, SUM = outputs_pb.POOL_REDUCER_MAX, outputs_pb.POOL_REDUCER_MEAN, outputs_pb.POOL_REDUCER_SUM


def spaced(name: str) -> str:
    return name.replace(" ", "_")


# What every answer must hold.


def check_top_keys(
    result: outputs_pb.TopKeysResult, cells: np.ndarray, visible: np.ndarray, first: int, k: int
) -> None:
    """The k largest visible cells of each row, by descending value."""
    pairs = iter(zip(result.keys, result.weights, strict=True))
    rows = [list(itertools.islice(pairs, count)) for count in result.counts]
    assert len(rows) == len(cells) and next(pairs, None) is None
    for got, row, seen in zip(rows, cells, visible, strict=True):
        keys = np.array([key - first for key, _ in got], dtype=int)
        values = np.array([value for _, value in got], dtype=F32)
        assert len(keys) == min(k, int(seen.sum())) == len(set(keys.tolist()))
        assert seen[keys].all() and np.all(np.diff(values) <= 0)
        assert_close(values, row[keys], "top keys")
        assert_close(values, np.sort(row[seen])[::-1][: len(keys)], "top keys against the largest")


def check_map(m: outputs_pb.WeightMap, asked: outputs_pb.WeightMaps, expected: Expected) -> None:
    """One map of any form and stage."""
    keys = asked.keys if asked.HasField("keys") else outputs_pb.RowRange(begin=0, end=expected.weights.shape[3])
    place = (m.batch, m.head, slice(m.row_begin, m.row_end), slice(keys.begin, keys.end))
    stage = asked.stage or WEIGHTS
    assert (m.stage, m.key_begin) == (stage, keys.begin)
    cells = expected.stage(stage)[place]
    form = asked.WhichOneof("form")
    if form == "top_keys":
        check_top_keys(m.top_keys, cells, expected.visible[place], keys.begin, asked.top_keys.k)
        return
    reduce: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "full": np.asarray,
        "pooled": lambda c: pooled_cells(c, asked.pooled.rows, asked.pooled.columns, asked.pooled.reducer),
        "column_sums": lambda c: c.sum(axis=0),
    }
    want = reduce[form](cells)
    bound = np.maximum(reduce[form](bound_of(cells)), bound_of(want))
    assert_within(array(m.weights), want, np.where(np.isfinite(want), bound, 0.0), f"{form} map")


def check_statistics(answer: service_pb.AttendResponse, expected: Expected) -> None:
    batches, heads = expected.weights.shape[:2]
    places = [(s.batch, s.head) for s in answer.head_statistics]
    assert places == list(itertools.product(range(batches), range(heads)))
    for got in answer.head_statistics:
        for name, want in expected.statistics(got.batch, got.head).items():
            assert getattr(got, name) == pytest.approx(want, rel=2e-5, abs=2e-5), f"{name} of head {got.head}"


def check_answer(answer: service_pb.AttendResponse, request: Request) -> None:
    """All that the request asked for."""
    expected = attend(request)
    outputs = request.outputs
    assert answer.HasField("output") != outputs.omit_output
    if not outputs.omit_output:
        assert_close(array(answer.output), expected.output)
    if outputs.log_sum_exp:
        assert_close(array(answer.log_sum_exp), expected.log_sum_exp, "log_sum_exp")
    if outputs.head_outputs:
        assert_close(array(answer.head_outputs), expected.head_outputs, "head_outputs")
    if outputs.head_statistics:
        check_statistics(answer, expected)
    for m in answer.maps:
        check_map(m, outputs.maps[m.request_index], expected)
    assert {m.request_index for m in answer.maps} == set(range(len(outputs.maps)))
    assert answer.execution.flops == expected.flops


def ask_for_all(request: Request) -> Request:
    """The same request, asking for numbers of every stage."""
    asking = make.everything(request)
    asking.outputs.head_statistics = True
    asking.outputs.maps.extend(full_map(stage=stage) for stage in (SCALED, SOFTCAPPED, BIASED))
    return asking


# Each option alone.


def window(**fields) -> options_pb.WindowMask:
    return options_pb.WindowMask(**fields)


def with_window(rng: np.random.Generator, sizes: Sizes | None = None, **fields) -> Request:
    request = qkv(rng, sizes or Sizes(heads=4, key_heads=2, tokens=130))
    request.options.mask.window.CopyFrom(window(**fields))
    return request


def window_with_causal(rng) -> Request:
    request = with_window(rng, Sizes(tokens=70, keys=150), left=20)
    request.options.mask.causal.alignment = BOTTOM_RIGHT
    return request


def window_with_explicit_causal(rng) -> Request:
    request = with_window(rng, Sizes(tokens=70, keys=150), left=3, right=9)
    request.options.mask.causal.CopyFrom(options_pb.CausalMask(alignment=EXPLICIT, offset=-7))
    return request


def window_with_lengths(rng) -> Request:
    request = with_window(rng, Sizes(tokens=70, keys=150, batch=3), left=11, right=5, alignment=BOTTOM_RIGHT)
    request.options.mask.key_lengths.extend([150, 71, 0])
    return request


def with_segments(rng, query_ids: list[int], key_ids: list[int], sizes: Sizes) -> Request:
    request = qkv(rng, sizes)
    request.options.mask.segments.CopyFrom(options_pb.Segments(query_ids=query_ids, key_ids=key_ids))
    return request


def packed_segments(rng) -> Request:
    """Three documents side by side, each causal in itself."""
    ids = [7] * 40 + [-1] * 61 + [2**62] * 30
    request = with_segments(rng, ids, ids, Sizes(heads=4, key_heads=2, tokens=131, batch=2))
    request.options.mask.causal.alignment = TOP_LEFT
    return request


def segments_by_batch(rng) -> Request:
    """Ids in no order, and some that no key has."""
    query_ids, key_ids = rng.integers(0, 6, 2 * 70), rng.integers(0, 4, 2 * 90)
    return with_segments(rng, query_ids.tolist(), key_ids.tolist(), Sizes(tokens=70, keys=90, batch=2))


def with_softcap(rng, softcap: float) -> Request:
    request = qkv(rng, Sizes(tokens=70, keys=90, size=16))
    request.options.softcap = softcap
    request.options.scale = 1
    return request


def softcap_before_the_bias(rng) -> Request:
    request = with_softcap(rng, 0.5)
    request.options.position.alibi.SetInParent()
    request.options.position.query_offset = 20
    bias = np.where(rng.random((70, 90)) < 0.3, -np.inf, normal(rng, (70, 90), spread=3)).astype(F32)
    request.options.mask.tensor.CopyFrom(tensor(bias))
    return request


def with_sinks(rng, *sinks: float) -> Request:
    request = qkv(rng, Sizes(heads=4, key_heads=2, tokens=70, keys=90))
    request.options.sinks.extend(sinks)
    return request


def sinks_of_empty_rows(rng) -> Request:
    request = with_sinks(rng, 1, 2, 3, 4)
    request.options.mask.causal.CopyFrom(options_pb.CausalMask(alignment=EXPLICIT, offset=FORBIDDEN_EVERYWHERE))
    return request


def with_gains(rng) -> Request:
    request = qkv(rng, Sizes(heads=4, key_heads=2, tokens=70), rank=3)
    request.options.head_gains.extend([0, 1, -2.5, 0.125])
    return request


def gains_before_the_output_matrix(rng) -> Request:
    request = embeddings(rng, Sizes(heads=3, tokens=70, batch=2))
    request.options.head_gains.extend([0, 2, -1])
    return request


def rotary(request: Request, layout: int = HALVES, **fields) -> options_pb.RotaryPositions:
    message = request.options.position.rotary
    message.CopyFrom(options_pb.RotaryPositions(layout=layout, **fields))
    return message


def positions_of_each_batch(rng, request: Request, batch: int, tokens: int, keys: int) -> Request:
    request.options.position.query_positions.extend(rng.integers(-50, 300, batch * tokens).tolist())
    request.options.position.key_positions.extend(rng.integers(-50, 300, batch * keys).tolist())
    return request


def rotary_positions(rng) -> Request:
    request = qkv(rng, Sizes(heads=4, key_heads=2, tokens=70, keys=90, batch=2))
    rotary(request, INTERLEAVED)
    return positions_of_each_batch(rng, request, 2, 70, 90)


def positions_for_all_batches(rng) -> Request:
    request = qkv(rng, Sizes(tokens=70, keys=90, batch=2))
    rotary(request)
    return positions_of_each_batch(rng, request, 1, 70, 90)


def positions_beside_an_offset(rng) -> Request:
    request = qkv(rng, Sizes(tokens=70, keys=90))
    rotary(request)
    request.options.position.query_positions.extend(range(140, 0, -2))
    request.options.position.key_offset = 11
    return request


def alibi_positions(rng) -> Request:
    request = qkv(rng, Sizes(heads=3, tokens=70, keys=90, batch=2))
    request.options.position.alibi.SetInParent()
    request.options.position.query_positions.extend(rng.integers(0, 90, 2 * 70).tolist())
    request.options.position.key_positions.extend(rng.permutation(90).tolist())
    return request


def sinusoidal_positions(rng) -> Request:
    request = embeddings(rng, Sizes(tokens=70, batch=2))
    request.options.position.sinusoidal.layout = INTERLEAVED
    request.options.position.query_positions.extend(rng.integers(0, 500, 2 * 70).tolist())
    return request


def learned_positions(rng) -> Request:
    request = embeddings(rng, Sizes(tokens=40, batch=2))
    request.options.position.learned.table.CopyFrom(tensor(normal(rng, (9, 16))))
    request.options.position.query_positions.extend(rng.integers(0, 9, 40).tolist())
    return request


def positions_of_the_tokens_themselves(rng) -> Request:
    request = embeddings(rng, Sizes(tokens=40, batch=2))
    rotary(request)
    positions = rng.integers(0, 100, 40).tolist()
    request.options.position.query_positions.extend(positions)
    request.options.position.key_positions.extend(positions)
    return request


def positions_of_a_context(rng) -> Request:
    request = cross(rng, Sizes(tokens=20, keys=50, batch=2), context_width=12)
    rotary(request)
    return positions_of_each_batch(rng, request, 2, 20, 50)


def with_scaling(rng, layout: int = HALVES, rotary_size: int = 0, base: float | None = None, **scaling) -> Request:
    """Far positions, where a scaling shows."""
    request = qkv(rng, Sizes(heads=2, tokens=70, size=32))
    message = rotary(request, layout, rotary_size=rotary_size, **scaling)
    if base is not None:
        message.base = base
    request.options.position.query_offset = 5000
    request.options.position.key_offset = 4000
    return request


WIDE, TALL = Sizes(tokens=70, keys=200), Sizes(tokens=200, keys=70)
LINEAR = options_pb.LinearScaling(factor=3.7)
NTK = options_pb.NtkAwareScaling(factor=4)
LLAMA3 = options_pb.Llama3Scaling(factor=8, low_frequency_factor=1, high_frequency_factor=4, original_context=8192)
YARN = options_pb.YarnScaling(factor=4, original_context=4096)
OWN_YARN = options_pb.YarnScaling(factor=16, original_context=512, beta_fast=20, beta_slow=2, attention_factor=0.75)

ALONE: dict[str, Callable[[np.random.Generator], Request]] = {
    "window to the left": partial(with_window, left=7),
    "window to the right": partial(with_window, right=100),
    "window of the own key": partial(with_window, left=0, right=0),
    "window on both sides": partial(with_window, left=64, right=3),
    "window bottom right": partial(with_window, sizes=WIDE, left=9, right=9, alignment=BOTTOM_RIGHT),
    "window top left": partial(with_window, sizes=TALL, left=90, right=1, alignment=TOP_LEFT),
    "window at an offset": partial(with_window, left=9, right=9, alignment=EXPLICIT, offset=FORBIDDEN_EVERYWHERE),
    "window as wide as numbers go": partial(with_window, left=2**63 - 1, right=2**63 - 1),
    "window beyond all keys": partial(with_window, left=0, alignment=EXPLICIT, offset=2**31 - 1),
    "window with causal": window_with_causal,
    "window with explicit causal": window_with_explicit_causal,
    "window with lengths": window_with_lengths,
    "packed segments": packed_segments,
    "segments by batch": segments_by_batch,
    "softcap": partial(with_softcap, softcap=1.5),
    "large softcap": partial(with_softcap, softcap=1e6),
    "softcap before the bias": softcap_before_the_bias,
    "sinks": lambda rng: with_sinks(rng, 0.0, -3.0, 2.0, 30.0),
    "sinks of empty rows": sinks_of_empty_rows,
    "head gains": with_gains,
    "gains before the output matrix": gains_before_the_output_matrix,
    "rotary positions": rotary_positions,
    "positions for all batches": positions_for_all_batches,
    "positions beside an offset": positions_beside_an_offset,
    "alibi positions": alibi_positions,
    "sinusoidal positions": sinusoidal_positions,
    "learned positions": learned_positions,
    "positions of the tokens themselves": positions_of_the_tokens_themselves,
    "positions of a context": positions_of_a_context,
    "linear": partial(with_scaling, linear=LINEAR),
    "ntk aware": partial(with_scaling, layout=INTERLEAVED, ntk_aware=NTK),
    "ntk aware in part": partial(with_scaling, rotary_size=10, ntk_aware=NTK),
    "ntk aware of one pair": partial(with_scaling, rotary_size=2, ntk_aware=NTK),
    "llama 3": partial(with_scaling, base=500000.0, llama3=LLAMA3),
    "llama 3 interleaved": partial(with_scaling, layout=INTERLEAVED, llama3=LLAMA3),
    "yarn": partial(with_scaling, yarn=YARN),
    "yarn in part": partial(with_scaling, layout=INTERLEAVED, rotary_size=18, yarn=YARN),
    "yarn of a factor below 1": partial(with_scaling, yarn=options_pb.YarnScaling(factor=0.5, original_context=4096)),
    "yarn of one's own": partial(with_scaling, base=1e6, yarn=OWN_YARN),
}


@pytest.mark.parametrize("name", ALONE, ids=spaced)
def test_alone(server, rng, algorithm, name) -> None:
    request = with_algorithm(ask_for_all(ALONE[name](rng)), algorithm)
    check_answer(server.attend(request), request)


# Random combinations.


def random_sizes(rng: np.random.Generator) -> Sizes:
    key_heads = int(rng.integers(1, 3))
    return Sizes(
        heads=key_heads * int(rng.integers(1, 4)),
        key_heads=key_heads,
        tokens=int(rng.integers(1, 100)),
        keys=int(rng.integers(1, 160)),
        size=int(rng.choice([2, 4, 8, 20])),
        value_size=int(rng.choice([1, 4, 8, 20])),
        batch=int(rng.integers(1, 4)),
        kind=[F32, F32, F32, F16, BF16][rng.integers(5)],
    )


def random_diagonal(rng: np.random.Generator) -> dict[str, int]:
    alignment = int(rng.choice([TOP_LEFT, BOTTOM_RIGHT, EXPLICIT]))
    return {"alignment": alignment} | ({"offset": int(rng.integers(-20, 60))} if alignment == EXPLICIT else {})


def add_rules(rng: np.random.Generator, request: Request, s: Sizes) -> None:
    mask = request.options.mask
    if rng.random() < 0.4:
        mask.causal.CopyFrom(options_pb.CausalMask(**random_diagonal(rng)))
    if rng.random() < 0.4:
        sides = {side: int(rng.integers(0, 80)) for side in [["left"], ["right"], ["left", "right"]][rng.integers(3)]}
        mask.window.CopyFrom(window(**sides, **({} if mask.HasField("causal") else random_diagonal(rng))))
    if rng.random() < 0.4:
        mask.key_lengths.extend(rng.integers(0, s.keys + 1, s.batch).tolist())
    if rng.random() < 0.3:
        query_rows, key_rows = rng.choice([1, s.batch], 2)
        mask.segments.query_ids.extend(rng.integers(0, 3, query_rows * s.tokens).tolist())
        mask.segments.key_ids.extend(rng.integers(0, 3, key_rows * s.keys).tolist())


def add_mask_tensor(rng: np.random.Generator, request: Request, s: Sizes) -> None:
    if rng.random() < 0.6:
        return
    last = s.keys if rng.random() < 0.7 else int(rng.integers(2, s.keys + 1)) if s.keys > 2 else s.keys
    shape = [int(rng.choice([1, size])) for size in (s.batch, s.heads, s.tokens)] + [last]
    shape = shape[int(rng.integers(4)) :]
    if rng.random() < 0.5:
        request.options.mask.tensor.CopyFrom(tensor(rng.random(shape) < 0.7))
        return
    bias = np.where(rng.random(shape) < 0.2, -np.inf, rng.standard_normal(shape))
    request.options.mask.tensor.CopyFrom(tensor(bias.astype([F32, s.kind][rng.integers(2)])))


def add_positions(rng: np.random.Generator, request: Request, s: Sizes) -> None:
    position = request.options.position
    scheme = rng.choice(["nothing", "none", "alibi", "rotary", "rotary"])
    if scheme == "nothing":
        return
    if scheme == "rotary":
        message = rotary(request, int(rng.choice([HALVES, INTERLEAVED])))
        message.rotary_size = int(rng.choice([0, min(4, s.size)]))
        name, scaling = [
            ("linear", LINEAR), ("ntk_aware", NTK), ("llama3", LLAMA3), ("yarn", YARN), ("yarn", OWN_YARN)
        ][rng.integers(5)]  # fmt: skip
        if rng.random() < 0.7 and s.size > 2:
            getattr(message, name).CopyFrom(scaling)
    else:
        getattr(position, scheme).SetInParent()
    for side, tokens in (("query", s.tokens), ("key", s.keys)):
        if rng.random() < 0.5:
            setattr(position, f"{side}_offset", int(rng.integers(-40, 40)))
        else:
            rows = int(rng.choice([1, s.batch]))
            getattr(position, f"{side}_positions").extend(rng.integers(-40, 160, rows * tokens).tolist())


def add_numbers(rng: np.random.Generator, request: Request, s: Sizes) -> None:
    options = request.options
    if rng.random() < 0.4:
        options.scale = float(rng.uniform(-0.6, 0.6))
    if rng.random() < 0.4:
        options.softcap = float(rng.uniform(0.3, 5))
    if rng.random() < 0.4:
        options.sinks.extend(rng.uniform(-3, 3, s.heads).tolist())
    if rng.random() < 0.4:
        options.head_gains.extend(rng.choice([0.0, 1.0, -1.5], s.heads).tolist())


def random_range(rng: np.random.Generator, count: int) -> outputs_pb.RowRange:
    begin = int(rng.integers(0, count))
    return outputs_pb.RowRange(begin=begin, end=int(rng.integers(begin + 1, count + 1)))


def random_map(rng: np.random.Generator, s: Sizes) -> outputs_pb.WeightMaps:
    selection: dict[str, object] = {"stage": int(rng.choice([0, *STAGES.values()]))}
    rows, keys = [s.tokens], s.keys
    if rng.random() < 0.5:
        selection["rows"] = [random_range(rng, s.tokens) for _ in range(int(rng.integers(1, 4)))]
        rows = [r.end - r.begin for r in selection["rows"]]
    if rng.random() < 0.5:
        selection["keys"] = random_range(rng, s.keys)
        keys = selection["keys"].end - selection["keys"].begin
    if rng.random() < 0.5:
        selection["heads"] = rng.permutation(s.heads)[: int(rng.integers(1, s.heads + 1))].tolist()
    size = int(rng.integers(1, min(rows) + 1)), int(rng.integers(1, keys + 1))
    return [
        lambda: full_map(**selection),
        lambda: top_keys(int(rng.integers(1, 9)), **selection),
        lambda: pooled(*size, int(rng.choice([MAX, MEAN, SUM])), **selection),
        lambda: column_sums(**selection),
    ][rng.integers(4)]()


def add_outputs(rng: np.random.Generator, request: Request, s: Sizes) -> None:
    outputs = request.outputs
    outputs.maps.extend(random_map(rng, s) for _ in range(int(rng.integers(0, 4))))
    outputs.log_sum_exp, outputs.head_outputs, outputs.head_statistics = (bool(x) for x in rng.random(3) < 0.5)
    if rng.random() < 0.4:
        outputs.tensor_kind = int(rng.choice(list(KINDS.values())))
    asked = outputs.maps or outputs.log_sum_exp or outputs.head_outputs or outputs.head_statistics
    outputs.omit_output = bool(asked) and rng.random() < 0.3
    outputs.verify_rows = 0 if outputs.omit_output else int(rng.choice([0, 3]))


def random_request(seed: int, number: int) -> Request:
    rng = np.random.default_rng([seed, number])
    s = random_sizes(rng)
    request = qkv(rng, s) if s.batch > 1 else qkv(rng, s, rank=int(rng.choice([2, 3, 4])))
    for add in (add_rules, add_mask_tensor, add_positions, add_numbers, add_outputs):
        add(rng, request, s)
    request.options.allow_non_finite = bool(rng.random() < 0.3)
    return request


@pytest.mark.parametrize("number", range(RANDOM_REQUESTS), ids=lambda number: f"seed_{SEED}_{number}")
def test_random_combinations(server, algorithm, number) -> None:
    print(f"HEADLIGHT_SEED={SEED}, request {number}")
    request = with_algorithm(random_request(SEED, number), algorithm)
    answer = server.attend(request, timeout=60)
    check_answer(answer, request)
    assert answer.execution.HasField("verification") == (request.outputs.verify_rows > 0)


# Maps.


def request_for_maps(rng, *maps: outputs_pb.WeightMaps) -> Request:
    """Everything that tells the stages apart, and rows without a key."""
    request = qkv(rng, Sizes(heads=4, key_heads=2, tokens=90, keys=150, batch=2))
    options = request.options
    options.softcap = 1.5
    options.position.alibi.SetInParent()
    options.position.query_offset = 30
    options.sinks.extend([0.5, -1, 1, 0])
    options.mask.causal.CopyFrom(options_pb.CausalMask(alignment=EXPLICIT, offset=-3))
    options.mask.window.left = 70
    options.mask.key_lengths.extend([150, 66])
    request.outputs.maps.extend(maps)
    return request


FORMS: dict[str, Callable[..., outputs_pb.WeightMaps]] = {
    "full": full_map,
    "top keys": partial(top_keys, 5),
    "pooled max": partial(pooled, 7, 11, MAX),
    "pooled mean": partial(pooled, 7, 11, MEAN),
    "pooled sum": partial(pooled, 1, 1, SUM),
    "pooled to as many": partial(pooled, 20, 40, MEAN),
    "column sums": column_sums,
}


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
@pytest.mark.parametrize("form", FORMS, ids=spaced)
def test_forms_at_every_stage(server, rng, algorithm, form, stage) -> None:
    ranges = {
        "rows": [outputs_pb.RowRange(begin=0, end=20), outputs_pb.RowRange(begin=61, end=90)],
        "keys": outputs_pb.RowRange(begin=50, end=90),
    }
    asked = [FORMS[form](stage=stage, **ranges), FORMS[form](stage=stage, heads=[3, 0], batches=[1])]
    request = with_algorithm(request_for_maps(rng, *asked), algorithm)
    answer = server.attend(request)
    check_answer(answer, request)
    places = [(m.request_index, m.batch, m.head, m.row_begin) for m in answer.maps]
    whole = [(0, b, h, r) for b in range(2) for h in range(4) for r in (0, 61)]
    assert places == [*whole, (1, 1, 3, 0), (1, 1, 0, 0)]


@pytest.mark.parametrize("kind", [F16, BF16], ids=lambda kind: kind.name)
def test_every_form_in_16_bits(server, rng, algorithm, kind) -> None:
    request = with_algorithm(request_for_maps(rng, *(FORMS[f](heads=[1]) for f in FORMS)), algorithm)
    request.outputs.tensor_kind = KINDS[kind]
    request.outputs.head_outputs = True
    answer = server.attend(request)
    check_answer(answer, request)
    arrays = [array(m.weights) for m in answer.maps if m.HasField("weights")]
    arrays += [array(answer.output), array(answer.head_outputs)]
    assert {a.dtype for a in arrays} == {np.dtype(kind)}


@pytest.mark.parametrize("kind", [F16, BF16], ids=lambda kind: kind.name)
def test_16_bits_in_and_float32_out(server, rng, algorithm, kind) -> None:
    request = with_algorithm(qkv(rng, Sizes(tokens=70, keys=90, kind=kind)), algorithm)
    request.outputs.tensor_kind = tensor_pb.TENSOR_KIND_F32
    request.outputs.maps.append(full_map())
    answer = server.attend(request)
    check_answer(answer, request)
    assert array(answer.output).dtype == array(answer.maps[0].weights).dtype == F32


def test_a_pooled_map_of_weights_keeps_their_sum(server, algorithm) -> None:
    request = with_algorithm(make.seeded(tokens=700, width=16, heads=2), algorithm)
    request.outputs.maps.append(pooled(13, 17, SUM))
    for m in server.attend(request).maps:
        assert array(m.weights).sum(dtype=np.float64) == pytest.approx(700, rel=1e-5)


def test_flash_never_holds_the_grid(server) -> None:
    """16,384 tokens, pooled, with column sums and statistics."""
    request = make.seeded(tokens=16384, width=8, heads=1)
    request.options.algorithm = FLASH
    request.outputs.omit_output = True
    request.outputs.head_statistics = True
    request.outputs.maps.extend([pooled(64, 64, SUM), column_sums(), top_keys(1, rows=[outputs_pb.RowRange(end=9)])])
    answer = server.attend(request, timeout=120)
    ran = answer.execution
    assert ran.score_grid_bytes == 16384 * 16384 * 4
    assert ran.scratch_bytes / ran.workers < 4 * MIB
    assert ran.workspace_bytes < ran.score_grid_bytes / 50
    assert array(answer.maps[0].weights).sum(dtype=np.float64) == pytest.approx(16384, rel=1e-4)
    assert array(answer.maps[1].weights).sum(dtype=np.float64) == pytest.approx(16384, rel=1e-4)


# Statistics, verification, and what is left out.


def test_statistics_of_one_key(server, algorithm) -> None:
    request = with_algorithm(qkv(np.random.default_rng(1), Sizes(heads=1, tokens=1)), algorithm)
    request.outputs.head_statistics = True
    (got,) = server.attend(request).head_statistics
    assert (got.mean_entropy, got.mean_largest_weight, got.mean_distance) == (0, 1, 0)
    assert (got.share_on_previous, got.share_on_same, got.share_on_first) == (0, 1, 1)


def test_statistics_where_no_row_sees_a_key(server, rng, algorithm) -> None:
    request = with_algorithm(qkv(rng, Sizes(tokens=5, batch=2)), algorithm)
    request.options.mask.key_lengths.extend([0, 5])
    request.outputs.head_statistics = True
    answer = server.attend(request)
    check_answer(answer, request)
    assert answer.head_statistics[0].largest_score == -np.inf


def test_statistics_follow_the_positions(server, rng, algorithm) -> None:
    """Keys in reverse order: the previous position is the next key."""
    request = with_algorithm(qkv(rng, Sizes(heads=3, tokens=40)), algorithm)
    request.options.position.none.SetInParent()
    request.options.position.query_positions.extend(range(39, -1, -1))
    request.options.position.key_positions.extend(range(39, -1, -1))
    request.outputs.head_statistics = True
    check_answer(server.attend(request), request)


def test_statistics_alone_are_enough(server, rng, algorithm) -> None:
    request = with_algorithm(qkv(rng, Sizes(heads=3, tokens=70)), algorithm)
    request.outputs.omit_output = True
    request.outputs.head_statistics = True
    answer = server.attend(request)
    assert {descriptor.name for descriptor, _ in answer.ListFields()} == {"head_statistics", "execution"}
    check_answer(answer, request)


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_verified_rows(server, rng, algorithm, rows) -> None:
    request = with_algorithm(request_for_maps(rng), algorithm)
    request.outputs.verify_rows = rows
    verified = server.attend(request).execution.verification
    assert verified.rows == rows
    assert verified.max_abs_error < 1e-5
    assert verified.max_abs_error > 0 or rows == 1, "float32 is not that exact"


def test_no_more_rows_are_verified_than_there_are(server, rng, algorithm) -> None:
    request = with_algorithm(qkv(rng, Sizes(tokens=5, batch=2)), algorithm)
    request.outputs.verify_rows = 64
    verified = server.attend(request).execution.verification
    assert verified.rows == 10
    assert verified.max_abs_error < 1e-5


def test_rows_behind_an_output_matrix_are_verified(server, rng, algorithm) -> None:
    request = with_algorithm(embeddings(rng, Sizes(heads=3, tokens=70, batch=2)), algorithm)
    request.options.head_gains.extend([1, 0, -1])
    request.outputs.verify_rows = 20
    assert server.attend(request).execution.verification.max_abs_error < 2e-5


# Numbers that are not finite.

SPOILERS = {"nan": np.nan, "inf": np.inf}
PLACES = ["key", "value"]


def spoil(request: Request, place: str, index: tuple[int, ...], value: float) -> None:
    message = getattr(request.query_key_value, place)
    elements = array(message).copy()
    elements[index] = value
    message.CopyFrom(tensor(elements))


def causally(request: Request) -> None:
    request.options.mask.causal.CopyFrom(options_pb.CausalMask(alignment=EXPLICIT, offset=-10))


def windowed(request: Request) -> None:
    request.options.mask.window.CopyFrom(window(left=15, right=2, alignment=TOP_LEFT))


def segmented(request: Request) -> None:
    request.options.mask.segments.query_ids.extend([0] * 50 + [1] * 40)
    request.options.mask.segments.key_ids.extend([0] * 40 + [1] * 110)


def masked_by_booleans(request: Request) -> None:
    request.options.mask.tensor.CopyFrom(tensor(np.random.default_rng(2).random((90, 150)) < 0.5))


def masked_by_numbers(request: Request) -> None:
    bias = np.where(np.random.default_rng(3).random((90, 150)) < 0.5, -np.inf, 0.5)
    request.options.mask.tensor.CopyFrom(tensor(bias.astype(F32)))


FORBIDDING = [causally, windowed, segmented, masked_by_booleans, masked_by_numbers]


@pytest.mark.parametrize("value", SPOILERS.values(), ids=SPOILERS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("forbid", FORBIDDING, ids=lambda forbid: forbid.__name__)
def test_what_is_not_finite_counts_where_it_is_seen_only(server, rng, algorithm, forbid, place, value) -> None:
    """Rows that see the key follow IEEE; the others do not notice."""
    request = with_algorithm(qkv(rng, Sizes(heads=4, key_heads=2, tokens=90, keys=150, batch=2)), algorithm)
    forbid(request)
    for index in ((0, 1, 20, 3), (1, 0, 67, 0)):
        spoil(request, place, index, value)
    refusal_of(lambda: server.attend(request), StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    request.options.allow_non_finite = True
    asking = make.everything(request)
    expected = attend(asking)
    finite = np.isfinite(expected.head_outputs)
    assert finite.any() and not finite.all(), "the test wants both"
    check_answer(server.attend(asking), asking)


@pytest.mark.parametrize("place", PLACES)
def test_a_key_that_no_row_sees_may_be_anything(server, rng, algorithm, place) -> None:
    request = with_algorithm(qkv(rng, Sizes(tokens=70, keys=90)), algorithm)
    mask = rng.random((70, 90)) < 0.7
    mask[:, [5, 66, 89]] = False
    request.options.mask.tensor.CopyFrom(tensor(mask))
    request.options.allow_non_finite = True
    asking = make.everything(request)
    want = attend(asking)
    for key, value in ((5, np.nan), (66, np.inf), (89, -np.inf)):
        spoil(asking, place, (0, slice(None), key), value)
    answer = server.attend(asking)
    assert_close(array(answer.output), want.output)
    assert_close(array(answer.log_sum_exp), want.log_sum_exp, "log_sum_exp")
    for m in answer.maps:
        assert_close(array(m.weights), want.weights[m.batch, m.head], "map")


def test_a_query_that_is_no_number(server, rng, algorithm) -> None:
    """It spoils its own row, and not even that where the row sees nothing."""
    request = with_algorithm(qkv(rng, Sizes(tokens=70)), algorithm)
    request.options.mask.causal.CopyFrom(options_pb.CausalMask(alignment=EXPLICIT, offset=-10))
    request.options.allow_non_finite = True
    spoil(request, "query", (0, 0, 3, 1), np.nan)
    spoil(request, "query", (0, 1, 60, 1), np.nan)
    asking = make.everything(request)
    answer = server.attend(asking)
    check_answer(answer, asking)
    assert not array(answer.output)[0, 0, 3].any()
    assert np.isnan(array(answer.output)[0, 1, 60]).all() and np.isnan(array(answer.log_sum_exp)[0, 1, 60])


def test_finite_numbers_have_the_same_bits_where_others_are_allowed(server, rng, algorithm) -> None:
    request = with_algorithm(make.everything(qkv(rng, Sizes(tokens=70, keys=150))), algorithm)
    before = make.bits(server.attend(request))
    request.options.allow_non_finite = True
    assert make.bits(server.attend(request)) == before


def test_a_raw_map_reads_beyond_the_key_lengths(server, rng, algorithm) -> None:
    request = with_algorithm(qkv(rng, Sizes(tokens=9, keys=90)), algorithm)
    request.options.mask.key_lengths.append(70)
    request.outputs.maps.extend([full_map(stage=SCALED), full_map(stage=BIASED), full_map()])
    spoil(request, "key", (0, slice(None), slice(70, None)), np.nan)
    answer = server.attend(request)
    check_answer(answer, request)
    assert np.isnan(array(answer.maps[0].weights)[:, 70:]).all()


# The arithmetic.


@pytest.mark.parametrize("kind", [F32, BF16], ids=lambda kind: kind.name)
def test_bfloat16_precision(server, rng, algorithm, kind) -> None:
    """At most twice as far off as the plain algorithm in the same type, and no float32 in disguise."""
    request = with_algorithm(qkv(rng, Sizes(heads=4, key_heads=2, tokens=130, keys=200, size=32, kind=kind)), algorithm)
    rotary(request)
    request.options.position.query_offset = 70
    request.outputs.log_sum_exp = True
    request.outputs.tensor_kind = tensor_pb.TENSOR_KIND_F32
    exactly = server.attend(request)
    request.options.precision = options_pb.COMPUTE_PRECISION_BFLOAT16
    answer = server.attend(request)
    assert answer.execution.precision == options_pb.COMPUTE_PRECISION_BFLOAT16
    assert answer.output != exactly.output
    want, plain = attend(request), attend_in_bfloat16(request)
    for name in ("output", "log_sum_exp"):
        exact, rounded = getattr(want, name), getattr(plain, name)
        error = np.abs(array(getattr(answer, name)) - exact).max()
        assert error <= 2 * np.abs(rounded - exact).max() + 1e-5


# What the answer says of itself.


def test_conventions_of_a_plain_call(server, rng, algorithm) -> None:
    ran = server.attend(with_algorithm(qkv(rng), algorithm)).execution
    assert (ran.softcap, ran.softcap_order, ran.boolean_mask) == (0, "before_bias", "true_attends")
    assert ran.window_alignment == options_pb.CAUSAL_ALIGNMENT_UNSPECIFIED
    assert ran.non_finite == "refused"
    assert not ran.HasField("verification")


def test_conventions_that_were_asked_for(server, rng, algorithm) -> None:
    request = with_algorithm(qkv(rng), algorithm)
    request.options.softcap = 30
    request.options.allow_non_finite = True
    request.options.precision = options_pb.COMPUTE_PRECISION_BFLOAT16
    ran = server.attend(request).execution
    assert (ran.softcap, ran.softcap_order, ran.non_finite) == (30, "before_bias", "ieee")
    assert ran.precision == options_pb.COMPUTE_PRECISION_BFLOAT16


WINDOWS = [
    (window(left=1), None, TOP_LEFT),
    (window(left=1, alignment=BOTTOM_RIGHT), None, BOTTOM_RIGHT),
    (window(left=1, alignment=EXPLICIT, offset=2), None, EXPLICIT),
    (window(left=1), options_pb.CausalMask(alignment=BOTTOM_RIGHT), BOTTOM_RIGHT),
    (window(left=1), options_pb.CausalMask(alignment=EXPLICIT, offset=1), EXPLICIT),
]


@pytest.mark.parametrize("asked, causal, alignment", WINDOWS)
def test_window_alignment_is_echoed(server, rng, algorithm, asked, causal, alignment) -> None:
    request = with_algorithm(qkv(rng), algorithm)
    request.options.mask.window.CopyFrom(asked)
    if causal is not None:
        request.options.mask.causal.CopyFrom(causal)
    assert server.attend(request).execution.window_alignment == alignment


@pytest.mark.parametrize("name", ["window to the left", "window with lengths", "packed segments", "segments by batch"])
def test_flops_count_what_is_seen(server, rng, algorithm, name) -> None:
    request = with_algorithm(ALONE[name](rng), algorithm)
    assert server.attend(request).execution.flops == attend(request).flops


# Plans.


def plan(server, request: Request) -> service_pb.PlanAttentionResponse:
    return server.stub.PlanAttention(plan_of(request), timeout=10)


def seeded_layer(rng) -> Request:
    return make.seeded(tokens=300, width=32, heads=4)


def demo(rng) -> Request:
    request = make.seeded(tokens=20, width=16, heads=3)
    request.self_attention.layer = "demo"
    return request


def maps_of_every_form(rng) -> Request:
    return request_for_maps(rng, *(FORMS[form](heads=[1]) for form in FORMS))


def masked_layer(rng) -> Request:
    request = embeddings(rng, Sizes(heads=3, tokens=40, batch=2), output_width=0)
    request.options.mask.tensor.CopyFrom(tensor(rng.random((3, 40, 40)) < 0.5))
    request.options.position.learned.table.CopyFrom(tensor(normal(rng, (40, 24))))
    return request


PLANNED: dict[str, Callable[[np.random.Generator], Request]] = {
    **ALONE,
    "plain": lambda rng: qkv(rng, Sizes(heads=6, key_heads=2, tokens=70, keys=600, value_size=4)),
    "tiny": lambda rng: qkv(rng, Sizes(tokens=4), rank=2),
    "16 bits": lambda rng: qkv(rng, Sizes(tokens=130, kind=BF16), rank=3),
    "layer": lambda rng: embeddings(rng, Sizes(heads=3, tokens=70, batch=2)),
    "context": lambda rng: cross(rng, Sizes(tokens=20, keys=50, batch=2), context_width=12),
    "masked layer": masked_layer,
    "seeded": seeded_layer,
    "demo": demo,
    "maps": maps_of_every_form,
}


@pytest.mark.parametrize("name", PLANNED, ids=spaced)
def test_a_plan_tells_what_then_runs(server, rng, algorithm, name) -> None:
    request = with_algorithm(PLANNED[name](rng), algorithm)
    request.outputs.log_sum_exp = request.outputs.head_outputs = request.outputs.head_statistics = True
    planned = plan(server, request)
    answer = server.attend(request)
    ran = answer.execution
    same = ["algorithm", "flops", "score_grid_bytes", "query_heads", "key_value_heads", "head_size", "value_head_size"]
    assert [getattr(planned, f) for f in same] == [getattr(ran, f) for f in same]
    assert planned.reason == ran.algorithm_reason
    taken = planned.naive_bytes if ran.algorithm == NAIVE else planned.flash_bytes
    assert taken >= ran.workspace_bytes
    assert answer.ByteSize() <= planned.response_bytes <= 2 * answer.ByteSize() + 4096
    assert planned.admission == service_pb.ADMISSION_FORECAST_ADMITTED
    assert 0 < planned.predicted.ToNanoseconds() < 10e9
    assert not planned.violations


def test_a_plan_needs_no_data(server) -> None:
    request = service_pb.PlanAttentionRequest()
    for name, heads in (("query", 8), ("key", 2), ("value", 2)):
        spec = tensor_pb.TensorSpec(shape=[4, heads, 8192, 128], kind=tensor_pb.TENSOR_KIND_BF16)
        getattr(request.query_key_value, name).CopyFrom(spec)
    request.options.mask.tensor.shape.extend([8192, 8192])
    planned = server.stub.PlanAttention(request, timeout=10)
    assert planned.algorithm == FLASH
    assert planned.flops == 4 * 8 * 8192 * 8192 * (128 + 128) * 2
    assert planned.score_grid_bytes == 4 * 8 * 8192 * 8192 * 4
    assert (planned.query_heads, planned.key_value_heads, planned.head_size) == (8, 2, 128)


def test_the_quadratic_wall(server) -> None:
    plans = [plan(server, make.seeded(tokens=tokens, width=64, heads=1)) for tokens in (4096, 8192)]
    attention = [p.flops - p.projection_flops for p in plans]
    assert attention[1] == 4 * attention[0]
    assert plans[1].projection_flops == 2 * plans[0].projection_flops
    assert plans[1].score_grid_bytes == 4 * plans[0].score_grid_bytes
    assert 3.5 < plans[1].naive_bytes / plans[0].naive_bytes <= 4
    assert plans[1].flash_bytes < 2.1 * plans[0].flash_bytes


def test_many_heads_cost_what_one_costs(server) -> None:
    many, one = (plan(server, make.seeded(tokens=512, width=512, heads=heads)) for heads in (8, 1))
    assert (many.head_size, one.head_size) == (64, 512)
    assert many.flops == one.flops and many.projection_flops == one.projection_flops
    assert many.score_grid_bytes == 8 * one.score_grid_bytes


def spec_request(*shape: int, **options) -> service_pb.PlanAttentionRequest:
    request = service_pb.PlanAttentionRequest(options=options_pb.AttentionOptions(**options))
    for name in ("query", "key", "value"):
        spec = tensor_pb.TensorSpec(shape=shape, kind=tensor_pb.TENSOR_KIND_F32)
        getattr(request.query_key_value, name).CopyFrom(spec)
    return request


def large_map() -> service_pb.PlanAttentionRequest:
    request = spec_request(1, 1, 16384, 8)
    request.outputs.maps.append(full_map())
    return request


TOO_LARGE = {
    "tokens": (spec_request(1, 1, 16385, 8), {"query_key_value.query.shape", "query_key_value.key.shape"}),
    "batch": (spec_request(65, 1, 4, 8), {"query_key_value.query.shape"}),
    "heads": (spec_request(1, 129, 4, 8), {"options.query_heads"}),
    "naive's grid": (spec_request(8, 8, 16384, 8, algorithm=NAIVE), {"options.algorithm"}),
    "answer": (large_map(), {"outputs"}),
}


@pytest.mark.parametrize("name", TOO_LARGE, ids=spaced)
def test_what_is_too_large_is_told_and_no_error(server, name) -> None:
    request, fields = TOO_LARGE[name]
    violations = server.stub.PlanAttention(request, timeout=10).violations
    assert {v.field for v in violations} == fields
    assert all(v.got and v.expected for v in violations)


def test_a_malformed_plan_is_an_error(server) -> None:
    request = spec_request(1, 2, 4, 8, softcap=-1, sinks=[1.0])
    failure = refusal_of(
        lambda: server.stub.PlanAttention(request, timeout=10), StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"
    )
    assert set(failure.violations) == {"options.softcap", "options.sinks"}


def test_a_plan_of_nothing(server) -> None:
    failure = failure_of(lambda: server.stub.PlanAttention(service_pb.PlanAttentionRequest(), timeout=10))
    assert failure.code == StatusCode.INVALID_ARGUMENT
    assert set(failure.violations) == {"input"}


def test_a_plan_without_a_kind(server) -> None:
    request = spec_request(1, 2, 4, 8)
    request.query_key_value.key.kind = tensor_pb.TENSOR_KIND_UNSPECIFIED
    failure = failure_of(lambda: server.stub.PlanAttention(request, timeout=10))
    assert failure.code == StatusCode.INVALID_ARGUMENT
    assert set(failure.violations) == {"query_key_value.key.kind"}


def test_a_plan_for_a_layer_that_there_is_not(server) -> None:
    request = make.seeded(tokens=4, width=8, heads=2)
    request.self_attention.layer = "nobody's"
    with pytest.raises(grpc.RpcError) as caught:
        plan(server, request)
    assert caught.value.code() == StatusCode.NOT_FOUND
