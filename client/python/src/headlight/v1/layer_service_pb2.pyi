from headlight.v1 import attention_service_pb2 as _attention_service_pb2
from headlight.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor
LAYER_ORIGIN_BUILT_IN: LayerOrigin
LAYER_ORIGIN_FOLDER: LayerOrigin
LAYER_ORIGIN_UNSPECIFIED: LayerOrigin
LAYER_ORIGIN_UPLOAD: LayerOrigin

class DeleteLayerRequest(_message.Message):
    __slots__ = ["name"]
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteLayerResponse(_message.Message):
    __slots__ = ["id", "layers"]
    ID_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    id: str
    layers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, layers: _Optional[_Iterable[str]] = ..., id: _Optional[str] = ...) -> None: ...

class GetLayerRequest(_message.Message):
    __slots__ = ["include_weights", "name"]
    INCLUDE_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    include_weights: bool
    name: str
    def __init__(self, name: _Optional[str] = ..., include_weights: bool = ...) -> None: ...

class GetLayerResponse(_message.Message):
    __slots__ = ["layer", "stack", "weights"]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    STACK_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    layer: LayerInfo
    stack: StackInfo
    weights: _attention_service_pb2.LayerWeights
    def __init__(self, layer: _Optional[_Union[LayerInfo, _Mapping]] = ..., weights: _Optional[_Union[_attention_service_pb2.LayerWeights, _Mapping]] = ..., stack: _Optional[_Union[StackInfo, _Mapping]] = ...) -> None: ...

class LayerInfo(_message.Message):
    __slots__ = ["bytes", "context_width", "head_size", "id", "key_value_heads", "name", "origin", "output_width", "query_heads", "scheme", "stored_kind", "tensors", "value_head_size", "width"]
    class TensorsEntry(_message.Message):
        __slots__ = ["key", "value"]
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    BYTES_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEAD_SIZE_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    KEY_VALUE_HEADS_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_WIDTH_FIELD_NUMBER: _ClassVar[int]
    QUERY_HEADS_FIELD_NUMBER: _ClassVar[int]
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    STORED_KIND_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    VALUE_HEAD_SIZE_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    bytes: int
    context_width: int
    head_size: int
    id: str
    key_value_heads: int
    name: str
    origin: LayerOrigin
    output_width: int
    query_heads: int
    scheme: str
    stored_kind: _tensor_pb2.TensorKind
    tensors: _containers.ScalarMap[str, str]
    value_head_size: int
    width: int
    def __init__(self, name: _Optional[str] = ..., id: _Optional[str] = ..., scheme: _Optional[str] = ..., width: _Optional[int] = ..., context_width: _Optional[int] = ..., output_width: _Optional[int] = ..., query_heads: _Optional[int] = ..., key_value_heads: _Optional[int] = ..., head_size: _Optional[int] = ..., value_head_size: _Optional[int] = ..., stored_kind: _Optional[_Union[_tensor_pb2.TensorKind, str]] = ..., bytes: _Optional[int] = ..., tensors: _Optional[_Mapping[str, str]] = ..., origin: _Optional[_Union[LayerOrigin, str]] = ...) -> None: ...

class ListLayersRequest(_message.Message):
    __slots__ = []
    def __init__(self) -> None: ...

class ListLayersResponse(_message.Message):
    __slots__ = ["layers", "stacks"]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    STACKS_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedCompositeFieldContainer[LayerInfo]
    stacks: _containers.RepeatedCompositeFieldContainer[StackInfo]
    def __init__(self, layers: _Optional[_Iterable[_Union[LayerInfo, _Mapping]]] = ..., stacks: _Optional[_Iterable[_Union[StackInfo, _Mapping]]] = ...) -> None: ...

class PruneLayerRequest(_message.Message):
    __slots__ = ["heads", "key_value_heads", "layer", "name", "output_shift", "query_heads", "replace"]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    KEY_VALUE_HEADS_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_SHIFT_FIELD_NUMBER: _ClassVar[int]
    QUERY_HEADS_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    heads: _containers.RepeatedScalarFieldContainer[int]
    key_value_heads: int
    layer: str
    name: str
    output_shift: _tensor_pb2.Tensor
    query_heads: int
    replace: bool
    def __init__(self, layer: _Optional[str] = ..., heads: _Optional[_Iterable[int]] = ..., name: _Optional[str] = ..., replace: bool = ..., output_shift: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., query_heads: _Optional[int] = ..., key_value_heads: _Optional[int] = ...) -> None: ...

class PruneLayerResponse(_message.Message):
    __slots__ = ["bytes_before", "kept_heads", "layer"]
    BYTES_BEFORE_FIELD_NUMBER: _ClassVar[int]
    KEPT_HEADS_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    bytes_before: int
    kept_heads: _containers.RepeatedScalarFieldContainer[int]
    layer: LayerInfo
    def __init__(self, layer: _Optional[_Union[LayerInfo, _Mapping]] = ..., kept_heads: _Optional[_Iterable[int]] = ..., bytes_before: _Optional[int] = ...) -> None: ...

class StackInfo(_message.Message):
    __slots__ = ["bytes", "causal", "description", "id", "layer_norm", "layers", "name", "origin", "positions", "vocabulary", "width", "words"]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    LAYER_NORM_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    bytes: int
    causal: bool
    description: str
    id: str
    layer_norm: bool
    layers: _containers.RepeatedScalarFieldContainer[str]
    name: str
    origin: LayerOrigin
    positions: int
    vocabulary: _containers.RepeatedScalarFieldContainer[str]
    width: int
    words: int
    def __init__(self, name: _Optional[str] = ..., id: _Optional[str] = ..., layers: _Optional[_Iterable[str]] = ..., words: _Optional[int] = ..., positions: _Optional[int] = ..., width: _Optional[int] = ..., causal: bool = ..., layer_norm: bool = ..., vocabulary: _Optional[_Iterable[str]] = ..., origin: _Optional[_Union[LayerOrigin, str]] = ..., description: _Optional[str] = ..., bytes: _Optional[int] = ...) -> None: ...

class TensorNames(_message.Message):
    __slots__ = ["key", "key_bias", "output", "output_bias", "query", "query_bias", "query_key_value", "query_key_value_bias", "transposed", "value", "value_bias"]
    KEY_BIAS_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_BIAS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    QUERY_BIAS_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    QUERY_KEY_VALUE_BIAS_FIELD_NUMBER: _ClassVar[int]
    QUERY_KEY_VALUE_FIELD_NUMBER: _ClassVar[int]
    TRANSPOSED_FIELD_NUMBER: _ClassVar[int]
    VALUE_BIAS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    key_bias: str
    output: str
    output_bias: str
    query: str
    query_bias: str
    query_key_value: str
    query_key_value_bias: str
    transposed: bool
    value: str
    value_bias: str
    def __init__(self, query: _Optional[str] = ..., key: _Optional[str] = ..., value: _Optional[str] = ..., output: _Optional[str] = ..., query_key_value: _Optional[str] = ..., query_bias: _Optional[str] = ..., key_bias: _Optional[str] = ..., value_bias: _Optional[str] = ..., output_bias: _Optional[str] = ..., query_key_value_bias: _Optional[str] = ..., transposed: bool = ...) -> None: ...

class UploadLayerHeader(_message.Message):
    __slots__ = ["key_value_heads", "name", "query_heads", "replace", "tensor_names", "total_bytes"]
    KEY_VALUE_HEADS_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    QUERY_HEADS_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    TENSOR_NAMES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    key_value_heads: int
    name: str
    query_heads: int
    replace: bool
    tensor_names: TensorNames
    total_bytes: int
    def __init__(self, name: _Optional[str] = ..., query_heads: _Optional[int] = ..., key_value_heads: _Optional[int] = ..., tensor_names: _Optional[_Union[TensorNames, _Mapping]] = ..., replace: bool = ..., total_bytes: _Optional[int] = ...) -> None: ...

class UploadLayerRequest(_message.Message):
    __slots__ = ["chunk", "header"]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    chunk: bytes
    header: UploadLayerHeader
    def __init__(self, header: _Optional[_Union[UploadLayerHeader, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class UploadLayerResponse(_message.Message):
    __slots__ = ["id", "known", "layers", "stack"]
    ID_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    STACK_FIELD_NUMBER: _ClassVar[int]
    id: str
    known: bool
    layers: _containers.RepeatedCompositeFieldContainer[LayerInfo]
    stack: StackInfo
    def __init__(self, layers: _Optional[_Iterable[_Union[LayerInfo, _Mapping]]] = ..., stack: _Optional[_Union[StackInfo, _Mapping]] = ..., id: _Optional[str] = ..., known: bool = ...) -> None: ...

class LayerOrigin(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []
