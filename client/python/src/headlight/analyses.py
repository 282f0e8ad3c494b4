"""Requests of AnalysisService and LayerService from arrays and keywords."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypedDict

from headlight.requests import (
    AttentionKeywords,
    Layer,
    attention_options,
    check_keywords,
    enum_number,
    priority_of,
    set_layer,
    words,
)
from headlight.tensors import ArrayLike, to_tensor
from headlight.v1 import analysis_service_pb2 as analysis_pb
from headlight.v1 import layer_service_pb2 as layer_pb

CHUNK_BYTES = 1 << 20  # the largest that the contract allows
File = str | os.PathLike[str] | bytes | BinaryIO


@dataclass(frozen=True)
class HeadSequence:
    """One text that heads read."""

    embeddings: ArrayLike  # [T, E]
    token_ids: Sequence[int] = ()  # equal ids are the same token
    pattern: ArrayLike | None = None  # [T, T] bool: where attention counts towards pattern_score

    def message(self) -> analysis_pb.HeadSequence:
        """As the contract has it."""
        message = analysis_pb.HeadSequence(embeddings=to_tensor(self.embeddings), token_ids=self.token_ids)
        if self.pattern is not None:
            message.pattern.CopyFrom(to_tensor(self.pattern))
        return message


@dataclass(frozen=True)
class CircuitSwap:
    """One head's query-key circuit with another's output-value circuit, on embeddings [T, E]."""

    embeddings: ArrayLike
    aim_head: int
    cargo_head: int
    options: AttentionKeywords = field(default_factory=AttentionKeywords)

    def message(self) -> analysis_pb.CircuitSwap:
        """As the contract has it."""
        check_keywords(self.options, AttentionKeywords)
        return analysis_pb.CircuitSwap(
            embeddings=to_tensor(self.embeddings), options=attention_options(self.options),
            aim_head=self.aim_head, cargo_head=self.cargo_head,
        )  # fmt: skip


class CircuitsKeywords(TypedDict, total=False):
    """What AnalyzeCircuitsRequest has beside the layer."""

    query_heads: int
    key_value_heads: int
    heads: Iterable[int]
    directions: int
    queries: ArrayLike  # [N, E]
    keys: ArrayLike  # [M, E]
    later_layer: str
    later_query_heads: int
    later_key_value_heads: int
    swap: CircuitSwap
    priority: Literal["interactive", "batch"]


class TraceKeywords(TypedDict, total=False):
    """What TraceStackRequest has beside the stack and its tokens."""

    token_ids: Sequence[int]
    off: Iterable[tuple[int, int]]  # heads that are switched off: layer and head
    maps: bool
    logits: bool
    bets: int
    target: str
    target_id: int
    priority: Literal["interactive", "batch"]


class UploadKeywords(TypedDict, total=False):
    """What UploadLayerHeader has beside the name."""

    query_heads: int
    key_value_heads: int
    tensor_names: layer_pb.TensorNames
    replace: bool


class PruneKeywords(TypedDict, total=False):
    """What PruneLayerRequest has beside the layer, its heads and the new name."""

    replace: bool
    output_shift: ArrayLike  # [Eo]: AblateHeadsResponse.mean_contribution
    query_heads: int
    key_value_heads: int


def _set_attention(request: Any, layer: Layer, keywords: AttentionKeywords) -> None:
    check_keywords(keywords, AttentionKeywords)
    set_layer(request, layer)
    request.options.CopyFrom(attention_options(keywords))
    request.priority = priority_of(keywords)


def analyze_heads_request(
    sequences: Iterable[HeadSequence | ArrayLike],
    layer: Layer,
    cluster_distance: float | None,
    keywords: AttentionKeywords,
) -> analysis_pb.AnalyzeHeadsRequest:
    """Of arrays [T, E] or HeadSequences."""
    request = analysis_pb.AnalyzeHeadsRequest(cluster_distance=cluster_distance)
    for one in sequences:
        request.sequences.append((one if isinstance(one, HeadSequence) else HeadSequence(one)).message())
    _set_attention(request, layer, keywords)
    return request


def ablate_heads_request(
    embeddings: ArrayLike, layer: Layer, heads: Iterable[int], mode: str, keywords: AttentionKeywords
) -> analysis_pb.AblateHeadsRequest:
    """Of an array [T, E] or [B, T, E]."""
    number = enum_number(analysis_pb.AblationMode, mode)
    request = analysis_pb.AblateHeadsRequest(embeddings=to_tensor(embeddings), heads=heads, mode=number)
    _set_attention(request, layer, keywords)
    return request


def analyze_circuits_request(layer: str, keywords: CircuitsKeywords) -> analysis_pb.AnalyzeCircuitsRequest:
    """Of a layer that the server holds."""
    check_keywords(keywords, CircuitsKeywords)
    given: dict[str, Any] = {**keywords, "layer": layer, "priority": priority_of(keywords)}
    for name in ("queries", "keys"):
        if given.get(name) is not None:
            given[name] = to_tensor(given[name])
    if given.get("swap") is not None:
        given["swap"] = given["swap"].message()
    return analysis_pb.AnalyzeCircuitsRequest(**given)


def trace_stack_request(
    stack: str, tokens: str | Iterable[str], keywords: TraceKeywords
) -> analysis_pb.TraceStackRequest:
    """Of words or ids."""
    check_keywords(keywords, TraceKeywords)
    given: dict[str, Any] = {**keywords, "stack": stack, "tokens": words(tokens), "priority": priority_of(keywords)}
    given["off"] = [analysis_pb.StackHead(layer=layer, head=head) for layer, head in given.get("off", ())]
    return analysis_pb.TraceStackRequest(**given)


def prune_layer_request(
    layer: str, heads: Iterable[int], name: str, keywords: PruneKeywords
) -> layer_pb.PruneLayerRequest:
    """Of a layer that the server holds."""
    check_keywords(keywords, PruneKeywords)
    given: dict[str, Any] = {**keywords, "layer": layer, "heads": heads, "name": name}
    if given.get("output_shift") is not None:
        given["output_shift"] = to_tensor(given["output_shift"])
    return layer_pb.PruneLayerRequest(**given)


def upload_requests(file: File, name: str, keywords: UploadKeywords) -> Iterator[layer_pb.UploadLayerRequest]:
    """The messages of an upload: a header, then a path's, a file's or the given bytes. OSError: it cannot be read.

    A file that the caller opened is read from where it stands, and left open.
    """
    check_keywords(keywords, UploadKeywords)
    header = layer_pb.UploadLayerHeader(name=name, **keywords)
    if isinstance(file, bytes):
        header.total_bytes = len(file)
        return _parts(header, io.BytesIO(file))
    if isinstance(file, (str, os.PathLike)):
        opened = Path(file).open("rb")
        header.total_bytes = os.fstat(opened.fileno()).st_size
        return _closing(opened, _parts(header, opened))
    return _parts(header, file)


def _parts(header: layer_pb.UploadLayerHeader, file: BinaryIO) -> Iterator[layer_pb.UploadLayerRequest]:
    yield layer_pb.UploadLayerRequest(header=header)
    while chunk := file.read(CHUNK_BYTES):
        yield layer_pb.UploadLayerRequest(chunk=chunk)


def _closing(opened: BinaryIO, parts: Iterator[layer_pb.UploadLayerRequest]) -> Iterator[layer_pb.UploadLayerRequest]:
    with opened:
        yield from parts
