"""Calls in chunks, for tensors that one message does not carry: the messages out, the answer from the messages back."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import grpc
import numpy as np

from headlight.errors import HeadlightError, error_with
from headlight.tensors import kind_of, to_spec
from headlight.v1 import attention_service_pb2 as attention_pb
from headlight.v1 import outputs_pb2 as outputs_pb
from headlight.v1 import tensor_pb2 as tensor_pb

try:
    import tqdm
except ImportError:
    tqdm = None  # type: ignore[assignment]

CHUNK_BYTES = 1 << 20
# What a server takes in one message unless its flags say otherwise: 128 MiB, of at most so many tokens.
UNARY_BYTES = 120 << 20
UNARY_TOKENS = 16_384


@dataclass(frozen=True)
class Progress:
    """How far a streamed call is."""

    stage: Literal["sending", "computing", "receiving"]
    done: int  # bytes, or tiles of scores while computing
    total: int


Watch = bool | None | Callable[[Progress], object]

_FIELDS = {
    tensor_pb.TENSOR_KIND_F32: "f32_le",
    tensor_pb.TENSOR_KIND_F16: "f16_le",
    tensor_pb.TENSOR_KIND_BF16: "bf16_le",
}
_WIDTHS = {
    tensor_pb.TENSOR_KIND_F32: 4,
    tensor_pb.TENSOR_KIND_F16: 2,
    tensor_pb.TENSOR_KIND_BF16: 2,
    tensor_pb.TENSOR_KIND_BOOL: 1,
}
_RESULTS = {
    attention_pb.STREAMED_TENSOR_OUTPUT: "output",
    attention_pb.STREAMED_TENSOR_LOG_SUM_EXP: "log_sum_exp",
    attention_pb.STREAMED_TENSOR_HEAD_OUTPUTS: "head_outputs",
}


def _inputs(request: attention_pb.AttendRequest) -> Iterator[tuple[int, tensor_pb.Tensor]]:
    """The tensors of a request, by the names that chunks have for them."""
    given = request.query_key_value if request.HasField("query_key_value") else request.self_attention
    weights = given.layer_weights if isinstance(given, attention_pb.SelfAttention) else attention_pb.LayerWeights()
    learned = request.options.position.learned
    for message, fields in ((given, "query key value embeddings context"), (learned, "table")):
        for field in fields.split():
            if field in message.DESCRIPTOR.fields_by_name and message.HasField(field):
                name = "LEARNED_TABLE" if field == "table" else field.upper()
                yield attention_pb.StreamedTensor.Value(f"STREAMED_TENSOR_{name}"), getattr(message, field)
    for descriptor, tensor in weights.ListFields():
        yield attention_pb.StreamedTensor.Value(f"STREAMED_TENSOR_LAYER_{descriptor.name.upper()}"), tensor
    if request.options.mask.HasField("tensor"):
        yield attention_pb.STREAMED_TENSOR_MASK, request.options.mask.tensor


def _bytes_of(tensor: tensor_pb.Tensor) -> bytes:
    field = tensor.WhichOneof("data")
    if field == "f32_values":
        return np.array(tensor.f32_values.values, "<f4").tobytes()
    return getattr(tensor, field) if field else b""


def _fill_specs(message: Any, into: Any) -> None:
    """The same fields, with specs in the place of tensors."""
    for descriptor, value in message.ListFields():
        if isinstance(value, tensor_pb.Tensor):
            getattr(into, descriptor.name).CopyFrom(to_spec(value))
        elif isinstance(value, attention_pb.LayerWeights):
            _fill_specs(value, into.layer_weights)
        elif descriptor.message_type is not None:
            getattr(into, descriptor.name).CopyFrom(value)
        else:
            setattr(into, descriptor.name, value)


def _header_of(request: attention_pb.AttendRequest) -> attention_pb.AttendStreamHeader:
    call = attention_pb.PlanAttentionRequest(outputs=request.outputs, priority=request.priority, streamed=True)
    if source := request.WhichOneof("input"):
        into = getattr(call, source)
        into.SetInParent()
        _fill_specs(getattr(request, source), into)
    options = call.options
    options.CopyFrom(request.options)
    if options.mask.HasField("tensor"):
        call.mask_tensor.CopyFrom(to_spec(options.mask.tensor))
        options.mask.ClearField("tensor")
    if options.position.learned.HasField("table"):
        call.learned_table.CopyFrom(to_spec(options.position.learned.table))
        options.position.learned.ClearField("table")
    return attention_pb.AttendStreamHeader(call=call, tokens=request.tokens)


def needs_stream(request: attention_pb.AttendRequest | attention_pb.PlanAttentionRequest) -> bool:
    """Whether the call is larger than servers take in one message."""
    specs = [to_spec(tensor) for tensor in _tensors(request)]
    tokens = [request.self_attention.seeded_embeddings.tokens, *(spec.shape[-2] for spec in specs if len(spec.shape) > 1)]
    size = sum(math.prod(spec.shape) * _WIDTHS.get(spec.kind, 0) for spec in specs)
    return size > UNARY_BYTES or max(tokens) > UNARY_TOKENS


def _tensors(message: Any) -> Iterator[tensor_pb.Tensor | tensor_pb.TensorSpec]:
    """All within a message, but in lists."""
    for descriptor, value in message.ListFields():
        if isinstance(value, (tensor_pb.Tensor, tensor_pb.TensorSpec)):
            yield value
        elif descriptor.message_type is not None and not hasattr(value, "__len__"):
            yield from _tensors(value)


def messages_of(
    request: attention_pb.AttendRequest, watch: Callable[[Progress], object]
) -> Iterator[attention_pb.AttendStreamRequest]:
    """The header, every tensor in chunks, the commit."""
    yield attention_pb.AttendStreamRequest(header=_header_of(request))
    total = sum(math.prod(tensor.shape) * _WIDTHS.get(kind_of(tensor), 0) for tensor in _tensors(request))
    sent = 0
    for name, tensor in _inputs(request):
        data = memoryview(_bytes_of(tensor))
        for offset in range(0, len(data), CHUNK_BYTES):
            part = bytes(data[offset : offset + CHUNK_BYTES])
            chunk = attention_pb.TensorChunk(tensor=name, offset=offset, data=part)  # type: ignore[arg-type]
            yield attention_pb.AttendStreamRequest(chunk=chunk)
            sent += len(part)
            watch(Progress("sending", sent, max(total, sent)))
    yield attention_pb.AttendStreamRequest(commit=attention_pb.AttendStreamCommit())


def _data_loss(what: str) -> HeadlightError:
    return error_with(grpc.StatusCode.DATA_LOSS, what)


class _Result:
    """A tensor whose bytes come in any order. HeadlightError with DATA_LOSS: they are not those of its spec."""

    def __init__(self, spec: tensor_pb.TensorSpec) -> None:
        size = math.prod(spec.shape) * _WIDTHS.get(spec.kind, 0)
        if spec.kind not in _FIELDS or min(spec.shape, default=0) < 0 or size > sys.maxsize:
            raise _data_loss("the server accepted the call for a result of no shape or kind that a result has")
        self._spec = spec
        self.data = bytearray(size)
        self._ends: dict[int, int] = {}  # of each chunk, by where it begins

    def take(self, chunk: attention_pb.TensorChunk) -> None:
        end = chunk.offset + len(chunk.data)
        if not chunk.data or end > len(self.data) or chunk.offset in self._ends:
            raise _data_loss("a chunk of the answer is empty, beyond its tensor's size, or came before")
        self._ends[chunk.offset] = end
        self.data[chunk.offset : end] = chunk.data

    def fill(self, tensor: tensor_pb.Tensor) -> None:
        """Once all came."""
        position = 0
        while position in self._ends:
            position = self._ends.pop(position)
        if self._ends or position != len(self.data):
            raise _data_loss("the stream ended before the whole answer had come, or chunks of it overlap")
        tensor.shape.extend(self._spec.shape)
        setattr(tensor, _FIELDS[self._spec.kind], bytes(self.data))
        self.data = bytearray()  # two copies of every result at once would be much


class Assembly:
    """An answer that comes in parts. HeadlightError with DATA_LOSS: they do not make one."""

    def __init__(self, watch: Callable[[Progress], object], maps: Sequence[outputs_pb.WeightMaps]) -> None:
        """`maps`: those that were asked for."""
        self._watch = watch
        self._maps = maps
        self._acceptance: attention_pb.AttendStreamAcceptance | None = None
        self._results: dict[int, _Result] = {}
        self._received = 0
        self._total = 0
        self._answer = attention_pb.AttendResponse()
        self._blocks: dict[int, list[attention_pb.WeightMapBlock]] = {}
        self._ended = False

    def take(self, message: attention_pb.AttendStreamResponse) -> None:
        """The next message."""
        part = message.WhichOneof("part")
        if self._ended or (part == "acceptance") != (self._acceptance is None):
            raise _data_loss(f"a message of the answer came out of turn: {part}")
        if part == "acceptance":
            self._accept(message.acceptance)
        elif part == "chunk":
            self._take_chunk(message.chunk)
        elif part == "map":
            self._blocks.setdefault(message.map.map, []).append(message.map)
        elif part == "head_statistics":
            self._answer.head_statistics.extend(message.head_statistics.heads)
        elif part == "progress":
            self._watch(Progress("computing", message.progress.done_tiles, message.progress.all_tiles))
        elif part == "end":
            self._answer.execution.CopyFrom(message.end.execution)
            self._ended = True

    def _accept(self, acceptance: attention_pb.AttendStreamAcceptance) -> None:
        self._acceptance = acceptance
        for result in acceptance.results:
            if result.tensor not in _RESULTS or result.tensor in self._results:
                raise _data_loss("the server accepted the call for a result that is none, or for one twice")
            self._results[result.tensor] = _Result(result.spec)
        self._total = sum(len(result.data) for result in self._results.values())

    def _take_chunk(self, chunk: attention_pb.TensorChunk) -> None:
        if chunk.tensor not in self._results:
            raise _data_loss("a chunk of the answer is of no tensor that was accepted")
        self._results[chunk.tensor].take(chunk)
        self._received += len(chunk.data)
        self._watch(Progress("receiving", self._received, self._total))

    def answer(self) -> attention_pb.AttendResponse:
        """All of it, once the stream has ended."""
        accepted = self._acceptance
        if accepted is None or not self._ended:
            raise _data_loss("the stream ended before the whole answer had come")
        if len(self._answer.head_statistics) != accepted.head_statistics:
            raise _data_loss("the answer has statistics of more or of fewer heads than was accepted")
        maps = sorted(self._blocks)
        if len(maps) != accepted.maps or (maps and maps[-1] != len(maps) - 1):
            raise _data_loss("the answer has other maps than were accepted")
        for name, result in self._results.items():
            result.fill(getattr(self._answer, _RESULTS[name]))  # type: ignore[index]
        for index in maps:
            joined, rows = _joined(self._blocks.pop(index))
            if not _is_asked(self._maps, joined, rows):
                raise _data_loss("the stream ended before all rows of a map had come, or with a map that is not asked for")
            self._answer.maps.append(joined)
        return self._answer


def _form_of(part: outputs_pb.WeightMap) -> tuple[object, ...]:
    """What the blocks of a map have in common."""
    rows = (part.row_begin, part.row_end, part.key_begin)
    form = (part.WhichOneof("form"), part.weights.WhichOneof("data"), *part.weights.shape[1:])
    return (part.request_index, part.batch, part.head, part.stage, *rows, *form)


def _rows_of(part: outputs_pb.WeightMap) -> int:
    """HeadlightError with DATA_LOSS: the block has more or fewer numbers than it says."""
    if part.HasField("top_keys"):
        rows = len(part.top_keys.counts)
        fits = sum(part.top_keys.counts) == len(part.top_keys.keys) == len(part.top_keys.weights)
    else:
        shape, kind = part.weights.shape, kind_of(part.weights)
        rows = shape[0] if shape else 0
        fits = bool(shape) and min(shape) >= 0 and kind in _FIELDS
        fits = fits and math.prod(shape) * _WIDTHS[kind] == len(_bytes_of(part.weights))
    if not fits:
        raise _data_loss("a map of the answer has more or fewer numbers than it says")
    return rows


def _is_asked(maps: Sequence[outputs_pb.WeightMaps], part: outputs_pb.WeightMap, rows: int) -> bool:
    """Whether a map is of its form, with all its rows."""
    if part.request_index >= len(maps):
        return False
    asked = maps[part.request_index]
    form = asked.WhichOneof("form")
    if part.HasField("top_keys") != (form == "top_keys"):
        return False
    if form == "column_sums":
        return True  # as many as keys, which the answer does not say
    return rows == (asked.pooled.rows if form == "pooled" else part.row_end - part.row_begin)


def _joined(blocks: list[attention_pb.WeightMapBlock]) -> tuple[outputs_pb.WeightMap, int]:
    """One map of its blocks, and its rows. HeadlightError with DATA_LOSS: they do not join."""
    blocks.sort(key=lambda block: block.first)
    rows = 0
    for block in blocks:
        if block.first != rows or _form_of(block.part) != _form_of(blocks[0].part):
            raise _data_loss("blocks of a map of the answer do not join")
        rows += _rows_of(block.part)
    joined = blocks[0].part
    if joined.HasField("top_keys"):
        for block in blocks[1:]:
            joined.top_keys.MergeFrom(block.part.top_keys)
    elif len(blocks) > 1:
        joined.weights.shape[0] = rows
        data = b"".join(_bytes_of(block.part.weights) for block in blocks)
        setattr(joined.weights, _FIELDS[kind_of(joined.weights)], data)
    return joined, rows


@contextmanager
def watching(progress: Watch) -> Iterator[Callable[[Progress], object]]:
    """Who is told of progress: a function; a bar, where one is asked for, or a person looks on and tqdm is installed."""
    if callable(progress):
        failures: list[Exception] = []

        def tell(now: Progress) -> None:
            try:
                progress(now)
            except Exception as failure:  # gRPC would keep what is raised while it sends to itself
                failures.append(failure)
                raise

        try:
            yield tell
        except BaseException:  # asyncio cancels the call then
            if failures:
                raise failures[0] from None
            raise
        return
    if progress is None:
        progress = tqdm is not None and sys.stderr.isatty()
    if not progress:
        yield lambda _: None
        return
    if tqdm is None:
        raise ModuleNotFoundError("a progress bar takes tqdm: pip install tqdm, or give a function as `progress`")
    bars = _Bars()
    try:
        yield bars
    finally:
        bars.close()


class _Bars:
    """A bar for each stage, one after the other: rows that come while others are computed are shown once all are."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._stage = ""
        self._computing: bool | None = None  # None: nothing was told of it
        self._came: Progress | None = None  # while computing

    def __call__(self, progress: Progress) -> None:
        if progress.stage == "computing":
            self._compute(progress)
        elif progress.stage == "receiving" and self._computing:
            self._came = progress
        else:
            self._show(progress)

    def _compute(self, progress: Progress) -> None:
        if self._computing is False or progress.total == 0:
            return
        self._show(progress)
        self._computing = progress.done < progress.total
        if not self._computing and self._came:
            self._show(self._came)

    def _show(self, progress: Progress) -> None:
        if progress.stage != self._stage:
            self.close()
            self._stage = progress.stage
            unit = " tiles" if progress.stage == "computing" else "B"
            # What is there before its clock starts is no part of its rate.
            self._bar = tqdm.tqdm(
                total=progress.total, initial=progress.done, desc=progress.stage, unit=unit, unit_scale=True
            )
        self._bar.update(progress.done - self._bar.n)

    def close(self) -> None:
        """Leaves the bar as it is."""
        if self._bar is not None:
            self._bar.close()
