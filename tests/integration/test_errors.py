"""What is refused, how, and that nothing of it is left behind."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import grpc
import make
import numpy as np
import pytest
from grpc import StatusCode
from make import EXPLICIT, HALVES, INTERLEAVED, TOP_LEFT, Sizes, full_map, qkv, top_keys
from reference import assert_close, attend
from rpc_errors import failure_of, is_field_path, parse, refusal_of
from wire import BF16, F16, F32, NAIVE, array, options_pb, outputs_pb, service_pb, tensor, tensor_pb

Request = service_pb.AttendRequest
INVALID = "INVALID_REQUEST"
EXPENSIVE = "REQUEST_TOO_EXPENSIVE"


@pytest.fixture(scope="module", autouse=True)
def same_afterwards(canary):
    """What a server refused must not change what it answers next."""
    canary()
    yield
    canary()


# Bases that are right; each case breaks one.


def rank_4() -> Request:
    return qkv(np.random.default_rng(1), Sizes(heads=2, tokens=4, size=4, batch=2))


def rank_3() -> Request:
    return qkv(np.random.default_rng(2), Sizes(heads=2, tokens=4, size=4, batch=2), rank=3)


def layer() -> Request:
    return make.embeddings(np.random.default_rng(3), Sizes(heads=2, tokens=4, size=4, batch=2))


def context() -> Request:
    return make.cross(np.random.default_rng(4), Sizes(heads=2, tokens=4, keys=6, size=4, batch=2), context_width=5)


def seeded() -> Request:
    return make.seeded(tokens=4, width=8, heads=2)


@dataclass
class Bad:
    """A request, what is wrong with it, and the fields that the answer must name."""

    name: str
    base: Callable[[], Request]
    spoil: Callable[[Request], object]
    fields: list[str]
    reason: str = INVALID

    def request(self) -> Request:
        request = self.base()
        self.spoil(request)
        return request


def zeros(*shape: int, kind: np.dtype = F32) -> tensor_pb.Tensor:
    return tensor(np.zeros(shape, dtype=kind))


def claimed(*shape: int) -> tensor_pb.Tensor:
    """A tensor that says to be large and brings eight bytes."""
    return tensor_pb.Tensor(shape=shape, f32_le=bytes(8))


def put(path: str, value: object) -> Callable[[Request], None]:
    """Sets a field: a message, a number, or all of a repeated one."""

    def spoil(request: Request) -> None:
        *folders, name = path.split(".")
        holder = request
        for folder in folders:
            holder = getattr(holder, folder)
        if hasattr(value, "DESCRIPTOR"):
            getattr(holder, name).CopyFrom(value)
        elif isinstance(value, list):
            del getattr(holder, name)[:]
            getattr(holder, name).extend(value)
        else:
            setattr(holder, name, value)

    return spoil


def clear(path: str) -> Callable[[Request], None]:
    def spoil(request: Request) -> None:
        *folders, name = path.split(".")
        holder = request
        for folder in folders:
            holder = getattr(holder, folder)
        holder.ClearField(name)

    return spoil


def both(*spoils: Callable[[Request], object]) -> Callable[[Request], None]:
    def spoil(request: Request) -> None:
        for one in spoils:
            one(request)

    return spoil


QKV = "query_key_value"
SELF = "self_attention"
LAYER = "self_attention.layer_weights"
POSITION = "options.position"
MASK = "options.mask"

INPUT_CASES = [
    Bad("no input", Request, lambda r: None, ["input"]),
    Bad("no query", rank_4, clear(f"{QKV}.query"), [f"{QKV}.query"]),
    Bad("nothing of the three", Request, lambda r: r.query_key_value.SetInParent(),
        [f"{QKV}.query", f"{QKV}.key", f"{QKV}.value"]),
    Bad("tensor without data", rank_4, put(f"{QKV}.key", tensor_pb.Tensor(shape=[2, 2, 4, 4])), [f"{QKV}.key.data"]),
    Bad("bytes one short", rank_4, lambda r: setattr(r.query_key_value.query, "f32_le", bytes(255)),
        [f"{QKV}.query.data"]),
    Bad("bytes one long", rank_4, lambda r: setattr(r.query_key_value.query, "f32_le", bytes(257)),
        [f"{QKV}.query.data"]),
    Bad("an element too few", rank_4,
        lambda r: r.query_key_value.value.f32_values.values.extend([0.5] * 63), [f"{QKV}.value.data"]),
    Bad("rank 1", rank_4, put(f"{QKV}.query", zeros(8)), [f"{QKV}.query.shape"]),
    Bad("rank 5", rank_4, put(f"{QKV}.value", zeros(2, 2, 4, 4, 1)), [f"{QKV}.value.shape"]),
    Bad("rank 0", rank_4, put(f"{QKV}.key", tensor_pb.Tensor(f32_le=bytes(4))), [f"{QKV}.key.shape"]),
    Bad("an axis of 0", rank_4, put(f"{QKV}.key", zeros(2, 2, 0, 4)), [f"{QKV}.key.shape"]),
    Bad("an axis below 0", rank_4, put(f"{QKV}.key", claimed(2, -2, 1, -1)), [f"{QKV}.key.shape"]),
    Bad("2^31 x 2", rank_3, put(f"{QKV}.key", claimed(1, 2**31, 2)), [f"{QKV}.key.shape"], EXPENSIVE),
    Bad("2^32 x 2^32", rank_3, put(f"{QKV}.key", claimed(1, 2**32, 2**32)), [f"{QKV}.key.shape"], EXPENSIVE),
    Bad("2^63 - 1", rank_4, put(f"{QKV}.query", claimed(2**63 - 1, 1, 1, 1)), [f"{QKV}.query.shape"], EXPENSIVE),
    Bad("-2^63", rank_4, put(f"{QKV}.query", claimed(-(2**63), 2, 1, 1)), [f"{QKV}.query.shape"]),
    Bad("a product that comes round to 8 bytes", rank_4, put(f"{QKV}.query", claimed(2**32, 2**31, 2, 1)),
        [f"{QKV}.query.shape"], EXPENSIVE),
    Bad("mixed ranks", rank_4, put(f"{QKV}.value", zeros(2, 4, 8)), [f"{QKV}.value.shape"]),
    Bad("key of another batch", rank_4, put(f"{QKV}.key", zeros(1, 2, 4, 4)), [f"{QKV}.key.shape"]),
    Bad("key of another head size", rank_4, put(f"{QKV}.key", zeros(2, 2, 4, 5)), [f"{QKV}.key.shape"]),
    Bad("value of other tokens", rank_4, put(f"{QKV}.value", zeros(2, 2, 5, 4)), [f"{QKV}.value.shape"]),
    Bad("value of other heads", rank_4, put(f"{QKV}.value", zeros(2, 1, 4, 4)), [f"{QKV}.value.shape"]),
    Bad("key width in rank 3", rank_3, put(f"{QKV}.key", zeros(2, 4, 7)), [f"{QKV}.key.shape"]),
    Bad("value width in rank 3", rank_3, put(f"{QKV}.value", zeros(2, 4, 7)), [f"{QKV}.value.shape"]),
    Bad("mixed kinds", rank_4, put(f"{QKV}.value", zeros(2, 2, 4, 4, kind=F16)), [f"{QKV}.value.data"]),
    Bad("boolean numbers", rank_4, put(f"{QKV}.query", zeros(2, 2, 4, 4, kind=np.dtype(bool))), [f"{QKV}.query.data"]),
    Bad("no source", layer, clear(f"{SELF}.embeddings"), [f"{SELF}.embeddings"]),
    Bad("no weights", layer, clear(LAYER), [f"{SELF}.weights"]),
    Bad("embeddings of rank 4", layer, put(f"{SELF}.embeddings", zeros(1, 2, 4, 8)), [f"{SELF}.embeddings.shape"]),
    Bad("embeddings of rank 1", layer, put(f"{SELF}.embeddings", zeros(8)), [f"{SELF}.embeddings.shape"]),
    Bad("a layer without matrices", layer, put(LAYER, service_pb.LayerWeights()),
        [f"{LAYER}.query", f"{LAYER}.key", f"{LAYER}.value"]),
    Bad("rows of a matrix", layer, put(f"{LAYER}.key", zeros(7, 8)), [f"{LAYER}.key.shape"]),
    Bad("columns of the key matrix", layer, put(f"{LAYER}.key", zeros(8, 6)),
        [f"{LAYER}.key.shape", f"{LAYER}.key_bias.shape"]),
    Bad("columns of the value matrix", layer, put(f"{LAYER}.value", zeros(8, 5)),
        [f"{LAYER}.value.shape", f"{LAYER}.value_bias.shape"]),
    Bad("rows of the output matrix", layer, put(f"{LAYER}.output", zeros(9, 8)), [f"{LAYER}.output.shape"]),
    Bad("a matrix of rank 1", layer, put(f"{LAYER}.query", zeros(64)), [f"{LAYER}.query.shape"]),
    Bad("a matrix of another kind", layer, put(f"{LAYER}.query", zeros(8, 8, kind=BF16)), [f"{LAYER}.query.data"]),
    Bad("length of a bias", layer, put(f"{LAYER}.query_bias", zeros(7)), [f"{LAYER}.query_bias.shape"]),
    Bad("length of the output bias", layer, put(f"{LAYER}.output_bias", zeros(9)), [f"{LAYER}.output_bias.shape"]),
    Bad("output bias without an output matrix", layer, clear(f"{LAYER}.output"), [f"{LAYER}.output_bias"]),
    Bad("context of another rank", context, put(f"{SELF}.context", zeros(6, 5)), [f"{SELF}.context.shape"]),
    Bad("context of another batch", context, put(f"{SELF}.context", zeros(3, 6, 5)), [f"{SELF}.context.shape"]),
    Bad("context of another kind", context, put(f"{SELF}.context", zeros(2, 6, 5, kind=F16)),
        [f"{SELF}.context.data"]),
    Bad("no seeded token", seeded, put(f"{SELF}.seeded_embeddings.tokens", 0), [f"{SELF}.seeded_embeddings.tokens"]),
    Bad("seeded width below 0", seeded, put(f"{SELF}.seeded_embeddings.width", -8),
        [f"{SELF}.seeded_embeddings.width"]),
    Bad("seeded sizes of 2^62", seeded,
        both(put(f"{SELF}.seeded_embeddings.tokens", 2**62), put(f"{SELF}.seeded_embeddings.width", 2**62)),
        [f"{SELF}.seeded_embeddings.tokens", f"{SELF}.seeded_embeddings.width"], EXPENSIVE),
    Bad("a layer without a name", seeded, put(f"{SELF}.layer", ""), [f"{SELF}.layer"]),
    Bad("a layer with a long name", seeded, put(f"{SELF}.layer", "x" * 129), [f"{SELF}.layer"]),
    Bad("the demo with embeddings of another width", layer, both(put(f"{SELF}.layer", "demo"), clear("options")),
        [f"{SELF}.embeddings.shape"]),
    Bad("the demo with other heads than it has", lambda: make.seeded(tokens=4, width=16, heads=2),
        both(put(f"{SELF}.layer", "demo"), put("options.key_value_heads", 1)),
        ["options.query_heads", "options.key_value_heads"]),
]  # fmt: skip

HEAD_CASES = [
    Bad("no heads in rank 3", rank_3, put("options.query_heads", 0), ["options.query_heads"]),
    Bad("heads that do not divide the width", rank_3, put("options.query_heads", 3), [f"{QKV}.query.shape"]),
    Bad("heads and size that are not the width", rank_3, put("options.head_size", 3), [f"{QKV}.query.shape"]),
    Bad("more heads than the width", rank_3, put("options.query_heads", 2**32 - 1), [f"{QKV}.query.shape", "options.query_heads"]),
    Bad("other heads than the shape's", rank_4, put("options.query_heads", 4), ["options.query_heads"]),
    Bad("other key heads than the shape's", rank_4, put("options.key_value_heads", 1), ["options.key_value_heads"]),
    Bad("another head size than the shape's", rank_4, put("options.head_size", 8), ["options.head_size"]),
    Bad("key heads that do not divide the query heads", rank_4,
        both(put(f"{QKV}.key", zeros(2, 3, 4, 4)), put(f"{QKV}.value", zeros(2, 3, 4, 4))),
        ["options.key_value_heads"]),
    Bad("no heads for seeded weights", seeded, put("options.query_heads", 0), ["options.query_heads"]),
    Bad("seeded heads that do not divide", seeded, put("options.query_heads", 3), [f"{SELF}.embeddings.shape"]),
    Bad("seeded heads beyond all", seeded,
        both(put("options.query_heads", 2**32 - 1), put("options.head_size", 2**32 - 1)),
        ["options.query_heads", "options.head_size"], EXPENSIVE),
]  # fmt: skip


def limit_case(name: str, sizes: Sizes, field: str) -> Bad:
    return Bad(name, lambda: qkv(np.random.default_rng(5), sizes), lambda r: None, [field], EXPENSIVE)


LIMIT_CASES = [
    limit_case("65 batches", Sizes(heads=1, tokens=1, size=1, batch=65), f"{QKV}.query.shape"),
    limit_case("129 heads", Sizes(heads=129, tokens=1, size=1), "options.query_heads"),
    limit_case("heads of 513", Sizes(heads=1, tokens=1, size=513, value_size=1), "options.head_size"),
    limit_case("value heads of 513", Sizes(heads=1, tokens=1, size=1, value_size=513), f"{QKV}.value.shape"),
    limit_case("16,385 queries", Sizes(heads=1, tokens=16385, keys=1, size=1), f"{QKV}.query.shape"),
    limit_case("16,385 keys", Sizes(heads=1, tokens=1, keys=16385, size=1), f"{QKV}.key.shape"),
    Bad("16,385 seeded tokens", seeded, put(f"{SELF}.seeded_embeddings.tokens", 16385),
        [f"{SELF}.seeded_embeddings.tokens"], EXPENSIVE),
    Bad("embeddings 16,386 wide", layer, put(f"{SELF}.embeddings", zeros(1, 1, 16386)),
        [f"{SELF}.embeddings.shape", f"{LAYER}.query.shape", f"{LAYER}.key.shape", f"{LAYER}.value.shape"]),
    Bad("more FLOPs than a call may take", lambda: make.seeded(tokens=16384, width=1024, heads=128),
        put("options.head_size", 512), [SELF, SELF], EXPENSIVE),
    Bad("a grid that naive could never hold", lambda: make.seeded(tokens=16384, width=8, heads=8),
        put("options.algorithm", NAIVE), ["options.algorithm"], EXPENSIVE),
]  # fmt: skip


def sinusoidal(**fields) -> options_pb.PositionScheme:
    return options_pb.PositionScheme(sinusoidal=options_pb.SinusoidalPositions(**fields))


def rotary(**fields) -> options_pb.PositionScheme:
    return options_pb.PositionScheme(rotary=options_pb.RotaryPositions(**fields))


def learned(table: tensor_pb.Tensor, **fields) -> options_pb.PositionScheme:
    return options_pb.PositionScheme(learned=options_pb.LearnedPositions(table=table), **fields)


def alibi(*slopes: float, **fields) -> options_pb.PositionScheme:
    return options_pb.PositionScheme(alibi=options_pb.AlibiBias(slopes=slopes), **fields)


POSITION_CASES = [
    Bad("sinusoidal without a layout", layer, put(POSITION, sinusoidal()), [f"{POSITION}.sinusoidal.layout"]),
    Bad("sinusoidal with an unknown layout", layer, put(POSITION, sinusoidal(layout=7)),
        [f"{POSITION}.sinusoidal.layout"]),
    Bad("sinusoidal for Q, K, V", rank_4, put(POSITION, sinusoidal(layout=HALVES)), [f"{POSITION}.sinusoidal"]),
    Bad("sinusoidal for an odd width", context,
        both(put(f"{SELF}.embeddings", zeros(2, 4, 7)), put(POSITION, sinusoidal(layout=HALVES)),
             put(f"{POSITION}.query_offset", 0), put(f"{LAYER}.query", zeros(7, 8))),
        [f"{POSITION}.sinusoidal"]),
    Bad("a base of 0", layer, put(POSITION, sinusoidal(layout=HALVES, base=0)), [f"{POSITION}.sinusoidal.base"]),
    Bad("a base that is no number", rank_4, put(POSITION, rotary(layout=HALVES, base=float("nan"))),
        [f"{POSITION}.rotary.base"]),
    Bad("an infinite base", rank_4, put(POSITION, rotary(layout=HALVES, base=float("inf"))),
        [f"{POSITION}.rotary.base"]),
    Bad("learned without a table", layer, lambda r: r.options.position.learned.SetInParent(),
        [f"{POSITION}.learned.table"]),
    Bad("learned for Q, K, V", rank_4, put(POSITION, learned(zeros(9, 8))), [f"{POSITION}.learned"]),
    Bad("a table of another width", layer, put(POSITION, learned(zeros(9, 7))), [f"{POSITION}.learned.table.shape"]),
    Bad("a table of rank 3", layer, put(POSITION, learned(zeros(1, 9, 8))), [f"{POSITION}.learned.table.shape"]),
    Bad("a table of another kind", layer, put(POSITION, learned(zeros(9, 8, kind=F16))),
        [f"{POSITION}.learned.table.data"]),
    Bad("a table that is too short", layer, put(POSITION, learned(zeros(3, 8))), [f"{POSITION}.query_offset"]),
    Bad("a position before the table", layer, put(POSITION, learned(zeros(9, 8), query_offset=-1)),
        [f"{POSITION}.query_offset"]),
    Bad("a position behind the table", layer, put(POSITION, learned(zeros(9, 8), query_offset=6)),
        [f"{POSITION}.query_offset"]),
    Bad("rotary without a layout", rank_4, put(POSITION, rotary()), [f"{POSITION}.rotary.layout"]),
    Bad("rotary with an unknown layout", rank_4, put(POSITION, rotary(layout=-1)), [f"{POSITION}.rotary.layout"]),
    Bad("an odd rotary size", rank_4, put(POSITION, rotary(layout=HALVES, rotary_size=3)),
        [f"{POSITION}.rotary.rotary_size"]),
    Bad("a rotary size above the head size", rank_4, put(POSITION, rotary(layout=HALVES, rotary_size=6)),
        [f"{POSITION}.rotary.rotary_size"]),
    Bad("rotary on an odd head size", lambda: qkv(np.random.default_rng(6), Sizes(size=5)),
        put(POSITION, rotary(layout=INTERLEAVED)), [f"{POSITION}.rotary.rotary_size"]),
    Bad("slopes of other heads", rank_4, put(POSITION, alibi(0.5, 0.25, 0.125)), [f"{POSITION}.alibi.slopes"]),
    Bad("a slope that is no number", rank_4, put(POSITION, alibi(0.5, float("nan"))),
        [f"{POSITION}.alibi.slopes[1]"]),
    Bad("an offset of 2^31", rank_4, put(POSITION, alibi(query_offset=2**31)), [f"{POSITION}.query_offset"]),
    Bad("an offset of -2^31", rank_4, put(POSITION, alibi(key_offset=-(2**31))), [f"{POSITION}.key_offset"]),
    Bad("keys elsewhere than the queries that they are", layer, put(POSITION, alibi(query_offset=3, key_offset=4)),
        [f"{POSITION}.key_offset"]),
    Bad("no offset with other lengths", context, put(POSITION, alibi()), [f"{POSITION}.query_offset"]),
    Bad("no offset with key lengths", rank_4,
        both(put(POSITION, rotary(layout=HALVES)), put(f"{MASK}.key_lengths", [4, 4])), [f"{POSITION}.query_offset"]),
]  # fmt: skip


def causal(**fields) -> options_pb.CausalMask:
    return options_pb.CausalMask(**fields)


MASK_CASES = [
    Bad("causal without an alignment", rank_4, put(f"{MASK}.causal", causal()), [f"{MASK}.causal.alignment"]),
    Bad("causal with an unknown alignment", rank_4, put(f"{MASK}.causal", causal(alignment=9)),
        [f"{MASK}.causal.alignment"]),
    Bad("explicit without an offset", rank_4, put(f"{MASK}.causal", causal(alignment=EXPLICIT)),
        [f"{MASK}.causal.offset"]),
    Bad("an offset without explicit", rank_4, put(f"{MASK}.causal", causal(alignment=TOP_LEFT, offset=0)),
        [f"{MASK}.causal.offset"]),
    Bad("a causal offset of 2^31", rank_4, put(f"{MASK}.causal", causal(alignment=EXPLICIT, offset=2**31)),
        [f"{MASK}.causal.offset"]),
    Bad("a causal offset of -2^63", rank_4, put(f"{MASK}.causal", causal(alignment=EXPLICIT, offset=-(2**63))),
        [f"{MASK}.causal.offset"]),
    Bad("a mask of other rows", rank_4, put(f"{MASK}.tensor", zeros(3, 4)), [f"{MASK}.tensor.shape"]),
    Bad("a mask of other heads", rank_4, put(f"{MASK}.tensor", zeros(3, 1, 4)), [f"{MASK}.tensor.shape"]),
    Bad("a mask of another batch", rank_4, put(f"{MASK}.tensor", zeros(3, 1, 1, 4)), [f"{MASK}.tensor.shape"]),
    Bad("a mask of more keys", rank_4, put(f"{MASK}.tensor", zeros(5)), [f"{MASK}.tensor.shape"]),
    Bad("a last axis of 1", rank_4, put(f"{MASK}.tensor", zeros(4, 1)), [f"{MASK}.tensor.shape"]),
    Bad("a mask of rank 5", rank_4, put(f"{MASK}.tensor", zeros(1, 1, 1, 1, 4)), [f"{MASK}.tensor.shape"]),
    Bad("a mask of another kind", rank_4, put(f"{MASK}.tensor", zeros(4, kind=BF16)), [f"{MASK}.tensor.data"]),
    Bad("a mask without data", rank_4, put(f"{MASK}.tensor", tensor_pb.Tensor(shape=[4])), [f"{MASK}.tensor.data"]),
    Bad("a length too few", rank_4, put(f"{MASK}.key_lengths", [4]), [f"{MASK}.key_lengths"]),
    Bad("lengths below 0 and beyond the keys", rank_4, put(f"{MASK}.key_lengths", [-1, 5]),
        [f"{MASK}.key_lengths[0]", f"{MASK}.key_lengths[1]"]),
    Bad("an infinite scale", rank_4, put("options.scale", float("inf")), ["options.scale"]),
    Bad("a scale that is no number", rank_4, put("options.scale", float("nan")), ["options.scale"]),
    Bad("an unknown algorithm", rank_4, put("options.algorithm", 7), ["options.algorithm"]),
    Bad("an algorithm below 0", rank_4, put("options.algorithm", -1), ["options.algorithm"]),
    Bad("an unknown precision", rank_4, put("options.precision", 9), ["options.precision"]),
    Bad("an unknown priority", rank_4, put("priority", 5), ["priority"]),
]  # fmt: skip


def maps(*asked: outputs_pb.WeightMaps) -> Callable[[Request], None]:
    return put("outputs.maps", list(asked))


def rows(*pairs: tuple[int, int]) -> list[outputs_pb.RowRange]:
    return [outputs_pb.RowRange(begin=begin, end=end) for begin, end in pairs]


def keys(begin: int, end: int) -> outputs_pb.RowRange:
    return outputs_pb.RowRange(begin=begin, end=end)


OUTPUT_CASES = [
    Bad("nothing asked for", rank_4, put("outputs.omit_output", True), ["outputs.omit_output"]),
    Bad("9 map requests", rank_4, maps(*[full_map()] * 9), ["outputs.maps"], EXPENSIVE),
    Bad("100,000 map requests", rank_4, maps(*[full_map()] * 100_000), ["outputs.maps"], EXPENSIVE),
    Bad("a map without a form", rank_4, maps(outputs_pb.WeightMaps()), ["outputs.maps[0].form"]),
    Bad("an unknown stage", rank_4, maps(full_map(stage=9)), ["outputs.maps[0].stage"]),
    Bad("heads that there are not", rank_4, maps(full_map(heads=[0, 2, 2**32 - 1])),
        ["outputs.maps[0].heads[1]", "outputs.maps[0].heads[2]"]),
    Bad("a head twice", rank_4, maps(full_map(), full_map(heads=[1, 1])), ["outputs.maps[1].heads[1]"]),
    Bad("a batch that there is not", rank_4, maps(full_map(batches=[2])), ["outputs.maps[0].batches[0]"]),
    Bad("an empty range", rank_4, maps(full_map(rows=rows((1, 1)))), ["outputs.maps[0].rows[0]"]),
    Bad("a range backwards", rank_4, maps(full_map(rows=rows((0, 1), (3, 2)))), ["outputs.maps[0].rows[1]"]),
    Bad("a range below 0", rank_4, maps(full_map(rows=rows((-1, 2)))), ["outputs.maps[0].rows[0]"]),
    Bad("a range beyond the rows", rank_4, maps(full_map(rows=rows((0, 5)))), ["outputs.maps[0].rows[0]"]),
    Bad("a range to the end of numbers", rank_4, maps(full_map(rows=rows((-(2**63), 2**63 - 1)))),
        ["outputs.maps[0].rows[0]"]),
    Bad("65 ranges", rank_4, maps(full_map(rows=rows(*[(0, 1)] * 65))), ["outputs.maps[0].rows"], EXPENSIVE),
    Bad("keys beyond the keys", rank_4, maps(full_map(keys=keys(0, 5))), ["outputs.maps[0].keys"]),
    Bad("no keys", rank_4, maps(top_keys(1, keys=keys(2, 2))), ["outputs.maps[0].keys"]),
    Bad("the top 0", rank_4, maps(top_keys(0)), ["outputs.maps[0].top_keys.k"]),
    Bad("the top 1,025", rank_4, maps(top_keys(1025)), ["outputs.maps[0].top_keys.k"], EXPENSIVE),
    Bad("an unknown kind", rank_4, put("outputs.tensor_kind", 17), ["outputs.tensor_kind"]),
    Bad("a boolean kind", rank_4, put("outputs.tensor_kind", tensor_pb.TENSOR_KIND_BOOL), ["outputs.tensor_kind"]),
    Bad("a label too few", rank_4, put("tokens", ["a", "b", "c"]), ["tokens"]),
    Bad("a long label", rank_4, put("tokens", ["a", "b", "c", "d" * 129]), ["tokens[3]"]),
    Bad("a label with a control character", rank_4, put("tokens", ["a", "b\n", "c", "d"]), ["tokens[1]"]),
]  # fmt: skip

CASES = [*INPUT_CASES, *HEAD_CASES, *LIMIT_CASES, *POSITION_CASES, *MASK_CASES, *OUTPUT_CASES]


@pytest.mark.parametrize("base", [rank_4, rank_3, layer, context, seeded], ids=lambda base: base.__name__)
def test_the_bases_are_right(server, base) -> None:
    assert server.attend(base()).HasField("output")


@pytest.mark.parametrize("bad", CASES, ids=[bad.name.replace(" ", "_") for bad in CASES])
def test_bad_request(server, bad: Bad) -> None:
    request = bad.request()
    failure = refusal_of(lambda: server.attend(request), StatusCode.INVALID_ARGUMENT, bad.reason)
    assert sorted(path for path, _ in failure.violation_list) == sorted(bad.fields)
    assert failure.violation_count == len(bad.fields)
    for path, description in failure.violation_list:
        assert is_field_path(path, Request.DESCRIPTOR), path
        assert description.startswith("got ") and ", expected " in description


def test_names_of_cases_are_distinct() -> None:
    names = [bad.name for bad in CASES]
    assert len(names) == len(set(names)) >= 40


@pytest.mark.parametrize("bad", CASES[::9], ids=[bad.name.replace(" ", "_") for bad in CASES[::9]])
def test_compare_refuses_the_same(server, bad: Bad) -> None:
    request = bad.request()
    asked = refusal_of(lambda: server.attend(request), StatusCode.INVALID_ARGUMENT, bad.reason)
    compared = refusal_of(lambda: server.compare(request), StatusCode.INVALID_ARGUMENT, bad.reason)
    assert compared.violation_list == asked.violation_list


def test_all_violations_at_once(server) -> None:
    request = rank_4()
    put(f"{QKV}.value", zeros(2, 2, 5, 4))(request)
    put(f"{MASK}.causal", causal())(request)
    put("options.scale", float("nan"))(request)
    put("options.algorithm", 7)(request)
    put("tokens", ["one"])(request)
    failure = refusal_of(lambda: server.attend(request), StatusCode.INVALID_ARGUMENT, INVALID)
    wrong = {f"{QKV}.value.shape", f"{MASK}.causal.alignment", "options.scale", "options.algorithm", "tokens"}
    assert set(failure.violations) == wrong
    assert failure.violation_count == 5
    assert all(path in failure.message for path in wrong)


def test_limits_with_other_violations_are_an_invalid_request(server) -> None:
    request = rank_4()
    maps(*[full_map()] * 9)(request)
    put("options.scale", float("nan"))(request)
    failure = refusal_of(lambda: server.attend(request), StatusCode.INVALID_ARGUMENT, INVALID)
    assert set(failure.violations) == {"outputs.maps", "options.scale"}


def test_the_first_8_of_many_violations_with_the_right_count(server) -> None:
    request = rank_4()
    maps(full_map(heads=list(range(2, 102)), batches=[7] * 50))(request)
    failure = refusal_of(lambda: server.attend(request), StatusCode.INVALID_ARGUMENT, INVALID)
    assert list(failure.violations) == [f"outputs.maps[0].heads[{i}]" for i in range(8)]
    assert failure.violation_count == 150


def test_hostile_texts_stay_small_and_printable(server) -> None:
    request = rank_4()
    put("tokens", ["\x1f\x1e\x00" * 5000] * 4)(request)
    failure = refusal_of(lambda: server.attend(request), StatusCode.INVALID_ARGUMENT, INVALID)
    assert sorted(failure.violations) == [f"tokens[{i}]" for i in range(4)]
    assert failure.message.isprintable()


def test_the_largest_details_still_fit(server) -> None:
    request = rank_4()
    maps(*[full_map(rows=rows(*[(2**62, -(2**62))] * 60)) for _ in range(8)])(request)
    failure = refusal_of(lambda: server.attend(request), StatusCode.INVALID_ARGUMENT, INVALID)
    assert len(failure.violation_list) == 8
    assert failure.violation_count == 480


# What is not there.


def test_an_unknown_layer(server) -> None:
    request = seeded()
    request.self_attention.layer = "nobody's"
    failure = refusal_of(lambda: server.attend(request), StatusCode.NOT_FOUND, "LAYER_NOT_FOUND")
    assert failure.metadata["layer"] == "nobody's"
    refusal_of(lambda: server.compare(request), StatusCode.NOT_FOUND, "LAYER_NOT_FOUND")


def test_an_unknown_layer_is_told_only_where_nothing_else_is_wrong(server) -> None:
    request = seeded()
    request.self_attention.layer = "nobody's"
    request.options.scale = float("nan")
    failure = refusal_of(lambda: server.attend(request), StatusCode.INVALID_ARGUMENT, INVALID)
    assert set(failure.violations) == {"options.scale"}


def test_a_hostile_layer_name(server) -> None:
    request = seeded()
    request.self_attention.layer = "\x1e\x1fé" * 30
    failure = refusal_of(lambda: server.attend(request), StatusCode.NOT_FOUND, "LAYER_NOT_FOUND")
    assert failure.metadata["layer"].isprintable()


def test_a_method_of_a_later_version(server) -> None:
    call = server.channel.unary_unary("/headlight.v1.AttentionService/AttendTogether")
    assert failure_of(lambda: call(b"", timeout=5)).code == StatusCode.UNIMPLEMENTED


# Values.

NON_FINITE = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}


def spoiled(request: Request, path: str, index: tuple[int, ...], value: float) -> Request:
    """The request with one element of one tensor set."""
    holder: object = request
    for name in path.split("."):
        holder = getattr(holder, name)
    elements = array(holder).copy()
    elements[index] = value
    holder.CopyFrom(tensor(elements))
    return request


def assert_names_the_element(server, request: Request, path: str, index: tuple[int, ...]) -> None:
    for algorithm in (0, 1, 2):
        asking = make.with_algorithm(request, algorithm)
        failure = refusal_of(partial(server.attend, asking), StatusCode.INVALID_ARGUMENT, INVALID)
        assert list(failure.violations) == [path]
        assert str(list(index)) in failure.violations[path]


VALUE_PLACES = [
    (rank_4, f"{QKV}.query", (1, 0, 3, 2)),
    (rank_4, f"{QKV}.key", (0, 1, 0, 0)),
    (rank_4, f"{QKV}.value", (1, 1, 3, 3)),
    (rank_3, f"{QKV}.value", (1, 2, 7)),
    (layer, f"{SELF}.embeddings", (1, 3, 7)),
    (context, f"{SELF}.context", (1, 5, 4)),
    *[(layer, f"{LAYER}.{name}", (7, 5)) for name in ("query", "key", "value", "output")],
    *[(layer, f"{LAYER}.{name}_bias", (6,)) for name in ("query", "key", "value", "output")],
]


@pytest.mark.parametrize("value", NON_FINITE.values(), ids=NON_FINITE)
@pytest.mark.parametrize("base, path, index", VALUE_PLACES, ids=lambda x: x if isinstance(x, str) else None)
def test_what_is_not_finite_is_refused_by_name_and_index(server, base, path, index, value) -> None:
    assert_names_the_element(server, spoiled(base(), path, index, value), path, index)


@pytest.mark.parametrize("kind", [F16, BF16], ids=lambda kind: kind.name)
@pytest.mark.parametrize("value", NON_FINITE.values(), ids=NON_FINITE)
def test_16_bit_values_are_checked_too(server, rng, kind, value) -> None:
    request = qkv(rng, Sizes(tokens=300, size=16, kind=kind))
    index = (0, 1, 299, 15)
    assert_names_the_element(server, spoiled(request, f"{QKV}.value", index, value), f"{QKV}.value", index)


def test_the_first_of_several_bad_elements_is_named_for_every_tensor(server, rng) -> None:
    request = qkv(rng, Sizes(heads=2, tokens=4096, size=64))
    for path, places in {"query": [(0, 1, 7, 3), (0, 1, 4095, 63)], "key": [(0, 0, 4000, 1), (0, 1, 0, 0)]}.items():
        for index in places:
            spoiled(request, f"{QKV}.{path}", index, np.nan)
    failure = refusal_of(lambda: server.attend(request), StatusCode.INVALID_ARGUMENT, INVALID)
    assert "[0, 1, 7, 3]" in failure.violations[f"{QKV}.query"]
    assert "[0, 0, 4000, 1]" in failure.violations[f"{QKV}.key"]
    assert failure.violation_count == 2


def test_a_learned_table_is_checked(server) -> None:
    table = np.zeros((9, 8), dtype=F32)
    table[4, 2] = np.inf
    request = layer()
    request.options.position.CopyFrom(learned(tensor(table)))
    assert_names_the_element(server, request, f"{POSITION}.learned.table", (4, 2))


@pytest.mark.parametrize("value", [np.nan, np.inf], ids=["nan", "inf"])
def test_an_additive_mask_may_hold_no_more_than_minus_infinity(server, value) -> None:
    mask = np.full((2, 1, 4, 4), -np.inf, dtype=F32)
    mask[1, 0, 2, 3] = value
    request = rank_4()
    request.options.mask.tensor.CopyFrom(tensor(mask))
    assert_names_the_element(server, request, f"{MASK}.tensor", (1, 0, 2, 3))


def test_boolean_bytes_are_0_or_1(server) -> None:
    request = rank_4()
    request.options.mask.tensor.CopyFrom(tensor_pb.Tensor(shape=[2, 4], bool_u8=bytes([1, 0, 1, 1, 0, 1, 2, 1])))
    request.query_key_value.query.CopyFrom(zeros(2, 2, 2, 4))
    assert_names_the_element(server, request, f"{MASK}.tensor", (1, 2))


def test_denormals_and_the_largest_numbers_are_numbers(server) -> None:
    request = qkv(np.random.default_rng(8), Sizes(heads=1, tokens=2, size=2))
    values = np.array([1e-45, -1e-45, np.finfo(F32).max, -np.finfo(F32).max], dtype=F32).reshape(1, 1, 2, 2)
    request.query_key_value.value.CopyFrom(tensor(values))
    assert np.isfinite(array(server.attend(request).output)).all()


def beyond_float32(rng: np.random.Generator) -> dict[str, Request]:
    """Finite numbers whose scores are not finite in float32."""
    scaled, large, steep = (qkv(rng, Sizes(tokens=5)) for _ in range(3))
    scaled.options.scale = 1e39
    for name in ("query", "key"):
        getattr(large.query_key_value, name).CopyFrom(tensor(np.full((1, 2, 5, 8), 1e25, dtype=F32)))
    steep.options.position.CopyFrom(alibi(3e38, 3e38, query_offset=2**31 - 9))
    return {"scale": scaled, "query and key": large, "slope": steep}


@pytest.mark.parametrize("name", ["scale", "query and key", "slope"], ids=lambda name: name.replace(" ", "_"))
def test_scores_beyond_float32_are_right_or_refused(server, rng, algorithm, name) -> None:
    """Never zeros, which would say that a row sees no key."""
    request = make.with_algorithm(beyond_float32(rng)[name], algorithm)
    try:
        answer = server.attend(request)
    except grpc.RpcError as error:
        assert parse(error).code == StatusCode.INVALID_ARGUMENT
        assert parse(error).reason == INVALID
    else:
        assert_close(array(answer.output), attend(request).output)


# What lies beyond the key lengths is never read.


@pytest.mark.parametrize("kind", [F32, F16, BF16], ids=lambda kind: kind.name)
@pytest.mark.parametrize("rank", [2, 3, 4])
def test_nothing_leaks_from_beyond_the_key_lengths(server, rng, algorithm, rank, kind) -> None:
    batch = 1 if rank == 2 else 2
    request = make.with_algorithm(qkv(rng, Sizes(tokens=70, keys=300, batch=batch, kind=kind), rank), algorithm)
    lengths = [131] if rank == 2 else [300, 131]
    request.options.mask.key_lengths.extend(lengths)
    request.options.mask.causal.alignment = TOP_LEFT
    asking = make.everything(request)
    clean = make.bits(server.attend(asking))
    for name in ("key", "value"):
        given = getattr(asking.query_key_value, name)
        elements = array(given).copy()
        last = {2: elements, 3: elements[-1], 4: elements[-1]}[rank]
        last[(slice(131, None),) if rank < 4 else (slice(None), slice(131, None))] = np.nan
        given.CopyFrom(tensor(elements))
    assert make.bits(server.attend(asking)) == clean
    edge = {2: (130, 3), 3: (1, 130, 3), 4: (1, 1, 130, 3)}[rank]
    spoiled(asking, f"{QKV}.value", edge, np.nan)
    failure = refusal_of(lambda: server.attend(asking), StatusCode.INVALID_ARGUMENT, INVALID)
    assert str(list(edge)) in failure.violations[f"{QKV}.value"]


def test_nothing_leaks_with_rotary_and_a_length_of_0(server, rng, algorithm) -> None:
    request = make.with_algorithm(qkv(rng, Sizes(tokens=9, keys=40, batch=2)), algorithm)
    request.options.position.CopyFrom(rotary(layout=HALVES))
    request.options.position.query_offset = 0
    request.options.mask.key_lengths.extend([0, 40])
    for name in ("key", "value"):
        given = getattr(request.query_key_value, name)
        elements = array(given).copy()
        elements[0] = np.inf
        given.CopyFrom(tensor(elements))
    output = array(server.attend(request).output)
    assert not output[0].any() and np.isfinite(output[1]).all()


# Bytes that are no request. gRPC answers them before a handler sees them.

NOT_REQUESTS = {
    "no protobuf": b"\xff\xff\xff",
    "a length beyond the end": b"\x0a\x7f\x00",
    "invalid UTF-8 in a label": b"\x32\x02\xff\xfe",
    "invalid UTF-8 in a layer's name": b"\x0a\x04\x2a\x02\xc3\x28",
    "nested too deep": b"\x0a\x7f" * 500,
    "a group that never ends": b"\x0b" * 4000,
}


@pytest.mark.parametrize("name", NOT_REQUESTS, ids=lambda name: name.replace(" ", "_"))
def test_bytes_that_are_no_request(server, canary, name) -> None:
    call = server.channel.unary_unary("/headlight.v1.AttentionService/Attend")
    failure = failure_of(lambda: call(NOT_REQUESTS[name], timeout=5))
    assert failure.code in (StatusCode.INVALID_ARGUMENT, StatusCode.INTERNAL, StatusCode.UNIMPLEMENTED)
    assert "server/" not in failure.message
    canary()


def test_unknown_fields_are_passed_over(server) -> None:
    call = server.channel.unary_unary("/headlight.v1.AttentionService/Attend")
    known = rank_4().SerializeToString()
    answer = service_pb.AttendResponse.FromString(call(known + b"\xf8\x7f\x01", timeout=5))
    assert make.bits(answer) == make.bits(server.attend(rank_4()))


def test_a_message_above_the_limit(start) -> None:
    def padded(count: int) -> bytes:
        """A request with a field of a later version, whose bytes are passed over."""
        return rank_4().SerializeToString() + b"\xfa\x7f" + bytes([count]) + bytes(count)

    most = len(padded(9))
    small = start("--threads=1", f"--max-receive-bytes={most}")
    call = small.channel.unary_unary("/headlight.v1.AttentionService/Attend")
    for count in (8, 9):
        assert service_pb.AttendResponse.FromString(call(padded(count), timeout=5)).HasField("output")
    failure = failure_of(lambda: call(padded(10), timeout=5))
    assert failure.code == StatusCode.RESOURCE_EXHAUSTED
    assert str(most) in failure.message
    assert small.attend(rank_4()).HasField("output")


def test_a_gzip_bomb_is_not_inflated_beyond_the_limit(start) -> None:
    small = start("--threads=1", "--max-receive-bytes=65536")
    channel = small.new_channel()
    request = rank_4()
    request.query_key_value.query.f32_le = bytes(16 << 20)
    call = channel.unary_unary("/headlight.v1.AttentionService/Attend", request_serializer=Request.SerializeToString)
    failure = failure_of(lambda: call(request, timeout=10, compression=grpc.Compression.Gzip))
    assert failure.code in (StatusCode.RESOURCE_EXHAUSTED, StatusCode.UNIMPLEMENTED)
    channel.close()
    assert small.attend(rank_4()).HasField("output")
