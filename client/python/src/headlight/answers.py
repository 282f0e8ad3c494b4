"""Answers: the contract's responses with their tensors as numpy arrays, and attention that draws itself."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from headlight import drawing
from headlight.requests import enum_prefix
from headlight.tensors import to_array
from headlight.v1 import analysis_service_pb2 as analysis_pb
from headlight.v1 import attention_service_pb2 as attention_pb
from headlight.v1 import outputs_pb2 as outputs_pb
from headlight.v1 import tensor_pb2 as tensor_pb

if TYPE_CHECKING:
    import matplotlib.axes
    import pandas


class Answer:
    """A message of the contract, whose fields are its attributes, by the same names:

    tensors are read-only arrays, made once and sharing the memory of the message's bytes; messages are Answers, or None
    where they are not set; durations are timedeltas; values of enums are names in lower case, "flash", or None where
    unspecified; lists and maps are Python's. `message` is the message itself.
    """

    def __init__(self, message: Message) -> None:
        self.message = message

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "message":  # asked of one that copy or pickle has not filled yet
            raise AttributeError(name)
        field = self.message.DESCRIPTOR.fields_by_name.get(name)
        if field is None:
            raise AttributeError(f"{self.message.DESCRIPTOR.name} has no field {name!r}")
        value = self._read(field)
        self.__dict__[name] = value  # __getattr__ is not asked again
        return value

    def __dir__(self) -> Iterable[str]:
        return [*super().__dir__(), *self.message.DESCRIPTOR.fields_by_name]

    def _read(self, field: FieldDescriptor) -> Any:
        value = getattr(self.message, field.name)
        if hasattr(value, "items"):
            return dict(value)
        if isinstance(value, Message):
            return _plain(value, field) if self.message.HasField(field.name) else None
        if isinstance(value, (str, bytes)) or not hasattr(value, "__len__"):
            unset = field.has_presence and not self.message.HasField(field.name)
            return None if unset else _plain(value, field)
        return [_plain(element, field) for element in value]

    def __repr__(self) -> str:
        fields = [f"{field.name}={_shown(getattr(self, field.name))}" for field, _ in self.message.ListFields()]
        return f"{self.message.DESCRIPTOR.name}({', '.join(fields)})"


def _plain(value: Any, field: FieldDescriptor) -> Any:
    if isinstance(value, tensor_pb.Tensor):
        return to_array(value)
    if isinstance(value, Duration):
        return value.ToTimedelta()
    if isinstance(value, Message):
        return answer_of(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name.removeprefix(enum_prefix(field.enum_type)).lower() if value and known else value or None
    return value


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"array{list(value.shape)} {value.dtype}"
    if isinstance(value, list) and (len(value) > 4 or value and isinstance(value[0], Answer)):
        return f"[{len(value)} {value[0].message.DESCRIPTOR.name if isinstance(value[0], Answer) else 'values'}]"
    return repr(value)


class WeightMap(Answer):
    """The weights of one head for one range of rows. `weights` or `top_keys` is None."""

    message: outputs_pb.WeightMap
    batch: int
    head: int
    stage: str
    row_begin: int
    row_end: int
    key_begin: int
    weights: np.ndarray | None
    layer: int | None = None  # in a stack
    form: str = "full"  # or "top_keys", "pooled", "column_sums", as it was asked for

    @cached_property
    def cells(self) -> np.ndarray:
        """What there is of the map as [rows, keys]: column sums as one row, top keys with NaN where none was sent."""
        if self.weights is not None:
            return np.atleast_2d(self.weights)
        keys = np.array(self.top_keys.keys, np.int64) - self.key_begin
        rows = np.repeat(np.arange(len(self.top_keys.counts)), self.top_keys.counts)
        cells = np.full((len(self.top_keys.counts), keys.max(initial=-1) + 1), np.nan, np.float32)
        cells[rows, keys] = self.top_keys.weights
        return cells

    @property
    def title(self) -> str:
        """Which map it is."""
        layer = "" if self.layer is None else f"layer {self.layer}, "
        batch = f"batch {self.batch}, " if self.batch else ""
        return f"{layer}{batch}head {self.head}"


class Drawn(Answer):
    """An answer with maps. Shown in Jupyter as a heatmap with a switch for the heads, elsewhere as text."""

    # Labels of rows and of keys; empty where there are none.
    row_tokens: Sequence[str] = ()
    key_tokens: Sequence[str] = ()

    def weight_maps(self) -> list[WeightMap]:
        """All of them."""
        return self.maps

    def _figures(self) -> list[drawing.Figure]:
        return [self._figure(one) for one in self.weight_maps()]

    def _figure(self, one: WeightMap) -> drawing.Figure:
        cells = np.asarray(one.cells, np.float32)
        height, width = cells.shape
        if one.form == "pooled":
            return drawing.Figure(one.title, cells, drawing.labels((), 0, height), drawing.labels((), 0, width))
        one_row = one.form == "column_sums"
        rows = ["sum"] if one_row else drawing.labels(self.row_tokens, one.row_begin, one.row_end)
        keys = drawing.labels(self.key_tokens, one.key_begin, one.key_begin + width)
        return drawing.Figure(one.title, cells, rows, keys)

    def __repr__(self) -> str:
        one = next(iter(self.weight_maps()), None)
        return "\n".join([super().__repr__(), *(drawing.text(self._figure(one)) if one else [])])

    def _repr_html_(self) -> str:
        return drawing.fragment(self._figures()) or f"<pre>{html.escape(repr(self))}</pre>"

    def to_html(self, path: str | Path) -> Path:
        """Writes the drawing as a page of its own that loads nothing; returns its path."""
        path = Path(path)
        path.write_text(drawing.page(self._repr_html_()), encoding="utf-8")
        return path

    def plot(self, index: int = 0, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
        """Draws one of the maps with matplotlib, on `ax` or a figure of its own. ValueError: there are none."""
        maps = self.weight_maps()
        if not maps:
            raise ValueError("no maps were asked for: call with maps=")
        return drawing.plot(self._figure(maps[index]), ax)

    def to_dataframe(self) -> pandas.DataFrame:
        """A row for each cell of each map that was sent: batch, head, row, key, weight, and labels where there are any.

        In a stack's also the layer. Pooled maps count their own rows and columns.
        """
        import pandas

        frames = [self._frame(one) for one in self.weight_maps()]
        return pandas.concat(frames, ignore_index=True) if frames else pandas.DataFrame()

    def _frame(self, one: WeightMap) -> pandas.DataFrame:
        import pandas

        cells = np.asarray(one.cells, np.float32)
        rows, keys = np.nonzero(~np.isnan(cells))
        columns: dict[str, Any] = {} if one.layer is None else {"layer": one.layer}
        columns |= {"batch": one.batch, "head": one.head, "row": rows, "key": keys, "weight": cells[rows, keys]}
        if one.form == "pooled":
            return pandas.DataFrame(columns)
        columns["row"], columns["key"] = rows + one.row_begin, keys + one.key_begin
        for name, tokens in (("row", self.row_tokens), ("key", self.key_tokens)):
            if tokens:
                columns[f"{name}_token"] = np.array(tokens, object)[columns[name]]
        if one.form == "column_sums":  # of all rows: there is none of its own
            del columns["row"]
            columns.pop("row_token", None)
        return pandas.DataFrame(columns)


class Attention(Drawn):
    """What Attend answers."""

    message: attention_pb.AttendResponse
    output: np.ndarray | None  # in the query's form; None with omit_output
    maps: list[WeightMap]
    log_sum_exp: np.ndarray | None  # [B, H, T]
    head_outputs: np.ndarray | None  # [B, H, T, Dv]
    head_statistics: list[Answer]
    execution: Answer  # what really ran, under which conventions, and what it cost

    @property
    def statistics(self) -> list[Answer]:
        """The heads' statistics, by batch, then head."""
        return self.head_statistics


class Trace(Drawn):
    """What TraceStack answers."""

    message: analysis_pb.TraceStackResponse
    tokens: list[str]
    layers: list[Answer]
    bets: list[Answer]

    def __init__(self, message: Message) -> None:
        super().__init__(message)
        self.row_tokens = self.key_tokens = self.tokens

    def weight_maps(self) -> list[WeightMap]:
        """Of every layer."""
        for number, layer in enumerate(self.layers):
            for one in layer.maps:
                one.layer = number
        return [one for layer in self.layers for one in layer.maps]


_CLASSES: dict[str, type[Answer]] = {"AttendResponse": Attention, "TraceStackResponse": Trace, "WeightMap": WeightMap}


def answer_of(message: Message) -> Any:
    """The message as an Answer."""
    return _CLASSES.get(message.DESCRIPTOR.name, Answer)(message)


def label(answer: Attention, request: attention_pb.AttendRequest) -> Attention:
    """Tells the answer what was asked. Keys have the rows' labels where they are as many, and no part or other source."""
    for one in answer.maps:
        one.form = request.outputs.maps[one.request_index].WhichOneof("form")
    answer.row_tokens = list(request.tokens)
    if request.HasField("query_key_value"):
        query, key = (request.query_key_value.query.shape, request.query_key_value.key.shape)
        same = query[-2:-1] == key[-2:-1] and not request.query_key_value.HasField("part")
    else:
        same = not request.self_attention.HasField("context")
    answer.key_tokens = answer.row_tokens if same else ()
    return answer
