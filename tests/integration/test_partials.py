"""Attention to parts of the keys, joined: the whole, however the keys were split.

Every form, position and mask of test_forms that has Q, K and V is split into 1 to 7 parts.
"""

from collections.abc import Iterator

import numpy as np
import pytest
import test_forms
from make import Sizes, bits, canary, normal, qkv, with_algorithm
from reference import Expected, assert_close, attend
from rpc_errors import failure_of
from wire import ALGORITHM_NAMES, ALGORITHMS, BF16, F16, F32, KINDS, array, options_pb, service_pb, tensor

MAKERS = {
    name: maker
    for table in (test_forms.INPUTS, test_forms.POSITIONS, test_forms.MASKS)
    for name, maker in table.items()
    if maker(np.random.default_rng(0)).HasField("query_key_value")
}


def of_the_merge(request: service_pb.AttendRequest) -> service_pb.MergePartialsRequest:
    """Takes out of a request what is applied once, to all parts together."""
    merge = service_pb.MergePartialsRequest(sinks=request.options.sinks, head_gains=request.options.head_gains)
    request.options.ClearField("sinks")
    request.options.ClearField("head_gains")
    return merge


def split(request: service_pb.AttendRequest, ends: list[int]) -> Iterator[service_pb.AttendRequest]:
    """The same request for keys 0 .. ends[0] - 1, ends[0] .. ends[1] - 1, and so on."""
    key, value = array(request.query_key_value.key), array(request.query_key_value.value)
    for begin, end in zip([0, *ends], ends, strict=False):
        part = service_pb.AttendRequest()
        part.CopyFrom(request)
        part.query_key_value.key.CopyFrom(tensor(key[..., begin:end, :]))
        part.query_key_value.value.CopyFrom(tensor(value[..., begin:end, :]))
        part.query_key_value.part.begin, part.query_key_value.part.end = begin, end
        part.query_key_value.part.total_keys = ends[-1]
        part.outputs.log_sum_exp = True
        part.outputs.tensor_kind = KINDS[F32]  # rounded once, when they are joined
        yield part


def random_ends(rng: np.random.Generator, keys: int, parts: int) -> list[int]:
    inner = rng.choice(np.arange(1, keys), size=min(parts, keys) - 1, replace=False) if keys > 1 else []
    return [*sorted(int(end) for end in inner), keys]


def check(server, request: service_pb.AttendRequest, want: Expected, parts: int, rng: np.random.Generator) -> None:
    whole = service_pb.AttendRequest()
    whole.CopyFrom(request)
    merge = of_the_merge(whole)
    merge.tensor_kind = KINDS[want.kind]
    keys = whole.query_key_value.key.shape[-2]
    answers = [server.attend(part) for part in split(whole, random_ends(rng, keys, parts))]
    for answer in answers:
        merge.partials.add(output=answer.output, log_sum_exp=answer.log_sum_exp)
    joined = server.stub.MergePartials(merge, timeout=20)
    assert_close(array(joined.output), want.output)
    assert_close(array(joined.log_sum_exp), want.log_sum_exp, "log_sum_exp")


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=ALGORITHM_NAMES)
@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS.keys())
def test_split_and_joined(server, rng, maker, algorithm: int) -> None:
    request = maker(rng)
    want = attend(request)
    for parts in (1, 2, 3, 7):
        check(server, with_algorithm(request, algorithm), want, parts, rng)


def test_many_keys_in_each_way(server, rng) -> None:
    """Tiles and more in each part, 1 to 7 of them, with everything that counts keys."""
    request = qkv(rng, Sizes(heads=4, key_heads=2, tokens=70, keys=900, size=16, batch=2))
    options = request.options
    options.mask.causal.alignment = options_pb.CAUSAL_ALIGNMENT_BOTTOM_RIGHT
    options.mask.window.left = 600
    options.mask.key_lengths[:] = [900, 511]
    options.mask.segments.query_ids[:] = [0] * 70
    options.mask.segments.key_ids[:] = [0, 0, 1] * 300
    options.mask.tensor.CopyFrom(tensor(normal(rng, (2, 1, 70, 850))))
    options.position.alibi.SetInParent()
    options.position.query_offset = 830
    options.sinks[:] = [1, -2, 0.5, 3]
    options.head_gains[:] = [1, 0, 2, -1]
    want = attend(request)
    for parts in range(1, 8):
        check(server, request, want, parts, rng)


@pytest.mark.parametrize("kind", [F32, F16, BF16], ids=["f32", "f16", "bf16"])
@pytest.mark.parametrize("rank", [2, 3, 4])
def test_output_weights_are_applied_once(server, rng, rank, kind) -> None:
    """Of parts of any kind."""
    heads = normal(rng, (2, 1, 3, 9, 8), kind)
    log_sum_exp = normal(rng, (2, 1, 3, 9))
    weights, bias = normal(rng, (24, 5), kind, spread=0.2), normal(rng, (5,), kind)
    shares = np.exp(log_sum_exp.astype(np.float64))
    joined = (heads.astype(np.float64) * (shares / shares.sum(axis=0))[..., None]).sum(axis=0)
    want = np.moveaxis(joined, 1, 2).reshape(1, 9, 24) @ weights.astype(np.float64) + bias.astype(np.float64)
    want = want[0] if rank == 2 else want
    shaped = [part if rank == 4 else np.moveaxis(part, 1, 2).reshape((1, 9, 24)[4 - rank - 1 :]) for part in heads]
    merge = service_pb.MergePartialsRequest(output_weights=tensor(weights), output_bias=tensor(bias))
    for output, lse in zip(shaped, log_sum_exp, strict=True):
        merge.partials.add(output=tensor(output), log_sum_exp=tensor(lse))
    assert array(server.stub.MergePartials(merge, timeout=20).output).dtype == kind
    merge.tensor_kind = KINDS[F32]
    assert_close(array(server.stub.MergePartials(merge, timeout=20).output), want)


def test_joined_again(server, rng) -> None:
    """What was joined is a part, too; a row that sees nothing is zeros and -inf."""
    request = qkv(rng, Sizes(tokens=6, keys=10))
    request.options.mask.causal.alignment = options_pb.CAUSAL_ALIGNMENT_EXPLICIT
    request.options.mask.causal.offset = -2
    want = attend(request)
    a, b, c = (server.attend(part) for part in split(request, [3, 7, 10]))
    merge = service_pb.MergePartialsRequest()
    for answer in (a, b):
        merge.partials.add(output=answer.output, log_sum_exp=answer.log_sum_exp)
    first = server.stub.MergePartials(merge, timeout=20)
    again = service_pb.MergePartialsRequest()
    for answer in (first, c):
        again.partials.add(output=answer.output, log_sum_exp=answer.log_sum_exp)
    joined = server.stub.MergePartials(again, timeout=20)
    assert_close(array(joined.output), want.output)
    assert np.isneginf(array(joined.log_sum_exp)[0, :, :2]).all() and not array(joined.output)[0, :, :2].any()


def test_maps_count_the_parts_own_keys(server, rng) -> None:
    request = qkv(rng, Sizes(tokens=6, keys=10))
    request.outputs.maps.add().full.SetInParent()
    _, part = (server.attend(part) for part in split(request, [4, 10]))
    weights = array(part.maps[0].weights)
    assert weights.shape == (6, 6) and part.maps[0].key_begin == 0
    want = attend(request).weights[0, 0, :, 4:]
    assert_close(weights, want / want.sum(-1, keepdims=True), "weights")


def test_the_whole_as_one_part_has_the_same_bits(server, rng) -> None:
    request = qkv(rng, Sizes(tokens=40, keys=300))
    request.outputs.log_sum_exp = True
    (part,) = split(request, [300])
    assert bits(server.attend(part)) == bits(server.attend(request))


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        (lambda r: setattr(r.query_key_value.part, "end", 12), {"query_key_value.part"}),
        (lambda r: setattr(r.query_key_value.part, "begin", 4), {"query_key_value.part"}),
        (lambda r: setattr(r.query_key_value.part, "begin", 3), {"query_key_value.part"}),
        (lambda r: setattr(r.query_key_value.part, "total_keys", 2**31), {"query_key_value.part.total_keys"}),
        (lambda r: setattr(r.query_key_value.part, "total_keys", 0), {"query_key_value.part.total_keys"}),
        (lambda r: r.options.sinks.extend([0, 0]), {"options.sinks"}),
        (lambda r: r.options.head_gains.extend([1, 1]), {"options.head_gains"}),
        (lambda r: setattr(r.outputs, "head_statistics", True), {"outputs.head_statistics"}),
        (lambda r: r.options.mask.key_lengths.extend([11]), {"options.mask.key_lengths[0]"}),
        (lambda r: r.options.position.key_positions.extend(range(4)), {"options.position.key_positions"}),
    ],
)  # fmt: skip
def test_what_a_part_may_not_be(server, rng, change, fields) -> None:
    request = qkv(rng, Sizes(tokens=6, keys=10))
    part = next(split(request, [4, 10]))
    change(part)
    failure = failure_of(lambda: server.attend(part))
    assert set(failure.violations) == fields


def partial(output: tuple[int, ...], log_sum_exp: tuple[int, ...]) -> service_pb.PartialAttention:
    return service_pb.PartialAttention(
        output=tensor(np.zeros(output, F32)), log_sum_exp=tensor(np.zeros(log_sum_exp, F32))
    )


def test_a_part_like_no_other(server) -> None:
    """All that is wrong, at once."""
    merge = service_pb.MergePartialsRequest(
        partials=[
            partial((1, 2, 3, 4), (1, 2, 3)),
            partial((1, 2, 3, 5), (1, 2, 4)),
            service_pb.PartialAttention(),
            partial((1, 3, 8), (3, 2)),
        ],
        sinks=[1, 2, 3],
        head_gains=[np.nan, 1],
        output_weights=tensor(np.zeros((7, 2), F32)),
        output_bias=tensor(np.zeros((3,), F32)),
    )
    merge.tensor_kind = 4
    failure = failure_of(lambda: server.stub.MergePartials(merge, timeout=10))
    found = {
        "partials[1].output.shape", "partials[1].log_sum_exp.shape", "partials[2].output", "partials[2].log_sum_exp",
        "partials[3].output.shape", "partials[3].log_sum_exp.shape", "sinks", "head_gains[0]", "output_weights.shape",
        "tensor_kind",
    }  # fmt: skip
    assert failure.violation_count == len(found) and set(failure.violations) < found


def test_no_part_and_too_many(server) -> None:
    none = failure_of(lambda: server.stub.MergePartials(service_pb.MergePartialsRequest(), timeout=10))
    assert set(none.violations) == {"partials"}
    many = service_pb.MergePartialsRequest(partials=[partial((1, 1, 1, 1), (1, 1, 1))] * 1025)
    failure = failure_of(lambda: server.stub.MergePartials(many, timeout=10))
    assert set(failure.violations) == {"partials"} and failure.reason == "REQUEST_TOO_EXPENSIVE"


@pytest.mark.parametrize(("field", "value"), [("output", np.nan), ("output", np.inf), ("log_sum_exp", np.nan), ("log_sum_exp", np.inf)])
def test_values_that_are_no_numbers(server, field, value) -> None:
    good, bad = partial((1, 2, 3, 4), (1, 2, 3)), partial((1, 2, 3, 4), (1, 2, 3))
    spoiled = array(getattr(bad, field)).copy()
    spoiled[0, 1, 2] = value
    getattr(bad, field).CopyFrom(tensor(spoiled))
    merge = service_pb.MergePartialsRequest(partials=[good, bad])
    failure = failure_of(lambda: server.stub.MergePartials(merge, timeout=10))
    assert set(failure.violations) == {f"partials[1].{field}"}
    assert server.attend(canary()).HasField("output")
