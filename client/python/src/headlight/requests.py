"""Requests from arrays and keywords. What is asked is checked by the server, not here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypedDict, TypeVar

import numpy as np
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from headlight.tensors import ArrayLike, to_spec, to_tensor
from headlight.v1 import attention_service_pb2 as attention_pb
from headlight.v1 import options_pb2 as options_pb
from headlight.v1 import outputs_pb2 as outputs_pb
from headlight.v1 import tensor_pb2 as tensor_pb

Message = TypeVar("Message")
Convert = Callable[[ArrayLike], Any]
Layout = Literal["halves", "interleaved"]
Scaling = options_pb.LinearScaling | options_pb.NtkAwareScaling | options_pb.Llama3Scaling | options_pb.YarnScaling
Maps = bool | Iterable[int] | outputs_pb.WeightMaps | Iterable[outputs_pb.WeightMaps]


class AttentionKeywords(TypedDict, total=False):
    """How to attend: AttentionOptions of the contract, whose comments give defaults and bounds."""

    query_heads: int
    key_value_heads: int
    head_size: int
    position: options_pb.PositionScheme  # of rotary(), sinusoidal(), learned() or alibi()
    query_offset: int
    key_offset: int
    query_positions: Sequence[int]
    key_positions: Sequence[int]
    causal: Literal["top_left", "bottom_right"] | int  # the alignment; a number is the offset of an explicit one
    window: tuple[int | None, int | None] | options_pb.WindowMask  # keys before and after; None: unbounded
    mask: ArrayLike  # bool: true may attend; numbers are added to the scores
    key_lengths: Sequence[int]
    segments: tuple[Sequence[int], Sequence[int]]  # ids of the queries and of the keys
    scale: float
    softcap: float
    sinks: Sequence[float]
    head_gains: Sequence[float]
    algorithm: Literal["naive", "flash"]
    precision: Literal["float32", "bfloat16"]
    allow_non_finite: bool
    priority: Literal["interactive", "batch"]


class AttendKeywords(AttentionKeywords, total=False):
    """And what comes back: OutputSelection of the contract."""

    omit_output: bool
    maps: Maps  # True: full maps of all heads; numbers: of these heads; or of weight_maps()
    log_sum_exp: bool
    head_outputs: bool
    head_statistics: bool
    verify_rows: int
    tensor_kind: Literal["f32", "f16", "bf16"]
    max_response_bytes: int


_PLAIN = ("query_heads", "key_value_heads", "head_size", "scale", "softcap", "sinks", "head_gains", "allow_non_finite")
_POSITIONS = ("query_offset", "key_offset", "query_positions", "key_positions")
_OUTPUTS = ("omit_output", "log_sum_exp", "head_outputs", "head_statistics", "verify_rows", "max_response_bytes")


@dataclass(frozen=True)
class LayerWeights:
    """A layer's matrices, applied as X W: the transpose of PyTorch's Linear.weight."""

    query: ArrayLike  # [E, Hq x D]
    key: ArrayLike  # [Ec, Hkv x D]
    value: ArrayLike  # [Ec, Hkv x Dv]
    output: ArrayLike | None = None  # [Hq x Dv, Eo]; without it the heads side by side are the output
    query_bias: ArrayLike | None = None
    key_bias: ArrayLike | None = None
    value_bias: ArrayLike | None = None
    output_bias: ArrayLike | None = None


@dataclass(frozen=True)
class SeededWeights:
    """A layer that the server makes from a number."""

    seed: int


@dataclass(frozen=True)
class SeededEmbeddings:
    """Embeddings [tokens, width] that the server makes from a number."""

    seed: int
    tokens: int
    width: int


Layer = str | LayerWeights | SeededWeights  # a name or id, the matrices, or a seed
Embeddings = ArrayLike | SeededEmbeddings


def enum_number(kind: EnumTypeWrapper, name: str | int) -> Any:
    """The number of an enum's value by the part of its name that differs, in lower case: "top_left".

    ValueError: it has none of that name.
    """
    if isinstance(name, int):
        return name
    prefix = enum_prefix(kind.DESCRIPTOR)
    if (full := prefix + name.upper()) in kind.keys():
        return kind.Value(full)
    known = [value.removeprefix(prefix).lower() for value in kind.keys() if not value.endswith("_UNSPECIFIED")]
    raise ValueError(f"{name!r} is none of {', '.join(known)}")


def enum_prefix(descriptor: EnumDescriptor) -> str:
    """What the names of an enum's values begin with: "CAUSAL_ALIGNMENT_"."""
    return descriptor.values_by_number[0].name.removesuffix("UNSPECIFIED")


def rotary(
    layout: Layout, *, base: float | None = None, rotary_size: int = 0, scaling: Scaling | None = None
) -> options_pb.PositionScheme:
    """Rotary positions, which turn Q and K. `scaling` is one of the contract's messages, such as YarnScaling."""
    number = enum_number(options_pb.ChannelLayout, layout)
    scheme = options_pb.RotaryPositions(base=base, rotary_size=rotary_size, layout=number)
    names = {"LinearScaling": "linear", "NtkAwareScaling": "ntk_aware", "Llama3Scaling": "llama3"}
    if scaling is not None:
        getattr(scheme, names.get(type(scaling).__name__, "yarn")).CopyFrom(scaling)
    return options_pb.PositionScheme(rotary=scheme)


def sinusoidal(layout: Layout, *, base: float | None = None) -> options_pb.PositionScheme:
    """Sines and cosines added to the embeddings; "interleaved" is the paper's layout."""
    number = enum_number(options_pb.ChannelLayout, layout)
    return options_pb.PositionScheme(sinusoidal=options_pb.SinusoidalPositions(base=base, layout=number))


def learned(table: ArrayLike) -> options_pb.PositionScheme:
    """A table [positions, E] whose row p is added to the embedding at position p."""
    return options_pb.PositionScheme(learned=options_pb.LearnedPositions(table=to_tensor(table)))


def alibi(slopes: Sequence[float] = ()) -> options_pb.PositionScheme:
    """A bias by distance; without slopes the paper's."""
    return options_pb.PositionScheme(alibi=options_pb.AlibiBias(slopes=slopes))


def top_keys(k: int) -> outputs_pb.TopKeys:
    """A form of weight_maps(): the largest k of each row."""
    return outputs_pb.TopKeys(k=k)


def pooled(rows: int, columns: int, reducer: Literal["max", "mean", "sum"]) -> outputs_pb.PooledMap:
    """A form of weight_maps(): the map shrunk to a size."""
    return outputs_pb.PooledMap(rows=rows, columns=columns, reducer=enum_number(outputs_pb.PoolReducer, reducer))


def weight_maps(
    heads: Iterable[int] = (),
    *,
    batches: Iterable[int] = (),
    rows: Iterable[tuple[int, int]] = (),
    keys: tuple[int, int] | None = None,
    form: Literal["full", "column_sums"] | outputs_pb.TopKeys | outputs_pb.PooledMap = "full",
    stage: Literal["weights", "scaled", "softcapped", "biased"] = "weights",
) -> outputs_pb.WeightMaps:
    """A request for maps: of which heads and batches (none: all), of which half-open ranges of rows and of keys."""
    ranges = [outputs_pb.RowRange(begin=begin, end=end) for begin, end in rows]
    number = enum_number(outputs_pb.MapStage, stage)
    maps = outputs_pb.WeightMaps(heads=heads, batches=batches, rows=ranges, stage=number)
    if keys is not None:
        maps.keys.begin, maps.keys.end = keys
    if isinstance(form, outputs_pb.TopKeys):
        maps.top_keys.CopyFrom(form)
    elif isinstance(form, outputs_pb.PooledMap):
        maps.pooled.CopyFrom(form)
    elif form == "column_sums":
        maps.column_sums.SetInParent()
    elif form == "full":
        maps.full.SetInParent()
    else:
        raise ValueError(f"{form!r} is none of full, column_sums, top_keys(), pooled()")
    return maps


def _maps(asked: Maps) -> list[outputs_pb.WeightMaps]:
    if isinstance(asked, bool):
        return [weight_maps()] if asked else []
    if isinstance(asked, outputs_pb.WeightMaps):
        return [asked]
    listed = list(asked)
    if any(isinstance(one, outputs_pb.WeightMaps) for one in listed):
        return listed
    return [weight_maps(int(head) for head in listed)] if listed else []


def _mask(keywords: Mapping[str, Any]) -> options_pb.Mask:
    mask = options_pb.Mask(key_lengths=keywords.get("key_lengths", ()))
    causal, window = keywords.get("causal"), keywords.get("window")
    if isinstance(causal, (bool, np.bool_)):
        raise ValueError("causal is an alignment, top_left or bottom_right, because systems disagree; or an offset")
    if isinstance(causal, str):
        mask.causal.alignment = enum_number(options_pb.CausalAlignment, causal)
    elif causal is not None:
        mask.causal.alignment, mask.causal.offset = options_pb.CAUSAL_ALIGNMENT_EXPLICIT, causal
    if isinstance(window, options_pb.WindowMask):
        mask.window.CopyFrom(window)
    elif window is not None:
        mask.window.CopyFrom(options_pb.WindowMask(left=window[0], right=window[1]))
    if keywords.get("segments") is not None:
        query_ids, key_ids = keywords["segments"]
        mask.segments.CopyFrom(options_pb.Segments(query_ids=query_ids, key_ids=key_ids))
    return mask


def attention_options(keywords: Mapping[str, Any], tensors: bool = True) -> options_pb.AttentionOptions:
    """The options of AttentionKeywords; without their tensors where a plan gives specs in their place."""
    options = options_pb.AttentionOptions(**{name: keywords[name] for name in _PLAIN if keywords.get(name) is not None})
    if keywords.get("position") is not None:
        options.position.CopyFrom(keywords["position"])
    where = {name: keywords[name] for name in _POSITIONS if keywords.get(name) is not None}
    options.position.MergeFrom(options_pb.PositionScheme(**where))
    options.mask.CopyFrom(_mask(keywords))
    if keywords.get("mask") is not None and tensors:
        options.mask.tensor.CopyFrom(to_tensor(keywords["mask"]))
    options.algorithm = enum_number(options_pb.Algorithm, keywords.get("algorithm") or 0)
    options.precision = enum_number(options_pb.ComputePrecision, keywords.get("precision") or 0)
    return options


def _outputs(keywords: Mapping[str, Any]) -> outputs_pb.OutputSelection:
    outputs = outputs_pb.OutputSelection(**{name: keywords[name] for name in _OUTPUTS if name in keywords})
    outputs.maps.extend(_maps(keywords.get("maps", False)))
    outputs.tensor_kind = enum_number(tensor_pb.TensorKind, keywords.get("tensor_kind") or 0)
    return outputs


def check_keywords(keywords: Mapping[str, Any], allowed: type) -> None:
    """TypeError: a keyword that the TypedDict has not. A misspelt one must not become a default."""
    unknown = [name for name in keywords if name not in allowed.__annotations__]
    if unknown:
        raise TypeError(f"unexpected keyword arguments: {', '.join(unknown)}")


def set_layer(message: Any, layer: Layer, convert: Convert = to_tensor) -> None:
    """Fills the `weights` choice of a message."""
    if isinstance(layer, str):
        message.layer = layer
    elif isinstance(layer, SeededWeights):
        message.seeded_weights.seed = layer.seed
    elif isinstance(layer, LayerWeights):
        for field in fields(layer):
            if (matrix := getattr(layer, field.name)) is not None:
                getattr(message.layer_weights, field.name).CopyFrom(convert(matrix))
    else:
        raise TypeError("a layer is a name, LayerWeights or SeededWeights")


@dataclass(frozen=True)
class QueryKeyValue:
    """Q, K and V given: [B, H, T, D], [B, T, H x D] or [T, H x D].

    `part`: (begin, end, total) where keys and values are begin .. end - 1 of a whole of `total`.
    """

    query: ArrayLike
    key: ArrayLike
    value: ArrayLike
    part: tuple[int, int, int] | None = None

    def fill(self, message: Any, convert: Convert) -> None:
        """Sets the input of a request."""
        into = message.query_key_value
        for name in ("query", "key", "value"):
            getattr(into, name).CopyFrom(convert(getattr(self, name)))
        if self.part is not None:
            into.part.begin, into.part.end, into.part.total_keys = self.part


@dataclass(frozen=True)
class SelfAttention:
    """Embeddings [T, E] or [B, T, E] and a layer; keys and values from a context, where there is one."""

    embeddings: Embeddings
    layer: Layer
    context: ArrayLike | None = None

    def fill(self, message: Any, convert: Convert) -> None:
        """Sets the input of a request."""
        into = message.self_attention
        if isinstance(self.embeddings, SeededEmbeddings):
            for field in fields(self.embeddings):
                setattr(into.seeded_embeddings, field.name, getattr(self.embeddings, field.name))
        else:
            into.embeddings.CopyFrom(convert(self.embeddings))
        if self.context is not None:
            into.context.CopyFrom(convert(self.context))
        set_layer(into, self.layer, convert)


def words(tokens: str | Iterable[str]) -> list[str]:
    """Labels; a text is split at its spaces. TypeError: one is no text."""
    listed = tokens.split() if isinstance(tokens, str) else list(tokens)
    for one in listed:
        if not isinstance(one, str):
            raise TypeError(f"tokens are texts, and {one!r} is none")
    return listed


def priority_of(keywords: Mapping[str, Any]) -> Any:
    """The priority of a call."""
    return enum_number(attention_pb.Priority, keywords.get("priority") or 0)


def fill_request(
    request: Message, source: QueryKeyValue | SelfAttention, keywords: AttendKeywords, tokens: str | Iterable[str] = ()
) -> Message:
    """An AttendRequest, or a CompareAlgorithmsRequest, which has the same fields.

    TypeError: a keyword that is none of AttendKeywords. ValueError: a name that is none of an enum's.
    """
    check_keywords(keywords, AttendKeywords)
    into: Any = request
    source.fill(into, to_tensor)
    into.options.CopyFrom(attention_options(keywords))
    into.outputs.CopyFrom(_outputs(keywords))
    into.priority = priority_of(keywords)
    into.tokens.extend(words(tokens))
    return request


def plan_request(source: QueryKeyValue | SelfAttention, keywords: AttendKeywords) -> attention_pb.PlanAttentionRequest:
    """The same call without its data: shapes and kinds stand for tensors."""
    check_keywords(keywords, AttendKeywords)
    request = attention_pb.PlanAttentionRequest(outputs=_outputs(keywords))
    source.fill(request, to_spec)
    request.options.CopyFrom(attention_options(keywords, tensors=False))
    request.priority = priority_of(keywords)
    if keywords.get("mask") is not None:
        request.mask_tensor.CopyFrom(to_spec(keywords["mask"]))
    learned_positions = request.options.position.learned
    if learned_positions.HasField("table"):
        request.learned_table.CopyFrom(to_spec(learned_positions.table))
        learned_positions.ClearField("table")
    return request
