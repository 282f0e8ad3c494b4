"""The contract's Tensor from and to arrays."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from headlight.v1 import tensor_pb2 as pb

try:
    import ml_dtypes
except ImportError:  # an optional package: without it bfloat16 comes back as float32
    ml_dtypes = None  # type: ignore[assignment]

# What stands for a tensor in a call: anything with __array__ or __dlpack__, nested lists, or the message itself.
ArrayLike = Any

_FIELDS = {"float32": "f32_le", "float16": "f16_le", "bfloat16": "bf16_le", "bool": "bool_u8"}
_KINDS = {
    "f32_values": pb.TENSOR_KIND_F32,
    "f32_le": pb.TENSOR_KIND_F32,
    "f16_le": pb.TENSOR_KIND_F16,
    "bf16_le": pb.TENSOR_KIND_BF16,
    "bool_u8": pb.TENSOR_KIND_BOOL,
}
_LONG = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
_STORED = {"f32_le": "<f4", "f16_le": "<f2", "bf16_le": "<u2", "bool_u8": "?"}


class Spec(NamedTuple):
    """Stands for a tensor where a plan needs its shape and kind alone."""

    shape: Sequence[int]
    kind: str = "float32"  # or float16, bfloat16, bool; f32, f16, bf16 for short


def _array_of(value: ArrayLike) -> tuple[np.ndarray, str]:
    """A contiguous little-endian array, and the name of what its elements are: those of bfloat16 may come as uint16."""
    if str(getattr(value, "dtype", "")) == "torch.bfloat16":  # numpy has no such kind, and torch then no __array__
        return value.detach().cpu().contiguous().view(sys.modules["torch"].int16).numpy().view("<u2"), "bfloat16"
    if not hasattr(value, "__array__") and hasattr(value, "__dlpack__"):
        value = np.from_dlpack(value)
    array = np.asarray(value)
    kind = array.dtype.name
    if kind not in _FIELDS:
        if array.dtype.kind not in "fiu":
            raise TypeError(f"a tensor cannot hold {array.dtype}: use float32, float16, bfloat16 or bool")
        array, kind = array.astype(np.float32), "float32"
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return array, kind


def to_tensor(value: ArrayLike) -> pb.Tensor:
    """The array as a message, in its own kind: float32, float16, bfloat16 (of ml_dtypes or torch) or bool.

    float64 and integers are rounded to float32, in which the server computes. A message is passed on as it is.
    TypeError: any other kind.
    """
    if isinstance(value, pb.Tensor):
        return value
    array, kind = _array_of(value)
    message = pb.Tensor(shape=array.shape)
    setattr(message, _FIELDS[kind], array.tobytes())
    return message


def to_spec(value: ArrayLike) -> pb.TensorSpec:
    """Shape and kind of what to_tensor takes, or of a Spec; no element is looked at.

    TypeError: as to_tensor. ValueError: a Spec of an unknown kind.
    """
    if isinstance(value, pb.TensorSpec):
        return value
    if isinstance(value, pb.Tensor):
        return pb.TensorSpec(shape=value.shape, kind=kind_of(value))
    if isinstance(value, Spec):
        kind = _LONG.get(value.kind, value.kind)
        if kind not in _FIELDS:
            raise ValueError(f"{value.kind!r} is no kind of a tensor: {', '.join(_FIELDS)}, or {', '.join(_LONG)}")
        return pb.TensorSpec(shape=value.shape, kind=_KINDS[_FIELDS[kind]])
    if not hasattr(value, "__array__") and hasattr(value, "__dlpack__"):
        value = np.from_dlpack(value)
    value = value if hasattr(value, "dtype") else np.asarray(value)
    kind = getattr(value.dtype, "name", str(value.dtype).removeprefix("torch."))
    if kind not in _FIELDS:
        if not kind.startswith(("float", "int", "uint")):
            raise TypeError(f"a tensor cannot hold {kind}: use float32, float16, bfloat16 or bool")
        kind = "float32"
    return pb.TensorSpec(shape=value.shape, kind=_KINDS[_FIELDS[kind]])


def kind_of(message: pb.Tensor) -> pb.TensorKind:
    """UNSPECIFIED where there is no data."""
    return _KINDS.get(message.WhichOneof("data"), pb.TENSOR_KIND_UNSPECIFIED)


def stored_array(message: pb.Tensor) -> np.ndarray:
    """A read-only view of the elements as they came; those of bfloat16 as uint16."""
    field = message.WhichOneof("data")
    if field is None:
        raise ValueError("the tensor has no data")
    if field == "f32_values":
        array = np.array(message.f32_values.values, np.float32)
        array.flags.writeable = False
    else:
        array = np.frombuffer(getattr(message, field), _STORED[field])
    if array.size != math.prod(message.shape):
        raise ValueError(f"{array.size} elements do not fill the shape {list(message.shape)}")
    return array.reshape(message.shape)


def to_array(message: pb.Tensor) -> np.ndarray:
    """The elements as a read-only array that shares the memory of the bytes in which protobuf hands them out.

    bfloat16 is ml_dtypes' where that is installed; without it the numbers are widened exactly to float32, in a copy.
    ValueError: no data, or not as much as the shape says.
    """
    array = stored_array(message)
    if message.WhichOneof("data") != "bf16_le":
        return array
    if ml_dtypes is not None:
        return array.view(ml_dtypes.bfloat16)
    wide = (array.astype("<u4") << 16).view("<f4")
    wide.flags.writeable = False
    return wide
