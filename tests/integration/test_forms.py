"""Every form of input, position scheme and mask, with each algorithm, against the numpy reference."""

from collections.abc import Callable

import numpy as np
import pytest
import wire
from make import BOTTOM_RIGHT, EXPLICIT, HALVES, INTERLEAVED, TOP_LEFT, Sizes, cross, embeddings, everything, normal
from make import qkv, set_layer, with_algorithm
from reference import assert_close, attend
from wire import BF16, F16, F32, array, options_pb, service_pb, tensor, tensor_of_values

Maker = Callable[[np.random.Generator], service_pb.AttendRequest]
INPUTS: dict[str, Maker] = {}
POSITIONS: dict[str, Maker] = {}
MASKS: dict[str, Maker] = {}


def case(table: dict[str, Maker]) -> Callable[[Maker], Maker]:
    def add(maker: Maker) -> Maker:
        table[maker.__name__] = maker
        return maker

    return add


def check(server, request: service_pb.AttendRequest, algorithm: int) -> None:
    """The output alone, then everything at once: all as the reference has it."""
    want = attend(request)
    asking = with_algorithm(request, algorithm)
    plain = server.attend(asking)
    got = array(plain.output)
    assert got.dtype == want.kind
    assert_close(got, want.output)
    assert not plain.maps and not plain.HasField("log_sum_exp") and not plain.HasField("head_outputs")
    if algorithm:
        assert plain.execution.algorithm == algorithm
    check_everything(server.attend(everything(asking)), want)


def check_everything(answer: service_pb.AttendResponse, want) -> None:
    assert_close(array(answer.output), want.output)
    assert answer.log_sum_exp.WhichOneof("data") == "f32_le"
    assert_close(array(answer.log_sum_exp), want.log_sum_exp, "log_sum_exp")
    assert_close(array(answer.head_outputs), want.head_outputs, "head_outputs")
    batch, heads = want.weights.shape[:2]
    assert [(m.batch, m.head) for m in answer.maps] == [(b, h) for b in range(batch) for h in range(heads)]
    weights = np.stack([array(m.weights) for m in answer.maps]).reshape(want.weights.shape)
    assert weights.dtype == want.kind
    assert_close(weights, want.weights, "weights")


# Inputs.


@case(INPUTS)
def rank_4(rng):
    return qkv(rng, Sizes(heads=3, tokens=7, size=12, batch=2))


@case(INPUTS)
def rank_3(rng):
    return qkv(rng, Sizes(heads=3, tokens=9, size=12, batch=2), rank=3)


@case(INPUTS)
def rank_2(rng):
    return qkv(rng, Sizes(heads=2, tokens=5, keys=11, size=4), rank=2)


@case(INPUTS)
def rank_3_by_head_size(rng):
    request = qkv(rng, Sizes(heads=4, tokens=6, size=8), rank=3)
    request.options.query_heads = 0
    request.options.head_size = 8
    return request


@case(INPUTS)
def one_of_everything(rng):
    return qkv(rng, Sizes(heads=1, tokens=1, size=1))


@case(INPUTS)
def odd_sizes(rng):
    return qkv(rng, Sizes(heads=3, tokens=65, keys=131, size=17, value_size=33))


@case(INPUTS)
def several_tiles(rng):
    return qkv(rng, Sizes(heads=2, tokens=200, keys=1100, size=64))


@case(INPUTS)
def one_query_many_keys(rng):
    return qkv(rng, Sizes(heads=4, tokens=1, keys=777, size=32))


@case(INPUTS)
def many_queries_one_key(rng):
    return qkv(rng, Sizes(heads=2, tokens=100, keys=1, size=32))


@case(INPUTS)
def large_heads(rng):
    return qkv(rng, Sizes(heads=1, tokens=33, keys=150, size=512))


@case(INPUTS)
def grouped_heads_rank_4(rng):
    return qkv(rng, Sizes(heads=6, key_heads=2, tokens=10, size=8, batch=2))


@case(INPUTS)
def grouped_heads_rank_3(rng):
    return qkv(rng, Sizes(heads=6, key_heads=3, tokens=10, size=8, batch=2), rank=3)


@case(INPUTS)
def one_key_value_head(rng):
    return qkv(rng, Sizes(heads=5, key_heads=1, tokens=20, keys=30, size=16))


@case(INPUTS)
def one_key_value_head_rank_2(rng):
    return qkv(rng, Sizes(heads=4, key_heads=1, tokens=20, size=16), rank=2)


@case(INPUTS)
def wider_values(rng):
    return qkv(rng, Sizes(heads=2, tokens=12, size=8, value_size=24, batch=2))


@case(INPUTS)
def narrower_values_rank_3(rng):
    return qkv(rng, Sizes(heads=4, key_heads=2, tokens=12, size=16, value_size=5), rank=3)


@case(INPUTS)
def numbers_instead_of_bytes(rng):
    request = qkv(rng, Sizes(heads=2, tokens=4, size=4))
    for name in ("query", "key", "value"):
        given = getattr(request.query_key_value, name)
        given.CopyFrom(tensor_of_values(array(given)))
    return request


@case(INPUTS)
def embeddings_rank_2(rng):
    return embeddings(rng, Sizes(heads=3, tokens=10, size=8), rank=2)


@case(INPUTS)
def embeddings_rank_3(rng):
    return embeddings(rng, Sizes(heads=4, tokens=70, size=16, batch=3))


@case(INPUTS)
def embeddings_without_output_matrix(rng):
    return embeddings(rng, Sizes(heads=2, tokens=9, size=8, value_size=12, width=20), output_width=0)


@case(INPUTS)
def embeddings_without_biases(rng):
    return embeddings(rng, Sizes(heads=2, tokens=9, size=8, batch=2), biases=False)


@case(INPUTS)
def embeddings_with_grouped_heads_and_other_widths(rng):
    sizes = Sizes(heads=6, key_heads=2, tokens=66, size=10, value_size=7, width=45, batch=2)
    return embeddings(rng, sizes, output_width=31)


@case(INPUTS)
def embeddings_with_wide_layers(rng):
    return embeddings(rng, Sizes(heads=8, tokens=40, size=64))


@case(INPUTS)
def cross_attention(rng):
    return cross(rng, Sizes(heads=3, tokens=8, keys=21, size=8, batch=2), context_width=15)


@case(INPUTS)
def cross_attention_rank_2(rng):
    return cross(rng, Sizes(heads=2, key_heads=1, tokens=80, keys=5, size=8), context_width=40, rank=2)


@case(INPUTS)
def seeded_weights(rng):
    return embeddings(rng, Sizes(heads=4, tokens=17, size=8, batch=2), seed=12345)


@case(INPUTS)
def seeded_weights_with_grouped_heads_and_a_head_size(rng):
    request = embeddings(rng, Sizes(heads=4, tokens=17, width=24), seed=2**64 - 1)
    request.options.key_value_heads = 2
    request.options.head_size = 10
    return request


@case(INPUTS)
def seeded_weights_over_a_context(rng):
    request = embeddings(rng, Sizes(heads=2, tokens=6, width=16), seed=3)
    request.self_attention.context.CopyFrom(tensor(normal(rng, (1, 13, 10))))
    return request


@case(INPUTS)
def seeded_embeddings(rng):
    request = service_pb.AttendRequest()
    request.self_attention.seeded_embeddings.seed = 99
    request.self_attention.seeded_embeddings.tokens = 75
    request.self_attention.seeded_embeddings.width = 32
    set_layer(request, rng, Sizes(heads=4, size=8))
    return request


@pytest.mark.parametrize("maker", INPUTS.values(), ids=INPUTS)
def test_input(server, rng, maker: Maker, algorithm: int) -> None:
    check(server, maker(rng), algorithm)


# Positions.


def with_positions(request: service_pb.AttendRequest, **scheme) -> service_pb.AttendRequest:
    request.options.position.CopyFrom(options_pb.PositionScheme(**scheme))
    return request


@case(POSITIONS)
def none(rng):
    return with_positions(qkv(rng), none=options_pb.NoPositions())


@case(POSITIONS)
def none_with_other_lengths(rng):
    return with_positions(qkv(rng, Sizes(tokens=3, keys=8)), none=options_pb.NoPositions())


@case(POSITIONS)
def sinusoidal_interleaved(rng):
    scheme = options_pb.SinusoidalPositions(layout=INTERLEAVED)
    return with_positions(embeddings(rng, Sizes(tokens=70, width=18, batch=2)), sinusoidal=scheme)


@case(POSITIONS)
def sinusoidal_halves_with_base_and_offset(rng):
    scheme = options_pb.SinusoidalPositions(layout=HALVES, base=500.0)
    return with_positions(embeddings(rng, Sizes(tokens=9, width=18)), sinusoidal=scheme, query_offset=-25)


@case(POSITIONS)
def sinusoidal_far_away(rng):
    scheme = options_pb.SinusoidalPositions(layout=INTERLEAVED)
    return with_positions(embeddings(rng, Sizes(tokens=9, width=18)), sinusoidal=scheme, query_offset=2_000_000_000)


@case(POSITIONS)
def sinusoidal_leaves_the_context_alone(rng):
    request = cross(rng, Sizes(tokens=6, keys=10, width=12), context_width=12)
    scheme = options_pb.SinusoidalPositions(layout=INTERLEAVED)
    return with_positions(request, sinusoidal=scheme, query_offset=4)


@case(POSITIONS)
def sinusoidal_with_seeded_embeddings(rng):
    request = seeded_embeddings(rng)
    return with_positions(request, sinusoidal=options_pb.SinusoidalPositions(layout=INTERLEAVED))


@case(POSITIONS)
def learned(rng):
    scheme = options_pb.LearnedPositions(table=tensor(normal(rng, (20, 16))))
    return with_positions(embeddings(rng, Sizes(tokens=12, batch=2)), learned=scheme)


@case(POSITIONS)
def learned_to_the_last_row_of_the_table(rng):
    scheme = options_pb.LearnedPositions(table=tensor(normal(rng, (20, 16))))
    return with_positions(embeddings(rng, Sizes(tokens=12)), learned=scheme, query_offset=8)


@case(POSITIONS)
def learned_over_a_context(rng):
    request = cross(rng, Sizes(tokens=6, keys=3), context_width=9)
    scheme = options_pb.LearnedPositions(table=tensor(normal(rng, (6, 16))))
    return with_positions(request, learned=scheme, query_offset=0)


@case(POSITIONS)
def rotary_halves(rng):
    scheme = options_pb.RotaryPositions(layout=HALVES)
    return with_positions(qkv(rng, Sizes(heads=2, tokens=70, size=16, batch=2)), rotary=scheme)


@case(POSITIONS)
def rotary_interleaved(rng):
    scheme = options_pb.RotaryPositions(layout=INTERLEAVED)
    return with_positions(qkv(rng, Sizes(heads=4, key_heads=2, tokens=33, size=16), rank=3), rotary=scheme)


@case(POSITIONS)
def rotary_of_some_channels_with_base(rng):
    scheme = options_pb.RotaryPositions(layout=HALVES, rotary_size=6, base=100.0)
    return with_positions(qkv(rng, Sizes(tokens=20, size=11)), rotary=scheme)


@case(POSITIONS)
def rotary_interleaved_of_some_channels(rng):
    scheme = options_pb.RotaryPositions(layout=INTERLEAVED, rotary_size=4)
    return with_positions(qkv(rng, Sizes(tokens=20, size=9), rank=2), rotary=scheme)


@case(POSITIONS)
def rotary_with_offsets(rng):
    scheme = options_pb.RotaryPositions(layout=HALVES)
    request = qkv(rng, Sizes(tokens=5, keys=40, size=16))
    return with_positions(request, rotary=scheme, query_offset=35, key_offset=-3)


@case(POSITIONS)
def rotary_of_embeddings(rng):
    scheme = options_pb.RotaryPositions(layout=INTERLEAVED)
    request = embeddings(rng, Sizes(heads=4, key_heads=2, tokens=66, size=8, batch=2))
    return with_positions(request, rotary=scheme, query_offset=11)


@case(POSITIONS)
def rotary_over_a_context(rng):
    scheme = options_pb.RotaryPositions(layout=HALVES)
    request = cross(rng, Sizes(tokens=6, keys=20, size=8), context_width=5)
    return with_positions(request, rotary=scheme, query_offset=14, key_offset=2)


@case(POSITIONS)
def alibi(rng):
    return with_positions(qkv(rng, Sizes(heads=4, tokens=70, size=8)), alibi=options_pb.AlibiBias())


@case(POSITIONS)
def alibi_with_a_head_count_that_is_no_power_of_two(rng):
    return with_positions(qkv(rng, Sizes(heads=11, tokens=12, size=4), rank=3), alibi=options_pb.AlibiBias())


@case(POSITIONS)
def alibi_with_slopes_and_offsets(rng):
    scheme = options_pb.AlibiBias(slopes=[0.5, -0.25, 0.0])
    request = qkv(rng, Sizes(heads=3, tokens=5, keys=90, size=8, batch=2))
    return with_positions(request, alibi=scheme, query_offset=40, key_offset=7)


@case(POSITIONS)
def alibi_of_embeddings(rng):
    request = embeddings(rng, Sizes(heads=2, tokens=30))
    return with_positions(request, alibi=options_pb.AlibiBias(), query_offset=1000)


@pytest.mark.parametrize("maker", POSITIONS.values(), ids=POSITIONS)
def test_positions(server, rng, maker: Maker, algorithm: int) -> None:
    check(server, maker(rng), algorithm)


# Masks and scale.


def causal(alignment: int, **more) -> options_pb.Mask:
    return options_pb.Mask(causal=options_pb.CausalMask(alignment=alignment, **more))


def with_mask(request: service_pb.AttendRequest, mask: options_pb.Mask | None = None, **more):
    if mask is not None:
        request.options.mask.CopyFrom(mask)
    request.options.mask.MergeFrom(options_pb.Mask(**more))
    return request


def some_true(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.random(shape) < 0.6


def additive(rng: np.random.Generator, shape: tuple[int, ...], kind=F32) -> np.ndarray:
    """A bias that forbids some pairs."""
    return np.where(rng.random(shape) < 0.3, -np.inf, rng.standard_normal(shape)).astype(kind)


@case(MASKS)
def causal_top_left(rng):
    return with_mask(qkv(rng, Sizes(tokens=130, size=16, batch=2)), causal(TOP_LEFT))


@case(MASKS)
def causal_top_left_more_queries(rng):
    return with_mask(qkv(rng, Sizes(tokens=100, keys=30)), causal(TOP_LEFT))


@case(MASKS)
def causal_bottom_right(rng):
    return with_mask(qkv(rng, Sizes(tokens=20, keys=300)), causal(BOTTOM_RIGHT))


@case(MASKS)
def causal_bottom_right_with_rows_that_see_nothing(rng):
    return with_mask(qkv(rng, Sizes(tokens=90, keys=20)), causal(BOTTOM_RIGHT))


@case(MASKS)
def causal_bottom_right_of_key_lengths(rng):
    request = qkv(rng, Sizes(tokens=10, keys=25, batch=3))
    return with_mask(request, causal(BOTTOM_RIGHT), key_lengths=[25, 12, 4])


@case(MASKS)
def causal_explicit(rng):
    return with_mask(qkv(rng, Sizes(tokens=20, keys=40)), causal(EXPLICIT, offset=13))


@case(MASKS)
def causal_explicit_below_zero(rng):
    return with_mask(qkv(rng, Sizes(tokens=80)), causal(EXPLICIT, offset=-5))


@case(MASKS)
def causal_explicit_that_forbids_all(rng):
    return with_mask(qkv(rng, Sizes(tokens=8)), causal(EXPLICIT, offset=-(2**31) + 1))


@case(MASKS)
def causal_explicit_that_allows_all(rng):
    return with_mask(qkv(rng, Sizes(tokens=8, keys=70)), causal(EXPLICIT, offset=2**31 - 1))


@case(MASKS)
def causal_of_embeddings(rng):
    return with_mask(embeddings(rng, Sizes(tokens=40, batch=2)), causal(TOP_LEFT))


@case(MASKS)
def causal_over_several_tiles(rng):
    return with_mask(qkv(rng, Sizes(heads=1, tokens=600, size=64)), causal(TOP_LEFT))


@case(MASKS)
def key_lengths(rng):
    request = qkv(rng, Sizes(tokens=6, keys=70, batch=4))
    return with_mask(request, key_lengths=[70, 1, 0, 65])


@case(MASKS)
def key_lengths_with_rotary(rng):
    request = qkv(rng, Sizes(tokens=9, batch=2, size=8))
    request.options.position.rotary.layout = HALVES
    request.options.position.query_offset = 0
    return with_mask(request, key_lengths=[5, 9])


@case(MASKS)
def key_lengths_of_a_context(rng):
    request = cross(rng, Sizes(tokens=6, keys=20, batch=2), context_width=10)
    return with_mask(request, key_lengths=[3, 20])


@case(MASKS)
def boolean_full_shape(rng):
    sizes = Sizes(heads=3, tokens=70, keys=100, batch=2)
    return with_mask(qkv(rng, sizes), tensor=tensor(some_true(rng, (2, 3, 70, 100))))


@case(MASKS)
def boolean_one_row_for_all(rng):
    return with_mask(qkv(rng, Sizes(tokens=9, keys=20, batch=2)), tensor=tensor(some_true(rng, (20,))))


@case(MASKS)
def boolean_rank_2(rng):
    return with_mask(qkv(rng, Sizes(tokens=9, keys=20, batch=2)), tensor=tensor(some_true(rng, (9, 20))))


@case(MASKS)
def boolean_rank_3_is_by_head(rng):
    sizes = Sizes(heads=3, tokens=9, keys=20, batch=2)
    return with_mask(qkv(rng, sizes), tensor=tensor(some_true(rng, (3, 9, 20))))


@case(MASKS)
def boolean_by_batch(rng):
    sizes = Sizes(heads=3, tokens=9, keys=20, batch=2)
    return with_mask(qkv(rng, sizes), tensor=tensor(some_true(rng, (2, 1, 1, 20))))


@case(MASKS)
def boolean_short_last_axis(rng):
    return with_mask(qkv(rng, Sizes(tokens=9, keys=90)), tensor=tensor(some_true(rng, (9, 70))))


@case(MASKS)
def boolean_of_one_key(rng):
    return with_mask(qkv(rng, Sizes(tokens=9, keys=1)), tensor=tensor(some_true(rng, (9, 1))))


@case(MASKS)
def boolean_all_false(rng):
    return with_mask(qkv(rng, Sizes(tokens=5)), tensor=tensor(np.zeros((5, 5), dtype=bool)))


@case(MASKS)
def additive_full_shape(rng):
    sizes = Sizes(heads=2, tokens=66, keys=130, batch=2)
    return with_mask(qkv(rng, sizes), tensor=tensor(additive(rng, (2, 2, 66, 130))))


@case(MASKS)
def additive_broadcast_over_batch_and_rows(rng):
    sizes = Sizes(heads=3, tokens=8, keys=20, batch=2)
    return with_mask(qkv(rng, sizes, rank=3), tensor=tensor(additive(rng, (1, 3, 1, 20))))


@case(MASKS)
def additive_short_last_axis(rng):
    sizes = Sizes(heads=2, tokens=8, keys=20)
    return with_mask(embeddings(rng, Sizes(tokens=20)), tensor=tensor(additive(rng, (1, sizes.keys - 3))))


@case(MASKS)
def additive_float32_with_float16(rng):
    sizes = Sizes(tokens=8, keys=20, kind=F16)
    return with_mask(qkv(rng, sizes), tensor=tensor(additive(rng, (8, 20))))


@case(MASKS)
def additive_bfloat16_with_bfloat16(rng):
    sizes = Sizes(tokens=8, keys=20, kind=BF16)
    return with_mask(qkv(rng, sizes), tensor=tensor(additive(rng, (8, 20), BF16)))


@case(MASKS)
def everything_at_once(rng):
    request = qkv(rng, Sizes(heads=4, key_heads=2, tokens=30, keys=140, batch=2))
    request.options.position.alibi.SetInParent()
    request.options.position.query_offset = 100
    mask = causal(BOTTOM_RIGHT)
    return with_mask(request, mask, key_lengths=[140, 100], tensor=tensor(additive(rng, (2, 4, 30, 120))))


@case(MASKS)
def scale_given(rng):
    request = qkv(rng, Sizes(tokens=20, keys=70))
    request.options.scale = 0.7
    return request


@case(MASKS)
def scale_of_zero(rng):
    request = with_mask(qkv(rng, Sizes(tokens=20)), causal(TOP_LEFT))
    request.options.scale = 0.0
    return request


@case(MASKS)
def scale_below_zero(rng):
    request = qkv(rng, Sizes(tokens=20))
    request.options.scale = -0.3
    return request


@pytest.mark.parametrize("maker", MASKS.values(), ids=MASKS)
def test_masks(server, rng, maker: Maker, algorithm: int) -> None:
    check(server, maker(rng), algorithm)


# Kinds: 16-bit numbers in are computed in float32 and rounded once on the way out.


def some_of(kind: np.dtype) -> dict[str, Maker]:
    sizes = {"kind": kind, "tokens": 20, "keys": 70, "heads": 2, "size": 16}
    return {
        f"{kind.name}_rank_4": lambda rng: qkv(rng, Sizes(**sizes, batch=2)),
        f"{kind.name}_rank_3_grouped": lambda rng: qkv(rng, Sizes(**{**sizes, "heads": 4}, key_heads=2), rank=3),
        f"{kind.name}_rank_2_causal": lambda rng: with_mask(qkv(rng, Sizes(**sizes), rank=2), causal(BOTTOM_RIGHT)),
        f"{kind.name}_embeddings": lambda rng: embeddings(rng, Sizes(kind=kind, tokens=20, heads=2, batch=2)),
        f"{kind.name}_cross": lambda rng: cross(rng, Sizes(**sizes), context_width=20),
        f"{kind.name}_seeded_weights": lambda rng: embeddings(rng, Sizes(kind=kind, tokens=9), seed=4),
        f"{kind.name}_rotary": lambda rng: with_positions(
            qkv(rng, Sizes(kind=kind, tokens=70, size=16)), rotary=options_pb.RotaryPositions(layout=HALVES)
        ),
        f"{kind.name}_learned": lambda rng: with_positions(
            embeddings(rng, Sizes(kind=kind, tokens=9), rank=2),
            learned=options_pb.LearnedPositions(table=tensor(normal(rng, (9, 16), kind))),
        ),
        f"{kind.name}_learned_from_float32": lambda rng: with_positions(
            embeddings(rng, Sizes(kind=kind, tokens=9)),
            learned=options_pb.LearnedPositions(table=tensor(normal(rng, (9, 16)))),
        ),
    }


KINDS = {**some_of(F16), **some_of(BF16)}


@pytest.mark.parametrize("maker", KINDS.values(), ids=KINDS)
def test_kinds(server, rng, maker: Maker, algorithm: int) -> None:
    check(server, maker(rng), algorithm)


@pytest.mark.parametrize("kind", [F32, F16, BF16], ids=lambda kind: kind.name)
@pytest.mark.parametrize("given", [F32, F16, BF16], ids=lambda kind: kind.name)
def test_tensor_kind_of_the_answer(server, rng, given: np.dtype, kind: np.dtype) -> None:
    request = everything(qkv(rng, Sizes(tokens=9, keys=20, kind=given)))
    request.outputs.tensor_kind = wire.KINDS[kind]
    want = attend(request)
    answer = server.attend(request)
    assert {array(x).dtype for x in (answer.output, answer.head_outputs)} == {kind}
    want.kind = kind
    check_everything(answer, want)


# What a choice of names and places may not change.


def test_learned_positions_are_sinusoidal_ones_with_their_table(server, rng) -> None:
    request = embeddings(rng, Sizes(tokens=12, width=16))
    by_rule = with_positions(request, sinusoidal=options_pb.SinusoidalPositions(layout=INTERLEAVED))
    got = array(server.attend(by_rule).output)
    angles = np.arange(12)[:, None] * 10000.0 ** (-np.arange(8) / 8)
    table = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(12, 16).astype(F32)
    by_table = with_positions(request, learned=options_pb.LearnedPositions(table=tensor(table)))
    assert_close(array(server.attend(by_table).output), got.astype(np.float64))


def test_rotary_depends_on_the_distance_alone(server, rng) -> None:
    request = with_positions(qkv(rng, Sizes(tokens=9, size=8)), rotary=options_pb.RotaryPositions(layout=HALVES))
    near = array(server.attend(request).output)
    request.options.position.query_offset = 50
    request.options.position.key_offset = 50
    assert_close(array(server.attend(request).output), near.astype(np.float64))
    request.options.position.key_offset = 49
    assert np.abs(array(server.attend(request).output) - near).max() > 1e-3


def test_without_positions_keys_are_a_bag_of_words(server, rng) -> None:
    request = qkv(rng, Sizes(tokens=9, keys=30))
    straight = array(server.attend(request).output)
    order = rng.permutation(30)
    for name in ("key", "value"):
        given = getattr(request.query_key_value, name)
        given.CopyFrom(tensor(array(given)[:, :, order]))
    assert_close(array(server.attend(request).output), straight.astype(np.float64))


def test_wrong_layout_would_be_seen(server, rng) -> None:
    """The reference and the server do not agree by chance: the other layout gives other numbers."""
    request = with_positions(qkv(rng, Sizes(tokens=20, size=8)), rotary=options_pb.RotaryPositions(layout=HALVES))
    got = array(server.attend(request).output)
    request.options.position.rotary.layout = INTERLEAVED
    with pytest.raises(AssertionError, match="got .*, expected "):
        assert_close(got, attend(request).output)
