"""CompareAlgorithms: naive, flash and the double reference on one input."""

import make
import numpy as np
import pytest
from grpc import StatusCode
from make import BOTTOM_RIGHT, HALVES, TOP_LEFT, Sizes, cross, embeddings, qkv
from reference import attend
from rpc_errors import refusal_of
from wire import BF16, F16, F32, FLASH, NAIVE, options_pb, service_pb, tensor

MIB = 2**20
BOUND = 1e-5


def plain(rng) -> service_pb.AttendRequest:
    return qkv(rng, Sizes(heads=4, tokens=300, keys=700, size=32, batch=2))


def grouped_rotary(rng) -> service_pb.AttendRequest:
    request = qkv(rng, Sizes(heads=4, key_heads=2, tokens=130, size=16), rank=3)
    request.options.position.rotary.layout = HALVES
    request.options.mask.causal.alignment = TOP_LEFT
    return request


def with_rows_that_see_nothing(rng) -> service_pb.AttendRequest:
    request = qkv(rng, Sizes(tokens=90, keys=70, batch=2))
    request.options.mask.causal.alignment = BOTTOM_RIGHT
    request.options.mask.key_lengths.extend([70, 0])
    return request


def masked_alibi(rng) -> service_pb.AttendRequest:
    request = qkv(rng, Sizes(heads=3, tokens=80), rank=2)
    request.options.position.alibi.SetInParent()
    bias = np.where(rng.random((80, 80)) < 0.4, -np.inf, 0.5).astype(F32)
    request.options.mask.tensor.CopyFrom(tensor(bias))
    return request


def layer(rng) -> service_pb.AttendRequest:
    request = embeddings(rng, Sizes(heads=4, tokens=200, size=16, batch=2))
    request.options.position.sinusoidal.layout = make.INTERLEAVED
    return request


def context(rng) -> service_pb.AttendRequest:
    return cross(rng, Sizes(heads=2, tokens=70, keys=90, batch=2), context_width=24)


def all_seeded(rng) -> service_pb.AttendRequest:
    return make.seeded(tokens=333, width=64, heads=4)


def demo(rng) -> service_pb.AttendRequest:
    request = make.seeded(tokens=20, width=16, heads=3)
    request.self_attention.layer = "demo"
    return request


REQUESTS = [plain, grouped_rotary, with_rows_that_see_nothing, masked_alibi, layer, context, all_seeded, demo]


def differences(answer: service_pb.CompareAlgorithmsResponse) -> dict[str, service_pb.Difference]:
    names = ("naive_flash", "naive_reference", "flash_reference")
    return {name: getattr(answer, name) for name in names}


@pytest.mark.parametrize("maker", REQUESTS, ids=lambda maker: maker.__name__)
def test_all_three_agree(server, rng, maker) -> None:
    request = maker(rng)
    answer = server.compare(request)
    shape = list(server.attend(request).output.shape)
    rows = shape[0] * shape[1] if len(shape) == 3 else shape[0]
    if len(shape) == 4:
        rows = shape[0] * shape[2]
    assert answer.reference.rows == answer.reference.rows_total == rows
    for name, difference in differences(answer).items():
        assert 0 <= difference.mean_abs_difference <= difference.max_abs_difference <= BOUND, name
        assert len(difference.index) == len(shape)
        assert all(0 <= at < size for at, size in zip(difference.index, shape, strict=True))
    assert answer.naive_flash.rows_compared >= answer.naive_reference.rows_compared > 0


@pytest.mark.parametrize("kind", [F16, BF16], ids=lambda kind: kind.name)
def test_16_bit_inputs_are_compared_before_rounding(server, rng, kind) -> None:
    answer = server.compare(qkv(rng, Sizes(heads=2, tokens=100, keys=600, size=16, kind=kind)))
    for name, difference in differences(answer).items():
        assert difference.max_abs_difference <= BOUND, name


@pytest.mark.parametrize("maker", [plain, layer], ids=lambda maker: maker.__name__)
def test_what_each_took(server, rng, maker) -> None:
    request = maker(rng)
    answer = server.compare(request)
    assert (answer.naive.algorithm, answer.flash.algorithm) == (NAIVE, FLASH)
    assert answer.naive.scratch_bytes >= answer.naive.score_grid_bytes == answer.flash.score_grid_bytes > 0
    assert 0 < answer.flash.scratch_bytes / answer.flash.workers < MIB
    assert answer.naive.workspace_bytes > answer.flash.workspace_bytes
    assert answer.naive.flops == answer.flash.flops == attend(request).flops
    assert answer.reference.flops > 0 and answer.reference.workspace_bytes > 0
    for run in (answer.naive, answer.flash, answer.reference):
        assert run.total.ToNanoseconds() > 0
    assert answer.naive.position_scheme == answer.flash.position_scheme


def test_a_large_problem_compares_evenly_spread_rows(server) -> None:
    request = make.seeded(tokens=1600, width=512, heads=4)
    answer = server.compare(request)
    assert answer.reference.rows_total == 1600
    assert 1 <= answer.reference.rows < 1600
    assert answer.reference.flops <= 2_000_000_000
    assert answer.naive_flash.rows_compared == 1600
    assert answer.flash_reference.rows_compared == answer.naive_reference.rows_compared == answer.reference.rows
    for name, difference in differences(answer).items():
        assert difference.max_abs_difference <= BOUND, name
    assert answer.flash.scratch_bytes / answer.flash.workers < MIB


def test_the_algorithm_and_the_outputs_do_not_matter(server, rng) -> None:
    request = plain(rng)
    before = differences(server.compare(request))
    request.options.algorithm = options_pb.ALGORITHM_NAIVE
    request.outputs.log_sum_exp = True
    request.outputs.maps.append(make.top_keys(2))
    answer = server.compare(request)
    assert (answer.naive.algorithm, answer.flash.algorithm) == (NAIVE, FLASH)
    assert differences(answer) == before


def test_bad_values_are_refused_here_too(server, rng) -> None:
    request = plain(rng)
    data = bytearray(request.query_key_value.value.f32_le)
    data[4:8] = np.array([np.nan], dtype=F32).tobytes()
    request.query_key_value.value.f32_le = bytes(data)
    failure = refusal_of(lambda: server.compare(request), StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert "[0, 0, 0, 1]" in failure.violations["query_key_value.value"]
