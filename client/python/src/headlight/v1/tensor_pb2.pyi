from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor
TENSOR_KIND_BF16: TensorKind
TENSOR_KIND_BOOL: TensorKind
TENSOR_KIND_F16: TensorKind
TENSOR_KIND_F32: TensorKind
TENSOR_KIND_UNSPECIFIED: TensorKind

class FloatValues(_message.Message):
    __slots__ = ["values"]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class Tensor(_message.Message):
    __slots__ = ["bf16_le", "bool_u8", "f16_le", "f32_le", "f32_values", "shape"]
    BF16_LE_FIELD_NUMBER: _ClassVar[int]
    BOOL_U8_FIELD_NUMBER: _ClassVar[int]
    F16_LE_FIELD_NUMBER: _ClassVar[int]
    F32_LE_FIELD_NUMBER: _ClassVar[int]
    F32_VALUES_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    bf16_le: bytes
    bool_u8: bytes
    f16_le: bytes
    f32_le: bytes
    f32_values: FloatValues
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, shape: _Optional[_Iterable[int]] = ..., f32_values: _Optional[_Union[FloatValues, _Mapping]] = ..., f32_le: _Optional[bytes] = ..., f16_le: _Optional[bytes] = ..., bf16_le: _Optional[bytes] = ..., bool_u8: _Optional[bytes] = ...) -> None: ...

class TensorSpec(_message.Message):
    __slots__ = ["kind", "shape"]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    kind: TensorKind
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, shape: _Optional[_Iterable[int]] = ..., kind: _Optional[_Union[TensorKind, str]] = ...) -> None: ...

class TensorKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []
