"""A table of malformed requests over the whole surface: the first 8 violations and the right count of each.

What is wrong with tensors, sizes and labels is in test_errors.py, whose bases and helpers are used here.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

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
    full_map,
    plan_of,
    pooled,
    qkv,
    top_keys,
)
from rpc_errors import is_field_path, refusal_of
from test_errors import (
    EXPENSIVE,
    INVALID,
    MASK,
    POSITION,
    QKV,
    SELF,
    alibi,
    both,
    causal,
    context,
    keys,
    layer,
    learned,
    maps,
    put,
    rank_3,
    rank_4,
    rotary,
    rows,
    seeded,
    sinusoidal,
    zeros,
)
from wire import BF16, F16, options_pb, outputs_pb, service_pb, tensor_pb

Request = service_pb.AttendRequest
NAN, INF = float("nan"), float("inf")
MOST_VIOLATIONS = 8
MEAN = outputs_pb.POOL_REDUCER_MEAN


def unequal() -> Request:
    """4 queries over 6 keys, 2 batches."""
    return qkv(np.random.default_rng(21), Sizes(heads=2, tokens=4, keys=6, size=4, batch=2))


def many_heads() -> Request:
    return qkv(np.random.default_rng(22), Sizes(heads=12, tokens=4, size=4))


@dataclass
class Malformed:
    """A request, what is wrong with it, and all fields that violate, in order where only the first 8 are named."""

    name: str
    base: Callable[[], Request]
    spoil: Callable[[Request], object]
    fields: list[str]
    reason: str = INVALID
    in_order: bool = False  # all violations are of one list, so that the first 8 are known

    def request(self) -> Request:
        request = self.base()
        self.spoil(request)
        return request


def window(**fields) -> Callable[[Request], None]:
    return put(f"{MASK}.window", options_pb.WindowMask(**fields))


def segments(query_ids: list[int], key_ids: list[int]) -> Callable[[Request], None]:
    return put(f"{MASK}.segments", options_pb.Segments(query_ids=query_ids, key_ids=key_ids))


def causally(**fields) -> Callable[[Request], None]:
    return put(f"{MASK}.causal", causal(**fields))


def scaled(**scaling) -> Callable[[Request], None]:
    return put(POSITION, rotary(layout=HALVES, **scaling))


def linear(factor: float) -> Callable[[Request], None]:
    return scaled(linear=options_pb.LinearScaling(factor=factor))


def ntk_aware(factor: float) -> Callable[[Request], None]:
    return scaled(ntk_aware=options_pb.NtkAwareScaling(factor=factor))


def llama3(factor: float = 8, low: float = 1, high: float = 4, original: int = 8192) -> Callable[[Request], None]:
    message = options_pb.Llama3Scaling(
        factor=factor, low_frequency_factor=low, high_frequency_factor=high, original_context=original
    )
    return scaled(llama3=message)


def yarn(factor: float = 4, original_context: int = 4096, **fields) -> Callable[[Request], None]:
    return scaled(yarn=options_pb.YarnScaling(factor=factor, original_context=original_context, **fields))


def positions(side: str, given: list[int]) -> Callable[[Request], None]:
    return put(f"{POSITION}.{side}_positions", given)


def offset(side: str, value: int) -> Callable[[Request], None]:
    return put(f"{POSITION}.{side}_offset", value)


WINDOW = f"{MASK}.window"
SEGMENTS = f"{MASK}.segments"
ROTARY = f"{POSITION}.rotary"
QUERY_POSITIONS, KEY_POSITIONS = f"{POSITION}.query_positions", f"{POSITION}.key_positions"
MAP = "outputs.maps[0]"

WINDOW_CASES = [
    Malformed("no side", rank_4, window(), [WINDOW]),
    Malformed("an alignment and no side", rank_4, window(alignment=TOP_LEFT), [WINDOW]),
    Malformed("left below 0", rank_4, window(left=-1), [f"{WINDOW}.left"]),
    Malformed("right below 0", rank_4, window(left=1, right=-(2**63)), [f"{WINDOW}.right"]),
    Malformed("both sides below 0", rank_4, window(left=-2, right=-1), [f"{WINDOW}.left", f"{WINDOW}.right"]),
    Malformed("an unknown alignment", rank_4, window(left=1, alignment=9), [f"{WINDOW}.alignment"]),
    Malformed("an alignment below 0", rank_4, window(left=1, alignment=-1), [f"{WINDOW}.alignment"]),
    Malformed("explicit without an offset", rank_4, window(left=1, alignment=EXPLICIT), [f"{WINDOW}.offset"]),
    Malformed("an offset without an alignment", rank_4, window(left=1, offset=0), [f"{WINDOW}.offset"]),
    Malformed("an offset with top left", rank_4, window(left=1, alignment=TOP_LEFT, offset=1), [f"{WINDOW}.offset"]),
    Malformed("an offset with bottom right", rank_4, window(right=1, alignment=BOTTOM_RIGHT, offset=1),
              [f"{WINDOW}.offset"]),
    Malformed("an offset of 2^31", rank_4, window(left=1, alignment=EXPLICIT, offset=2**31), [f"{WINDOW}.offset"]),
    Malformed("an offset of -2^63", rank_4, window(left=1, alignment=EXPLICIT, offset=-(2**63)),
              [f"{WINDOW}.offset"]),
    Malformed("an alignment beside causal", rank_4,
              both(causally(alignment=TOP_LEFT), window(left=1, alignment=TOP_LEFT)), [f"{WINDOW}.alignment"]),
    Malformed("an offset beside causal", rank_4, both(causally(alignment=TOP_LEFT), window(left=1, offset=1)),
              [f"{WINDOW}.offset"]),
    Malformed("an alignment and an offset beside causal", rank_4,
              both(causally(alignment=EXPLICIT, offset=1), window(left=1, alignment=EXPLICIT, offset=1)),
              [f"{WINDOW}.alignment", f"{WINDOW}.offset"]),
    Malformed("ambiguous with other lengths", unequal, window(left=1), [f"{WINDOW}.alignment"]),
    Malformed("ambiguous with key lengths", rank_4, both(window(right=1), put(f"{MASK}.key_lengths", [4, 2])),
              [f"{WINDOW}.alignment"]),
    Malformed("ambiguous over a context", context, window(left=1, right=1), [f"{WINDOW}.alignment"]),
    Malformed("beside causal without an alignment", rank_4, both(causally(), window(left=1)),
              [f"{MASK}.causal.alignment"]),
]  # fmt: skip

SEGMENT_CASES = [
    Malformed("empty segments", rank_4, segments([], []), [f"{SEGMENTS}.query_ids", f"{SEGMENTS}.key_ids"]),
    Malformed("no query ids", rank_4, segments([], [1] * 4), [f"{SEGMENTS}.query_ids"]),
    Malformed("no key ids", rank_4, segments([1] * 4, []), [f"{SEGMENTS}.key_ids"]),
    Malformed("a query id too few", rank_4, segments([1] * 3, [1] * 4), [f"{SEGMENTS}.query_ids"]),
    Malformed("a query id too many", rank_4, segments([1] * 9, [1] * 8), [f"{SEGMENTS}.query_ids"]),
    Malformed("a key id too many", rank_4, segments([1] * 8, [1] * 5), [f"{SEGMENTS}.key_ids"]),
    Malformed("as many key ids as queries", unequal, segments([1] * 4, [1] * 4), [f"{SEGMENTS}.key_ids"]),
    Malformed("ids of three batches", rank_4, segments([1] * 12, [1] * 12),
              [f"{SEGMENTS}.query_ids", f"{SEGMENTS}.key_ids"]),
]  # fmt: skip

NUMBER_CASES = [
    Malformed("a softcap of 0", rank_4, put("options.softcap", 0.0), ["options.softcap"]),
    Malformed("a softcap below 0", rank_4, put("options.softcap", -30.0), ["options.softcap"]),
    Malformed("an infinite softcap", rank_4, put("options.softcap", INF), ["options.softcap"]),
    Malformed("a softcap that is no number", rank_4, put("options.softcap", NAN), ["options.softcap"]),
    Malformed("a sink too few", rank_4, put("options.sinks", [0.5]), ["options.sinks"]),
    Malformed("a sink too many", rank_4, put("options.sinks", [0.5] * 3), ["options.sinks"]),
    Malformed("an infinite sink", rank_4, put("options.sinks", [0.5, INF]), ["options.sinks[1]"]),
    Malformed("a sink of -infinity", rank_4, put("options.sinks", [-INF, 0.5]), ["options.sinks[0]"]),
    Malformed("sinks that are no numbers", rank_3, put("options.sinks", [NAN, NAN]),
              ["options.sinks[0]", "options.sinks[1]"]),
    Malformed("a sink too many that is no number", rank_4, put("options.sinks", [0.5, 0.5, NAN]),
              ["options.sinks", "options.sinks[2]"]),
    Malformed("a gain too few", rank_4, put("options.head_gains", [1.0]), ["options.head_gains"]),
    Malformed("a gain too many", layer, put("options.head_gains", [1.0] * 3), ["options.head_gains"]),
    Malformed("an infinite gain", rank_4, put("options.head_gains", [-INF, 1.0]), ["options.head_gains[0]"]),
    Malformed("a gain that is no number", layer, put("options.head_gains", [1.0, NAN]), ["options.head_gains[1]"]),
    Malformed("a precision below 0", rank_4, put("options.precision", -1), ["options.precision"]),
    Malformed("a precision that there is not", rank_4, put("options.precision", 3), ["options.precision"]),
]  # fmt: skip

POSITION_CASES = [
    Malformed("a query position too few", rank_4, positions("query", [0] * 3), [QUERY_POSITIONS]),
    Malformed("a query position too many", rank_4, positions("query", [0] * 9), [QUERY_POSITIONS]),
    Malformed("a key position too few", rank_4, positions("key", [0] * 7), [KEY_POSITIONS]),
    Malformed("as many key positions as queries", unequal, positions("key", [0] * 4), [KEY_POSITIONS]),
    Malformed("wrong counts on both sides", unequal, both(positions("query", [0] * 6), positions("key", [0] * 4)),
              [QUERY_POSITIONS, KEY_POSITIONS]),
    Malformed("query positions and an offset", rank_4, both(positions("query", [0] * 4), offset("query", 0)),
              [QUERY_POSITIONS]),
    Malformed("key positions and an offset", rank_4, both(positions("key", [0] * 8), offset("key", 3)),
              [KEY_POSITIONS]),
    Malformed("a query position of 2^31", rank_4, positions("query", [0, 2**31, 1, 2]), [f"{QUERY_POSITIONS}[1]"]),
    Malformed("a key position of -2^63", rank_4, positions("key", [0, 1, 2, -(2**63)]), [f"{KEY_POSITIONS}[3]"]),
    Malformed("key positions of other tokens than the queries are", layer,
              both(put(POSITION, alibi()), positions("query", [0, 1, 2, 3]), positions("key", [0, 1, 2, 4])),
              [KEY_POSITIONS]),
    Malformed("key positions alone of the queries' own tokens", layer,
              both(put(POSITION, alibi()), positions("key", [3, 2, 1, 0])), [KEY_POSITIONS]),
    Malformed("key positions do not say where queries stand", unequal,
              both(put(POSITION, rotary(layout=HALVES)), positions("key", [0] * 6)), [f"{POSITION}.query_offset"]),
    Malformed("positions outside a table", layer,
              both(put(POSITION, learned(zeros(9, 8))), positions("query", [0, 9, 3, -1])),
              [f"{QUERY_POSITIONS}[1]", f"{QUERY_POSITIONS}[3]"]),
    Malformed("sinusoidal with a base below 0", layer, put(POSITION, sinusoidal(layout=HALVES, base=-1)),
              [f"{POSITION}.sinusoidal.base"]),
    Malformed("a rotary base of 0", rank_4, put(POSITION, rotary(layout=INTERLEAVED, base=0)), [f"{ROTARY}.base"]),
    Malformed("a rotary size of 1", rank_4, put(POSITION, rotary(layout=INTERLEAVED, rotary_size=1)),
              [f"{ROTARY}.rotary_size"]),
    Malformed("a rotary size beyond all", rank_4, put(POSITION, rotary(layout=INTERLEAVED, rotary_size=2**32 - 2)),
              [f"{ROTARY}.rotary_size"]),
    Malformed("an unknown layout and a factor of 0", rank_4,
              put(POSITION, rotary(layout=3, linear=options_pb.LinearScaling())),
              [f"{ROTARY}.layout", f"{ROTARY}.linear.factor"]),
    Malformed("slopes that are not finite", rank_4, put(POSITION, alibi(INF, NAN)),
              [f"{POSITION}.alibi.slopes[0]", f"{POSITION}.alibi.slopes[1]"]),
]  # fmt: skip

SCALING_CASES = [
    *[Malformed(f"linear by {factor}", rank_4, linear(factor), [f"{ROTARY}.linear.factor"])
      for factor in (0.0, -2.0, INF, NAN)],
    *[Malformed(f"NTK-aware by {factor}", rank_4, ntk_aware(factor), [f"{ROTARY}.ntk_aware.factor"])
      for factor in (0.0, -2.0, INF, NAN)],
    *[Malformed(f"Llama 3 by {factor}", rank_4, llama3(factor=factor), [f"{ROTARY}.llama3.factor"])
      for factor in (0.0, -8.0, INF, NAN)],
    Malformed("a low frequency factor of 0", rank_4, llama3(low=0), [f"{ROTARY}.llama3.low_frequency_factor"]),
    Malformed("a low frequency factor that is no number", rank_4, llama3(low=NAN),
              [f"{ROTARY}.llama3.low_frequency_factor"]),
    Malformed("a high frequency factor like the low", rank_4, llama3(low=4, high=4),
              [f"{ROTARY}.llama3.high_frequency_factor"]),
    Malformed("a high frequency factor below the low", rank_4, llama3(low=4, high=1),
              [f"{ROTARY}.llama3.high_frequency_factor"]),
    Malformed("an infinite high frequency factor", rank_4, llama3(high=INF),
              [f"{ROTARY}.llama3.high_frequency_factor"]),
    Malformed("Llama 3 for no tokens", rank_4, llama3(original=0), [f"{ROTARY}.llama3.original_context"]),
    Malformed("Llama 3 for tokens below 0", rank_4, llama3(original=-1), [f"{ROTARY}.llama3.original_context"]),
    Malformed("Llama 3 with nothing said", rank_4, scaled(llama3=options_pb.Llama3Scaling()),
              [f"{ROTARY}.llama3.{name}" for name in
               ("factor", "low_frequency_factor", "high_frequency_factor", "original_context")]),
    *[Malformed(f"YaRN by {factor}", rank_4, yarn(factor=factor), [f"{ROTARY}.yarn.factor"])
      for factor in (0.0, -4.0, INF, NAN)],
    Malformed("YaRN for no tokens", rank_4, yarn(original_context=0), [f"{ROTARY}.yarn.original_context"]),
    Malformed("a fast beta of 0", rank_4, yarn(beta_fast=0), [f"{ROTARY}.yarn.beta_fast"]),
    Malformed("a fast beta that is no number", rank_4, yarn(beta_fast=NAN), [f"{ROTARY}.yarn.beta_fast"]),
    Malformed("a fast beta below the slow", rank_4, yarn(beta_fast=1, beta_slow=32), [f"{ROTARY}.yarn.beta_fast"]),
    Malformed("a slow beta of 0", rank_4, yarn(beta_slow=0), [f"{ROTARY}.yarn.beta_slow"]),
    Malformed("an attention factor of 0", rank_4, yarn(attention_factor=0), [f"{ROTARY}.yarn.attention_factor"]),
    Malformed("an infinite attention factor", rank_4, yarn(attention_factor=INF),
              [f"{ROTARY}.yarn.attention_factor"]),
    Malformed("YaRN with nothing said and an odd size", rank_4,
              put(POSITION, rotary(layout=HALVES, rotary_size=3, yarn=options_pb.YarnScaling())),
              [f"{ROTARY}.rotary_size", f"{ROTARY}.yarn.factor", f"{ROTARY}.yarn.original_context"]),
]  # fmt: skip

OUTPUT_CASES = [
    Malformed("pooled without a reducer", rank_4, maps(pooled(2, 2, 0)), [f"{MAP}.pooled.reducer"]),
    Malformed("pooled with an unknown reducer", rank_4, maps(pooled(2, 2, 9)), [f"{MAP}.pooled.reducer"]),
    Malformed("pooled to no rows", rank_4, maps(pooled(0, 2, MEAN)), [f"{MAP}.pooled.rows"]),
    Malformed("pooled to no columns", rank_4, maps(pooled(2, 0, MEAN)), [f"{MAP}.pooled.columns"]),
    Malformed("pooled to more rows", rank_4, maps(pooled(5, 4, MEAN)), [f"{MAP}.pooled.rows"]),
    Malformed("pooled to more columns", unequal, maps(pooled(4, 7, MEAN)), [f"{MAP}.pooled.columns"]),
    Malformed("pooled to more rows than the range", rank_4, maps(pooled(3, 4, MEAN, rows=rows((1, 3)))),
              [f"{MAP}.pooled.rows"]),
    Malformed("pooled to more columns than the range", rank_4, maps(pooled(4, 2, MEAN, keys=keys(1, 2))),
              [f"{MAP}.pooled.columns"]),
    Malformed("pooled to nothing by nothing", rank_4, maps(pooled(0, 0, 0)),
              [f"{MAP}.pooled.rows", f"{MAP}.pooled.columns", f"{MAP}.pooled.reducer"]),
    Malformed("pooled beyond all", rank_4, maps(full_map(), pooled(2**32 - 1, 2**32 - 1, MEAN)),
              ["outputs.maps[1].pooled.rows", "outputs.maps[1].pooled.columns"]),
    Malformed("column sums of a stage that there is not", rank_4, maps(column_sums(stage=5)), [f"{MAP}.stage"]),
    Malformed("a stage below 0", rank_4, maps(full_map(stage=-1)), [f"{MAP}.stage"]),
    Malformed("a stage and no form", rank_4, maps(outputs_pb.WeightMaps(stage=2)), [f"{MAP}.form"]),
    Malformed("no form and an unknown stage", rank_4, maps(outputs_pb.WeightMaps(stage=7)),
              [f"{MAP}.form", f"{MAP}.stage"]),
    Malformed("column sums of no keys", rank_4, maps(column_sums(keys=keys(3, 3))), [f"{MAP}.keys"]),
    Malformed("column sums of heads that there are not", rank_4, maps(column_sums(heads=[2])), [f"{MAP}.heads[0]"]),
    Malformed("the top 0 of a raw stage", rank_4, maps(top_keys(0, stage=2)), [f"{MAP}.top_keys.k"]),
    Malformed("65 verified rows", rank_4, put("outputs.verify_rows", 65), ["outputs.verify_rows"], EXPENSIVE),
    Malformed("2^32 - 1 verified rows", rank_4, put("outputs.verify_rows", 2**32 - 1), ["outputs.verify_rows"],
              EXPENSIVE),
    Malformed("verified rows of no output", rank_4,
              both(put("outputs.omit_output", True), put("outputs.log_sum_exp", True), put("outputs.verify_rows", 1)),
              ["outputs.verify_rows"]),
    Malformed("no output and nothing else", layer, put("outputs.omit_output", True), ["outputs.omit_output"]),
    Malformed("no output, and rows of it verified", rank_4,
              both(put("outputs.omit_output", True), put("outputs.verify_rows", 1)),
              ["outputs.omit_output", "outputs.verify_rows"]),
    Malformed("booleans asked for", layer, put("outputs.tensor_kind", tensor_pb.TENSOR_KIND_BOOL),
              ["outputs.tensor_kind"]),
    Malformed("a kind below 0", rank_4, put("outputs.tensor_kind", -1), ["outputs.tensor_kind"]),
]  # fmt: skip

MIXED_CASES = [
    Malformed("a value of another kind and a softcap of 0", rank_4,
              both(put(f"{QKV}.value", zeros(2, 2, 4, 4, kind=F16)), put("options.softcap", 0.0)),
              [f"{QKV}.value.data", "options.softcap"]),
    Malformed("three kinds", rank_4,
              both(put(f"{QKV}.key", zeros(2, 2, 4, 4, kind=F16)), put(f"{QKV}.value", zeros(2, 2, 4, 4, kind=BF16))),
              [f"{QKV}.key.data", f"{QKV}.value.data"]),
    Malformed("a context of another kind beside a window", context,
              both(put(f"{SELF}.context", zeros(2, 6, 5, kind=F16)), window(left=1)),
              [f"{SELF}.context.data", f"{WINDOW}.alignment"]),
    Malformed("a mask of another kind beside segments", rank_4,
              both(put(f"{MASK}.tensor", zeros(4, kind=BF16)), segments([1], [1] * 4)),
              [f"{MASK}.tensor.data", f"{SEGMENTS}.query_ids"]),
    Malformed("all rules at odds", unequal,
              both(causally(alignment=TOP_LEFT, offset=1), window(left=-1, alignment=TOP_LEFT),
                   put(f"{MASK}.key_lengths", [7, -1]), segments([1] * 5, [1] * 6), put(f"{MASK}.tensor", zeros(3, 6))),
              [f"{MASK}.causal.offset", f"{WINDOW}.left", f"{WINDOW}.alignment", f"{MASK}.key_lengths[0]",
               f"{MASK}.key_lengths[1]", f"{SEGMENTS}.query_ids", f"{MASK}.tensor.shape"]),
    Malformed("no input and bad options", Request, both(put("options.softcap", -1.0), put("options.scale", NAN)),
              ["input", "options.softcap", "options.scale"]),
    Malformed("8 at once", rank_4,
              both(put("options.softcap", 0.0), put("options.sinks", [0.0]), put("options.head_gains", [NAN, NAN]),
                   put("options.scale", INF), put("options.algorithm", 9), put("outputs.tensor_kind", 9),
                   put("tokens", ["a"])),
              ["options.softcap", "options.sinks", "options.head_gains[0]", "options.head_gains[1]", "options.scale",
               "options.algorithm", "outputs.tensor_kind", "tokens"]),
    Malformed("9 at once", rank_4,
              both(put("options.softcap", 0.0), put("options.sinks", [0.0]), put("options.head_gains", [NAN, NAN]),
                   put("options.scale", INF), put("options.algorithm", 9), put("outputs.tensor_kind", 9),
                   put("tokens", ["a"]), put("priority", 9)),
              ["options.softcap", "options.sinks", "options.head_gains[0]", "options.head_gains[1]", "options.scale",
               "options.algorithm", "outputs.tensor_kind", "tokens", "priority"]),
    Malformed("a limit among others", rank_4, both(put("outputs.verify_rows", 65), put("options.softcap", 0.0)),
              ["outputs.verify_rows", "options.softcap"]),
    Malformed("12 sinks", many_heads, put("options.sinks", [NAN] * 12), [f"options.sinks[{h}]" for h in range(12)],
              in_order=True),
    Malformed("12 gains", many_heads, put("options.head_gains", [INF] * 12),
              [f"options.head_gains[{h}]" for h in range(12)], in_order=True),
    Malformed("every other of 24 sinks", many_heads, put("options.sinks", [0.5, NAN] * 12),
              ["options.sinks", *(f"options.sinks[{h}]" for h in range(1, 24, 2))], in_order=True),
    Malformed("8 maps without a reducer, each too large", rank_4, maps(*[pooled(5, 5, 0)] * 8),
              [f"outputs.maps[{i}].pooled.{name}" for i in range(8) for name in ("rows", "columns", "reducer")]),
    Malformed("sinks and gains of 12 heads", many_heads,
              both(put("options.sinks", [NAN] * 12), put("options.head_gains", [NAN] * 12)),
              [f"options.{name}[{h}]" for name in ("sinks", "head_gains") for h in range(12)]),
    Malformed("positions far outside a table", layer,
              both(put(POSITION, learned(zeros(3, 8))), positions("query", [7] * 8)),
              [f"{QUERY_POSITIONS}[{i}]" for i in range(8)], in_order=True),
    Malformed("seeded, and all numbers bad", seeded,
              both(put("options.softcap", NAN), put("options.scale", NAN), put("options.sinks", [NAN, NAN]),
                   put("options.head_gains", [NAN, NAN]), put(POSITION, alibi(NAN, NAN)), window(left=-1, right=-1)),
              ["options.softcap", "options.scale", "options.sinks[0]", "options.sinks[1]", "options.head_gains[0]",
               "options.head_gains[1]", f"{POSITION}.alibi.slopes[0]", f"{POSITION}.alibi.slopes[1]",
               f"{WINDOW}.left", f"{WINDOW}.right"]),
]  # fmt: skip

GROUPS = {
    "window": WINDOW_CASES,
    "segments": SEGMENT_CASES,
    "number": NUMBER_CASES,
    "position": POSITION_CASES,
    "scaling": SCALING_CASES,
    "output": OUTPUT_CASES,
    "mixed": MIXED_CASES,
}
CASES = {f"{group}: {bad.name}": bad for group, cases in GROUPS.items() for bad in cases}

# What a plan is told of: no data, no labels.
PLANNED = [name for name, bad in CASES.items() if not any(f.endswith(".data") or f == "tokens" for f in bad.fields)]


def spaced(name: str) -> str:
    return name.replace(" ", "_")


def assert_named(bad: Malformed, named: list[str], count: int) -> None:
    """All violations up to 8, else 8 of them; and how many there are."""
    assert count == len(bad.fields)
    assert len(named) == min(count, MOST_VIOLATIONS)
    if bad.in_order:
        assert named == bad.fields[:MOST_VIOLATIONS]
    elif count <= MOST_VIOLATIONS:
        assert Counter(named) == Counter(bad.fields)
    else:
        assert not Counter(named) - Counter(bad.fields)


def test_there_are_100() -> None:
    assert len(CASES) == sum(map(len, GROUPS.values())) >= 100


@pytest.mark.parametrize("name", CASES, ids=spaced)
def test_malformed(server, canary, name) -> None:
    bad = CASES[name]
    request = bad.request()
    failure = refusal_of(lambda: server.attend(request), StatusCode.INVALID_ARGUMENT, bad.reason)
    assert_named(bad, [path for path, _ in failure.violation_list], failure.violation_count)
    for path, description in failure.violation_list:
        assert is_field_path(path, Request.DESCRIPTOR), path
        assert description.startswith("got ") and ", expected " in description
    canary()


@pytest.mark.parametrize("name", PLANNED, ids=spaced)
def test_a_plan_says_the_same(server, name) -> None:
    """An error where the request makes no sense, an answer where it is too large."""
    bad = CASES[name]
    request = plan_of(bad.request())
    if bad.reason == EXPENSIVE:
        violations = server.stub.PlanAttention(request, timeout=10).violations
        assert Counter(v.field for v in violations) == Counter(bad.fields)
        return
    failure = refusal_of(
        lambda: server.stub.PlanAttention(request, timeout=10), StatusCode.INVALID_ARGUMENT, bad.reason
    )
    assert_named(bad, [path for path, _ in failure.violation_list], failure.violation_count)
