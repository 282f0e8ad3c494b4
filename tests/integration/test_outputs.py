"""What comes back: chosen maps, top keys, statistics of rows, kinds, sizes, and the record of what ran."""

import itertools

import make
import numpy as np
import pytest
from grpc import StatusCode
from make import BOTTOM_RIGHT, EXPLICIT, TOP_LEFT, Sizes, embeddings, full_map, normal, qkv, top_keys, with_algorithm
from reference import assert_close, attend
from rpc_errors import refusal_of
from wire import BF16, F16, F32, FLASH, KINDS, NAIVE, array, options_pb, outputs_pb, tensor

WEIGHTS = outputs_pb.MAP_STAGE_WEIGHTS
MIB = 2**20


def ranges(*pairs: tuple[int, int]) -> list[outputs_pb.RowRange]:
    return [outputs_pb.RowRange(begin=begin, end=end) for begin, end in pairs]


def keys(begin: int, end: int) -> outputs_pb.RowRange:
    return outputs_pb.RowRange(begin=begin, end=end)


def request_with_maps(rng, algorithm: int, *maps: outputs_pb.WeightMaps, sizes: Sizes | None = None):
    request = with_algorithm(qkv(rng, sizes or Sizes(heads=4, tokens=90, keys=200, batch=3)), algorithm)
    request.outputs.maps.extend(maps)
    return request


def check_top_row(got: list[tuple[int, float]], weights: np.ndarray, first_key: int, k: int) -> None:
    """The k largest of a row, by descending weight, ties to the lower key."""
    found = np.array([weight for _, weight in got])
    order = [key for key, _ in got]
    assert len(got) == min(k, int(np.count_nonzero(weights)))
    assert got == sorted(got, key=lambda pair: (-pair[1], pair[0]))
    assert len(set(order)) == len(order)
    assert_close(found, weights[np.array(order, dtype=int) - first_key], "top weights")
    assert_close(found, np.sort(weights)[::-1][: len(got)], "top weights against the largest")


def top_rows(result: outputs_pb.TopKeysResult) -> list[list[tuple[int, float]]]:
    """Keys and weights by row."""
    assert sum(result.counts) == len(result.keys) == len(result.weights)
    pairs = iter(zip(result.keys, result.weights, strict=True))
    return [list(itertools.islice(pairs, count)) for count in result.counts]


# Full maps.


def test_full_maps_of_chosen_heads_batches_rows_and_keys(server, rng, algorithm) -> None:
    rows = ranges((0, 1), (60, 70), (5, 90))
    asked = full_map(heads=[3, 1], batches=[2, 0], rows=rows, keys=keys(50, 180))
    request = request_with_maps(rng, algorithm, asked)
    want = attend(request).weights
    answer = server.attend(request)
    places = [(m.batch, m.head, m.row_begin, m.row_end) for m in answer.maps]
    asked_places = itertools.product((2, 0), (3, 1), rows)
    assert places == [(b, h, r.begin, r.end) for b, h, r in asked_places]
    for m in answer.maps:
        assert (m.request_index, m.stage, m.key_begin) == (0, WEIGHTS, 50)
        assert_close(array(m.weights), want[m.batch, m.head, m.row_begin : m.row_end, 50:180], "map")


def test_rows_of_a_whole_map_add_up_to_one(server, rng, algorithm) -> None:
    request = request_with_maps(rng, algorithm, full_map())
    maps = server.attend(request).maps
    assert len(maps) == 12
    for m in maps:
        weights = array(m.weights)
        assert weights.shape == (90, 200) and weights.min() >= 0
        assert np.abs(weights.sum(axis=1, dtype=np.float64) - 1).max() < 1e-5


def test_weights_times_values_are_the_head_output(server, rng, algorithm) -> None:
    request = request_with_maps(rng, algorithm, full_map(), sizes=Sizes(heads=2, tokens=20, keys=300))
    request.outputs.head_outputs = True
    answer = server.attend(request)
    value = array(request.query_key_value.value)[0].astype(np.float64)
    for m in answer.maps:
        blended = array(m.weights).astype(np.float64) @ value[m.head]
        assert_close(array(answer.head_outputs)[0, m.head], blended, "head output", times=2)


def test_several_map_requests_come_back_in_their_order(server, rng, algorithm) -> None:
    asked = [full_map(heads=[0], rows=ranges((0, 3))), top_keys(2, heads=[1]), full_map(heads=[2, 0], batches=[1])]
    request = request_with_maps(rng, algorithm, *asked)
    answer = server.attend(request)
    places = [(m.request_index, m.batch, m.head, m.WhichOneof("form")) for m in answer.maps]
    full, top = "weights", "top_keys"
    first = [(0, b, 0, full) for b in range(3)] + [(1, b, 1, top) for b in range(3)]
    assert places == [*first, (2, 1, 2, full), (2, 1, 0, full)]


def test_eight_map_requests_are_allowed(server, rng, algorithm) -> None:
    asked = [full_map(heads=[i % 4], batches=[0], rows=ranges((i, i + 1))) for i in range(8)]
    request = request_with_maps(rng, algorithm, *asked)
    want = attend(request).weights
    maps = server.attend(request).maps
    assert [m.request_index for m in maps] == list(range(8))
    for i, m in enumerate(maps):
        assert_close(array(m.weights), want[0, i % 4, i : i + 1], "map")


def test_maps_of_masked_rows(server, rng, algorithm) -> None:
    request = request_with_maps(rng, algorithm, full_map(), sizes=Sizes(tokens=80, keys=70, batch=2))
    request.options.mask.causal.alignment = BOTTOM_RIGHT
    request.options.mask.key_lengths.extend([70, 30])
    want = attend(request).weights
    for m in server.attend(request).maps:
        weights = array(m.weights)
        assert_close(weights, want[m.batch, m.head], "map")
        assert not weights[want[m.batch, m.head] == 0].any(), "a forbidden pair has weight"
        assert not weights[0].any(), "a row that sees nothing has weights"


@pytest.mark.parametrize("kind", [F16, BF16], ids=lambda kind: kind.name)
def test_16_bit_maps(server, rng, algorithm, kind) -> None:
    request = request_with_maps(rng, algorithm, full_map(heads=[1], rows=ranges((10, 75))))
    request.outputs.tensor_kind = KINDS[kind]
    want = attend(request).weights
    maps = server.attend(request).maps
    assert len(maps) == 3
    for m in maps:
        assert array(m.weights).dtype == kind
        assert_close(array(m.weights), want[m.batch, 1, 10:75], "map")


def test_maps_of_a_rank_2_request_keep_batch_0(server, rng, algorithm) -> None:
    request = with_algorithm(embeddings(rng, Sizes(heads=2, tokens=5), rank=2), algorithm)
    answer = server.attend(make.everything(request))
    assert list(answer.output.shape) == [5, 16]
    assert [(m.batch, m.head) for m in answer.maps] == [(0, 0), (0, 1)]
    assert list(answer.log_sum_exp.shape) == [1, 2, 5]
    assert list(answer.head_outputs.shape) == [1, 2, 5, 8]


# Top keys.


@pytest.mark.parametrize("k", [1, 5, 200, 1024])
def test_top_keys(server, rng, algorithm, k) -> None:
    rows = ranges((0, 2), (63, 66), (89, 90))
    request = request_with_maps(rng, algorithm, top_keys(k, heads=[2, 0], batches=[1], rows=rows))
    want = attend(request).weights
    maps = server.attend(request).maps
    assert len(maps) == 6
    for m in maps:
        rows_got = top_rows(m.top_keys)
        assert len(rows_got) == m.row_end - m.row_begin
        for row, got in enumerate(rows_got, m.row_begin):
            check_top_row(got, want[m.batch, m.head, row], 0, k)


def test_top_keys_within_a_range_of_keys(server, rng, algorithm) -> None:
    request = request_with_maps(rng, algorithm, top_keys(4, keys=keys(100, 130), heads=[0], batches=[0]))
    want = attend(request).weights[0, 0, :, 100:130]
    (m,) = server.attend(request).maps
    assert m.key_begin == 100
    for row, got in enumerate(top_rows(m.top_keys)):
        assert all(100 <= key < 130 for key, _ in got)
        check_top_row(got, want[row], 100, 4)


def test_ties_go_to_the_lower_key(server, rng, algorithm) -> None:
    request = request_with_maps(rng, algorithm, top_keys(3), sizes=Sizes(heads=1, tokens=4, keys=150))
    same = np.tile(normal(rng, (1, 1, 1, 8)), (1, 1, 150, 1))
    request.query_key_value.key.CopyFrom(tensor(same))
    (m,) = server.attend(request).maps
    assert list(m.top_keys.counts) == [3] * 4
    assert list(m.top_keys.keys) == [0, 1, 2] * 4


def test_top_keys_leave_forbidden_keys_out(server, rng, algorithm) -> None:
    request = request_with_maps(rng, algorithm, top_keys(3), sizes=Sizes(heads=1, tokens=6, keys=6))
    request.options.mask.causal.alignment = EXPLICIT
    request.options.mask.causal.offset = -2
    (m,) = server.attend(request).maps
    assert list(m.top_keys.counts) == [0, 0, 1, 2, 3, 3]
    for row, got in enumerate(top_rows(m.top_keys)):
        assert all(key <= row - 2 for key, _ in got)


# Log-sum-exp, head outputs, and leaving the output out.


def test_log_sum_exp_of_empty_rows(server, rng, algorithm) -> None:
    request = with_algorithm(qkv(rng, Sizes(tokens=4, keys=70, batch=2)), algorithm)
    request.options.mask.key_lengths.extend([0, 70])
    request.outputs.log_sum_exp = True
    answer = server.attend(request)
    values = array(answer.log_sum_exp)
    assert values.dtype == F32 and values.shape == (2, 2, 4)
    assert np.isneginf(values[0]).all()
    assert_close(values[1], attend(request).log_sum_exp[1], "log_sum_exp")
    assert not array(answer.output)[0].any(), "rows that see nothing are zero"


@pytest.mark.parametrize("kind", [F32, F16, BF16], ids=lambda kind: kind.name)
def test_log_sum_exp_is_float32_whatever_the_input(server, rng, algorithm, kind) -> None:
    request = with_algorithm(qkv(rng, Sizes(tokens=70, keys=90, kind=kind)), algorithm)
    request.outputs.log_sum_exp = True
    request.outputs.omit_output = True
    answer = server.attend(request)
    assert not answer.HasField("output")
    assert array(answer.log_sum_exp).dtype == F32
    assert_close(array(answer.log_sum_exp), attend(request).log_sum_exp, "log_sum_exp")


@pytest.mark.parametrize("what", ["maps", "log_sum_exp", "head_outputs"])
def test_omit_output_leaves_the_rest(server, rng, algorithm, what) -> None:
    request = with_algorithm(embeddings(rng, Sizes(heads=2, tokens=20, batch=2)), algorithm)
    everything = make.everything(request)
    request.outputs.omit_output = True
    if what == "maps":
        request.outputs.maps.append(full_map())
    else:
        setattr(request.outputs, what, True)
    answer, whole = server.attend(request), server.attend(everything)
    present = {descriptor.name for descriptor, _ in answer.ListFields()}
    assert present == {what, "execution"}
    assert getattr(answer, what) == getattr(whole, what)


def test_head_outputs_are_before_the_output_matrix(server, rng, algorithm) -> None:
    request = with_algorithm(embeddings(rng, Sizes(heads=3, tokens=20, size=8, value_size=5, width=12)), algorithm)
    request.outputs.head_outputs = True
    answer = server.attend(request)
    assert list(answer.head_outputs.shape) == [1, 3, 20, 5]
    assert list(answer.output.shape) == [1, 20, 12]
    assert_close(array(answer.head_outputs), attend(request).head_outputs, "head_outputs")


# How large an answer may be.


def test_max_response_bytes(server, rng, algorithm) -> None:
    request = request_with_maps(rng, algorithm, full_map())
    request.outputs.max_response_bytes = 10_000
    failure = refusal_of(lambda: server.attend(request), StatusCode.INVALID_ARGUMENT, "RESPONSE_TOO_LARGE")
    assert list(failure.violations) == ["outputs"]
    assert failure.metadata["limit_bytes"] == "10000"
    needed = int(failure.metadata["response_bytes"])
    request.outputs.max_response_bytes = needed - 1
    refusal_of(lambda: server.attend(request), StatusCode.INVALID_ARGUMENT, "RESPONSE_TOO_LARGE")
    request.outputs.max_response_bytes = needed
    answer = server.attend(request)
    assert len(answer.maps) == 12
    assert 0.9 * needed < answer.ByteSize() <= needed


def test_an_answer_beyond_the_servers_limit(server, algorithm) -> None:
    request = make.seeded(tokens=8192, width=16, heads=2)
    request.options.algorithm = algorithm
    request.outputs.maps.append(full_map(heads=[0]))
    request.outputs.maps.append(full_map(heads=[1], rows=ranges((0, 1))))
    failure = refusal_of(lambda: server.attend(request), StatusCode.INVALID_ARGUMENT, "RESPONSE_TOO_LARGE")
    assert int(failure.metadata["response_bytes"]) > 256 * MIB
    assert int(failure.metadata["limit_bytes"]) == 256 * MIB


# Execution.


def test_execution_says_what_ran(server, rng, algorithm) -> None:
    request = with_algorithm(
        qkv(rng, Sizes(heads=6, key_heads=2, tokens=70, keys=600, size=8, value_size=4)), algorithm
    )
    ran = server.attend(request).execution
    assert ran.algorithm == (algorithm or FLASH)
    assert ran.algorithm_reason
    assert (ran.query_heads, ran.key_value_heads, ran.head_size, ran.value_head_size) == (6, 2, 8, 4)
    assert ran.precision == options_pb.COMPUTE_PRECISION_FLOAT32
    assert ran.causal_alignment == options_pb.CAUSAL_ALIGNMENT_UNSPECIFIED
    assert ran.position_scheme == "none"
    assert ran.scale == pytest.approx(8**-0.5, rel=1e-15)
    assert 0 < ran.tile_query_rows <= 70 + 15 and 0 < ran.tile_keys <= 600 + 15
    assert 1 <= ran.workers <= 2
    assert ran.score_grid_bytes == 6 * 70 * 600 * 4
    parts = [ran.queue, ran.project, ran.attend, ran.maps]
    assert ran.attend.ToNanoseconds() > 0
    assert sum(part.ToNanoseconds() for part in parts) <= ran.total.ToNanoseconds() + 1000 * len(parts)


def test_the_server_takes_flash_even_where_there_is_nothing_to_save(server, rng, algorithm) -> None:
    request = with_algorithm(qkv(rng, Sizes(tokens=4)), algorithm)
    assert server.attend(request).execution.algorithm == (algorithm or FLASH)


def test_cpu_target_is_the_servers(server, rng, algorithm) -> None:
    info = server.stub.GetServerInfo(make.service_pb.GetServerInfoRequest(), timeout=10)
    ran = server.attend(with_algorithm(qkv(rng), algorithm)).execution
    assert ran.cpu_target == info.cpu_target


@pytest.mark.parametrize("scheme", ["none", "sinusoidal", "learned", "rotary", "alibi"])
def test_position_scheme_is_echoed(server, rng, algorithm, scheme) -> None:
    request = with_algorithm(embeddings(rng, Sizes(tokens=5)), algorithm)
    getattr(request.options.position, scheme).SetInParent()
    if scheme in ("sinusoidal", "rotary"):
        getattr(request.options.position, scheme).layout = make.HALVES
    if scheme == "learned":
        request.options.position.learned.table.CopyFrom(tensor(normal(rng, (5, 16))))
    assert server.attend(request).execution.position_scheme == scheme


@pytest.mark.parametrize("alignment", [TOP_LEFT, BOTTOM_RIGHT, EXPLICIT])
def test_causal_alignment_is_echoed(server, rng, algorithm, alignment) -> None:
    request = with_algorithm(qkv(rng), algorithm)
    request.options.mask.causal.alignment = alignment
    if alignment == EXPLICIT:
        request.options.mask.causal.offset = 1
    assert server.attend(request).execution.causal_alignment == alignment


@pytest.mark.parametrize("scale", [0.0, -1.5, 0.1])
def test_scale_is_echoed(server, rng, algorithm, scale) -> None:
    request = with_algorithm(qkv(rng), algorithm)
    request.options.scale = scale
    assert server.attend(request).execution.scale == scale


def flops_cases(rng) -> dict[str, object]:
    plain = qkv(rng, Sizes(heads=3, tokens=20, keys=90, size=8, value_size=6, batch=2))
    causal = qkv(rng, Sizes(heads=2, tokens=100, keys=70))
    causal.options.mask.causal.alignment = BOTTOM_RIGHT
    lengths = qkv(rng, Sizes(tokens=9, keys=30, batch=2))
    lengths.options.mask.key_lengths.extend([30, 4])
    lengths.options.mask.causal.alignment = TOP_LEFT
    layer = embeddings(rng, Sizes(heads=4, key_heads=2, tokens=30, size=8, width=20), output_width=11)
    context = make.cross(rng, Sizes(tokens=5, keys=31, batch=2), context_width=12)
    return {"plain": plain, "causal": causal, "lengths": lengths, "layer": layer, "context": context}


@pytest.mark.parametrize("name", ["plain", "causal", "lengths", "layer", "context"])
def test_flops_follow_the_formula(server, rng, algorithm, name) -> None:
    request = with_algorithm(flops_cases(rng)[name], algorithm)
    assert server.attend(request).execution.flops == attend(request).flops


def test_scratch(server, rng, algorithm) -> None:
    request = with_algorithm(qkv(rng, Sizes(heads=4, tokens=900, keys=900, size=64)), algorithm)
    ran = server.attend(request).execution
    assert ran.score_grid_bytes == 4 * 900 * 900 * 4
    if ran.algorithm == FLASH:
        assert 0 < ran.scratch_bytes / ran.workers < MIB
        assert ran.workspace_bytes < ran.score_grid_bytes
    else:
        assert ran.scratch_bytes >= ran.score_grid_bytes
    assert ran.workspace_bytes >= ran.scratch_bytes


@pytest.mark.parametrize("size", [16, 128, 512])
def test_flash_scratch_does_not_grow_with_the_tokens(server, algorithm, size) -> None:
    scratch = []
    for tokens in (600, 2400):
        request = make.seeded(tokens=tokens, width=size, heads=1)
        request.options.algorithm = algorithm
        request.outputs.maps.append(top_keys(3, rows=ranges((0, 5))))
        ran = server.attend(request).execution
        scratch.append(ran.scratch_bytes / ran.workers)
    if algorithm == NAIVE:
        assert scratch[1] > 4 * scratch[0]
    else:
        assert scratch[0] == scratch[1] < MIB


def test_a_projection_takes_bytes_and_a_turn_takes_copies(server, rng, algorithm) -> None:
    plain = server.attend(with_algorithm(qkv(rng, Sizes(tokens=70)), algorithm)).execution
    assert (plain.projection_bytes, plain.packed_bytes) == (0, 0)
    layer = server.attend(with_algorithm(embeddings(rng, Sizes(tokens=70)), algorithm)).execution
    assert layer.projection_bytes >= 3 * 70 * 16 * 4
    turned = with_algorithm(qkv(rng, Sizes(tokens=70)), algorithm)
    turned.options.position.rotary.layout = make.HALVES
    assert server.attend(turned).execution.packed_bytes >= 2 * 70 * 8 * 4
