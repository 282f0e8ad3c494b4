from headlight.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

ALGORITHM_FLASH: Algorithm
ALGORITHM_NAIVE: Algorithm
ALGORITHM_UNSPECIFIED: Algorithm
CAUSAL_ALIGNMENT_BOTTOM_RIGHT: CausalAlignment
CAUSAL_ALIGNMENT_EXPLICIT: CausalAlignment
CAUSAL_ALIGNMENT_TOP_LEFT: CausalAlignment
CAUSAL_ALIGNMENT_UNSPECIFIED: CausalAlignment
CHANNEL_LAYOUT_HALVES: ChannelLayout
CHANNEL_LAYOUT_INTERLEAVED: ChannelLayout
CHANNEL_LAYOUT_UNSPECIFIED: ChannelLayout
COMPUTE_PRECISION_BFLOAT16: ComputePrecision
COMPUTE_PRECISION_FLOAT32: ComputePrecision
COMPUTE_PRECISION_UNSPECIFIED: ComputePrecision
DESCRIPTOR: _descriptor.FileDescriptor

class AlibiBias(_message.Message):
    __slots__ = ["slopes"]
    SLOPES_FIELD_NUMBER: _ClassVar[int]
    slopes: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, slopes: _Optional[_Iterable[float]] = ...) -> None: ...

class AttentionOptions(_message.Message):
    __slots__ = ["algorithm", "allow_non_finite", "head_gains", "head_size", "key_value_heads", "mask", "position", "precision", "query_heads", "scale", "sinks", "softcap"]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    ALLOW_NON_FINITE_FIELD_NUMBER: _ClassVar[int]
    HEAD_GAINS_FIELD_NUMBER: _ClassVar[int]
    HEAD_SIZE_FIELD_NUMBER: _ClassVar[int]
    KEY_VALUE_HEADS_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    QUERY_HEADS_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    SINKS_FIELD_NUMBER: _ClassVar[int]
    SOFTCAP_FIELD_NUMBER: _ClassVar[int]
    algorithm: Algorithm
    allow_non_finite: bool
    head_gains: _containers.RepeatedScalarFieldContainer[float]
    head_size: int
    key_value_heads: int
    mask: Mask
    position: PositionScheme
    precision: ComputePrecision
    query_heads: int
    scale: float
    sinks: _containers.RepeatedScalarFieldContainer[float]
    softcap: float
    def __init__(self, query_heads: _Optional[int] = ..., key_value_heads: _Optional[int] = ..., head_size: _Optional[int] = ..., position: _Optional[_Union[PositionScheme, _Mapping]] = ..., mask: _Optional[_Union[Mask, _Mapping]] = ..., scale: _Optional[float] = ..., softcap: _Optional[float] = ..., sinks: _Optional[_Iterable[float]] = ..., head_gains: _Optional[_Iterable[float]] = ..., algorithm: _Optional[_Union[Algorithm, str]] = ..., precision: _Optional[_Union[ComputePrecision, str]] = ..., allow_non_finite: bool = ...) -> None: ...

class CausalMask(_message.Message):
    __slots__ = ["alignment", "offset"]
    ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    alignment: CausalAlignment
    offset: int
    def __init__(self, alignment: _Optional[_Union[CausalAlignment, str]] = ..., offset: _Optional[int] = ...) -> None: ...

class LearnedPositions(_message.Message):
    __slots__ = ["table"]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    table: _tensor_pb2.Tensor
    def __init__(self, table: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class LinearScaling(_message.Message):
    __slots__ = ["factor"]
    FACTOR_FIELD_NUMBER: _ClassVar[int]
    factor: float
    def __init__(self, factor: _Optional[float] = ...) -> None: ...

class Llama3Scaling(_message.Message):
    __slots__ = ["factor", "high_frequency_factor", "low_frequency_factor", "original_context"]
    FACTOR_FIELD_NUMBER: _ClassVar[int]
    HIGH_FREQUENCY_FACTOR_FIELD_NUMBER: _ClassVar[int]
    LOW_FREQUENCY_FACTOR_FIELD_NUMBER: _ClassVar[int]
    ORIGINAL_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    factor: float
    high_frequency_factor: float
    low_frequency_factor: float
    original_context: int
    def __init__(self, factor: _Optional[float] = ..., low_frequency_factor: _Optional[float] = ..., high_frequency_factor: _Optional[float] = ..., original_context: _Optional[int] = ...) -> None: ...

class Mask(_message.Message):
    __slots__ = ["causal", "key_lengths", "segments", "tensor", "window"]
    CAUSAL_FIELD_NUMBER: _ClassVar[int]
    KEY_LENGTHS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    causal: CausalMask
    key_lengths: _containers.RepeatedScalarFieldContainer[int]
    segments: Segments
    tensor: _tensor_pb2.Tensor
    window: WindowMask
    def __init__(self, causal: _Optional[_Union[CausalMask, _Mapping]] = ..., window: _Optional[_Union[WindowMask, _Mapping]] = ..., tensor: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., key_lengths: _Optional[_Iterable[int]] = ..., segments: _Optional[_Union[Segments, _Mapping]] = ...) -> None: ...

class NoPositions(_message.Message):
    __slots__ = []
    def __init__(self) -> None: ...

class NtkAwareScaling(_message.Message):
    __slots__ = ["factor"]
    FACTOR_FIELD_NUMBER: _ClassVar[int]
    factor: float
    def __init__(self, factor: _Optional[float] = ...) -> None: ...

class PositionScheme(_message.Message):
    __slots__ = ["alibi", "key_offset", "key_positions", "learned", "none", "query_offset", "query_positions", "rotary", "sinusoidal"]
    ALIBI_FIELD_NUMBER: _ClassVar[int]
    KEY_OFFSET_FIELD_NUMBER: _ClassVar[int]
    KEY_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    LEARNED_FIELD_NUMBER: _ClassVar[int]
    NONE_FIELD_NUMBER: _ClassVar[int]
    QUERY_OFFSET_FIELD_NUMBER: _ClassVar[int]
    QUERY_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    ROTARY_FIELD_NUMBER: _ClassVar[int]
    SINUSOIDAL_FIELD_NUMBER: _ClassVar[int]
    alibi: AlibiBias
    key_offset: int
    key_positions: _containers.RepeatedScalarFieldContainer[int]
    learned: LearnedPositions
    none: NoPositions
    query_offset: int
    query_positions: _containers.RepeatedScalarFieldContainer[int]
    rotary: RotaryPositions
    sinusoidal: SinusoidalPositions
    def __init__(self, none: _Optional[_Union[NoPositions, _Mapping]] = ..., sinusoidal: _Optional[_Union[SinusoidalPositions, _Mapping]] = ..., learned: _Optional[_Union[LearnedPositions, _Mapping]] = ..., rotary: _Optional[_Union[RotaryPositions, _Mapping]] = ..., alibi: _Optional[_Union[AlibiBias, _Mapping]] = ..., query_offset: _Optional[int] = ..., key_offset: _Optional[int] = ..., query_positions: _Optional[_Iterable[int]] = ..., key_positions: _Optional[_Iterable[int]] = ...) -> None: ...

class RotaryPositions(_message.Message):
    __slots__ = ["base", "layout", "linear", "llama3", "ntk_aware", "rotary_size", "yarn"]
    BASE_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    LINEAR_FIELD_NUMBER: _ClassVar[int]
    LLAMA3_FIELD_NUMBER: _ClassVar[int]
    NTK_AWARE_FIELD_NUMBER: _ClassVar[int]
    ROTARY_SIZE_FIELD_NUMBER: _ClassVar[int]
    YARN_FIELD_NUMBER: _ClassVar[int]
    base: float
    layout: ChannelLayout
    linear: LinearScaling
    llama3: Llama3Scaling
    ntk_aware: NtkAwareScaling
    rotary_size: int
    yarn: YarnScaling
    def __init__(self, base: _Optional[float] = ..., rotary_size: _Optional[int] = ..., layout: _Optional[_Union[ChannelLayout, str]] = ..., linear: _Optional[_Union[LinearScaling, _Mapping]] = ..., ntk_aware: _Optional[_Union[NtkAwareScaling, _Mapping]] = ..., llama3: _Optional[_Union[Llama3Scaling, _Mapping]] = ..., yarn: _Optional[_Union[YarnScaling, _Mapping]] = ...) -> None: ...

class Segments(_message.Message):
    __slots__ = ["key_ids", "query_ids"]
    KEY_IDS_FIELD_NUMBER: _ClassVar[int]
    QUERY_IDS_FIELD_NUMBER: _ClassVar[int]
    key_ids: _containers.RepeatedScalarFieldContainer[int]
    query_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, query_ids: _Optional[_Iterable[int]] = ..., key_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class SinusoidalPositions(_message.Message):
    __slots__ = ["base", "layout"]
    BASE_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    base: float
    layout: ChannelLayout
    def __init__(self, base: _Optional[float] = ..., layout: _Optional[_Union[ChannelLayout, str]] = ...) -> None: ...

class WindowMask(_message.Message):
    __slots__ = ["alignment", "left", "offset", "right"]
    ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    RIGHT_FIELD_NUMBER: _ClassVar[int]
    alignment: CausalAlignment
    left: int
    offset: int
    right: int
    def __init__(self, left: _Optional[int] = ..., right: _Optional[int] = ..., alignment: _Optional[_Union[CausalAlignment, str]] = ..., offset: _Optional[int] = ...) -> None: ...

class YarnScaling(_message.Message):
    __slots__ = ["attention_factor", "beta_fast", "beta_slow", "factor", "original_context"]
    ATTENTION_FACTOR_FIELD_NUMBER: _ClassVar[int]
    BETA_FAST_FIELD_NUMBER: _ClassVar[int]
    BETA_SLOW_FIELD_NUMBER: _ClassVar[int]
    FACTOR_FIELD_NUMBER: _ClassVar[int]
    ORIGINAL_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    attention_factor: float
    beta_fast: float
    beta_slow: float
    factor: float
    original_context: int
    def __init__(self, factor: _Optional[float] = ..., original_context: _Optional[int] = ..., beta_fast: _Optional[float] = ..., beta_slow: _Optional[float] = ..., attention_factor: _Optional[float] = ...) -> None: ...

class Algorithm(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []

class ComputePrecision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []

class ChannelLayout(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []

class CausalAlignment(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []
