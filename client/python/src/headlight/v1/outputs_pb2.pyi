from google.protobuf import duration_pb2 as _duration_pb2
from headlight.v1 import options_pb2 as _options_pb2
from headlight.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor
MAP_STAGE_BIASED: MapStage
MAP_STAGE_SCALED: MapStage
MAP_STAGE_SOFTCAPPED: MapStage
MAP_STAGE_UNSPECIFIED: MapStage
MAP_STAGE_WEIGHTS: MapStage
POOL_REDUCER_MAX: PoolReducer
POOL_REDUCER_MEAN: PoolReducer
POOL_REDUCER_SUM: PoolReducer
POOL_REDUCER_UNSPECIFIED: PoolReducer

class ColumnSums(_message.Message):
    __slots__ = []
    def __init__(self) -> None: ...

class Execution(_message.Message):
    __slots__ = ["algorithm", "algorithm_reason", "attend", "boolean_mask", "causal_alignment", "cpu_target", "flops", "head_size", "key_value_heads", "maps", "non_finite", "packed_bytes", "position_scheme", "precision", "project", "projection_bytes", "query_heads", "queue", "scale", "score_grid_bytes", "scratch_bytes", "softcap", "softcap_order", "tile_keys", "tile_query_rows", "total", "value_head_size", "verification", "window_alignment", "workers", "workspace_bytes"]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_REASON_FIELD_NUMBER: _ClassVar[int]
    ATTEND_FIELD_NUMBER: _ClassVar[int]
    BOOLEAN_MASK_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
    CPU_TARGET_FIELD_NUMBER: _ClassVar[int]
    FLOPS_FIELD_NUMBER: _ClassVar[int]
    HEAD_SIZE_FIELD_NUMBER: _ClassVar[int]
    KEY_VALUE_HEADS_FIELD_NUMBER: _ClassVar[int]
    MAPS_FIELD_NUMBER: _ClassVar[int]
    NON_FINITE_FIELD_NUMBER: _ClassVar[int]
    PACKED_BYTES_FIELD_NUMBER: _ClassVar[int]
    POSITION_SCHEME_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    PROJECTION_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    QUERY_HEADS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    SCORE_GRID_BYTES_FIELD_NUMBER: _ClassVar[int]
    SCRATCH_BYTES_FIELD_NUMBER: _ClassVar[int]
    SOFTCAP_FIELD_NUMBER: _ClassVar[int]
    SOFTCAP_ORDER_FIELD_NUMBER: _ClassVar[int]
    TILE_KEYS_FIELD_NUMBER: _ClassVar[int]
    TILE_QUERY_ROWS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    VALUE_HEAD_SIZE_FIELD_NUMBER: _ClassVar[int]
    VERIFICATION_FIELD_NUMBER: _ClassVar[int]
    WINDOW_ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_BYTES_FIELD_NUMBER: _ClassVar[int]
    algorithm: _options_pb2.Algorithm
    algorithm_reason: str
    attend: _duration_pb2.Duration
    boolean_mask: str
    causal_alignment: _options_pb2.CausalAlignment
    cpu_target: str
    flops: int
    head_size: int
    key_value_heads: int
    maps: _duration_pb2.Duration
    non_finite: str
    packed_bytes: int
    position_scheme: str
    precision: _options_pb2.ComputePrecision
    project: _duration_pb2.Duration
    projection_bytes: int
    query_heads: int
    queue: _duration_pb2.Duration
    scale: float
    score_grid_bytes: int
    scratch_bytes: int
    softcap: float
    softcap_order: str
    tile_keys: int
    tile_query_rows: int
    total: _duration_pb2.Duration
    value_head_size: int
    verification: Verification
    window_alignment: _options_pb2.CausalAlignment
    workers: int
    workspace_bytes: int
    def __init__(self, algorithm: _Optional[_Union[_options_pb2.Algorithm, str]] = ..., algorithm_reason: _Optional[str] = ..., cpu_target: _Optional[str] = ..., precision: _Optional[_Union[_options_pb2.ComputePrecision, str]] = ..., position_scheme: _Optional[str] = ..., causal_alignment: _Optional[_Union[_options_pb2.CausalAlignment, str]] = ..., scale: _Optional[float] = ..., query_heads: _Optional[int] = ..., key_value_heads: _Optional[int] = ..., head_size: _Optional[int] = ..., value_head_size: _Optional[int] = ..., tile_query_rows: _Optional[int] = ..., tile_keys: _Optional[int] = ..., workers: _Optional[int] = ..., queue: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., project: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., attend: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., maps: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., total: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., flops: _Optional[int] = ..., scratch_bytes: _Optional[int] = ..., packed_bytes: _Optional[int] = ..., projection_bytes: _Optional[int] = ..., workspace_bytes: _Optional[int] = ..., score_grid_bytes: _Optional[int] = ..., verification: _Optional[_Union[Verification, _Mapping]] = ..., softcap: _Optional[float] = ..., softcap_order: _Optional[str] = ..., boolean_mask: _Optional[str] = ..., window_alignment: _Optional[_Union[_options_pb2.CausalAlignment, str]] = ..., non_finite: _Optional[str] = ...) -> None: ...

class FullMap(_message.Message):
    __slots__ = []
    def __init__(self) -> None: ...

class HeadStatistics(_message.Message):
    __slots__ = ["batch", "head", "largest_score", "mean_distance", "mean_entropy", "mean_largest_weight", "share_on_first", "share_on_previous", "share_on_same"]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    LARGEST_SCORE_FIELD_NUMBER: _ClassVar[int]
    MEAN_DISTANCE_FIELD_NUMBER: _ClassVar[int]
    MEAN_ENTROPY_FIELD_NUMBER: _ClassVar[int]
    MEAN_LARGEST_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    SHARE_ON_FIRST_FIELD_NUMBER: _ClassVar[int]
    SHARE_ON_PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    SHARE_ON_SAME_FIELD_NUMBER: _ClassVar[int]
    batch: int
    head: int
    largest_score: float
    mean_distance: float
    mean_entropy: float
    mean_largest_weight: float
    share_on_first: float
    share_on_previous: float
    share_on_same: float
    def __init__(self, batch: _Optional[int] = ..., head: _Optional[int] = ..., mean_entropy: _Optional[float] = ..., mean_largest_weight: _Optional[float] = ..., mean_distance: _Optional[float] = ..., share_on_previous: _Optional[float] = ..., share_on_same: _Optional[float] = ..., share_on_first: _Optional[float] = ..., largest_score: _Optional[float] = ...) -> None: ...

class OutputSelection(_message.Message):
    __slots__ = ["head_outputs", "head_statistics", "log_sum_exp", "maps", "max_response_bytes", "omit_output", "tensor_kind", "verify_rows"]
    HEAD_OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    HEAD_STATISTICS_FIELD_NUMBER: _ClassVar[int]
    LOG_SUM_EXP_FIELD_NUMBER: _ClassVar[int]
    MAPS_FIELD_NUMBER: _ClassVar[int]
    MAX_RESPONSE_BYTES_FIELD_NUMBER: _ClassVar[int]
    OMIT_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    TENSOR_KIND_FIELD_NUMBER: _ClassVar[int]
    VERIFY_ROWS_FIELD_NUMBER: _ClassVar[int]
    head_outputs: bool
    head_statistics: bool
    log_sum_exp: bool
    maps: _containers.RepeatedCompositeFieldContainer[WeightMaps]
    max_response_bytes: int
    omit_output: bool
    tensor_kind: _tensor_pb2.TensorKind
    verify_rows: int
    def __init__(self, omit_output: bool = ..., maps: _Optional[_Iterable[_Union[WeightMaps, _Mapping]]] = ..., log_sum_exp: bool = ..., head_outputs: bool = ..., head_statistics: bool = ..., verify_rows: _Optional[int] = ..., tensor_kind: _Optional[_Union[_tensor_pb2.TensorKind, str]] = ..., max_response_bytes: _Optional[int] = ...) -> None: ...

class PooledMap(_message.Message):
    __slots__ = ["columns", "reducer", "rows"]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    REDUCER_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    columns: int
    reducer: PoolReducer
    rows: int
    def __init__(self, rows: _Optional[int] = ..., columns: _Optional[int] = ..., reducer: _Optional[_Union[PoolReducer, str]] = ...) -> None: ...

class RowRange(_message.Message):
    __slots__ = ["begin", "end"]
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    begin: int
    end: int
    def __init__(self, begin: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class TopKeys(_message.Message):
    __slots__ = ["k"]
    K_FIELD_NUMBER: _ClassVar[int]
    k: int
    def __init__(self, k: _Optional[int] = ...) -> None: ...

class TopKeysResult(_message.Message):
    __slots__ = ["counts", "keys", "weights"]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    counts: _containers.RepeatedScalarFieldContainer[int]
    keys: _containers.RepeatedScalarFieldContainer[int]
    weights: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, counts: _Optional[_Iterable[int]] = ..., keys: _Optional[_Iterable[int]] = ..., weights: _Optional[_Iterable[float]] = ...) -> None: ...

class Verification(_message.Message):
    __slots__ = ["max_abs_error", "rows"]
    MAX_ABS_ERROR_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    max_abs_error: float
    rows: int
    def __init__(self, rows: _Optional[int] = ..., max_abs_error: _Optional[float] = ...) -> None: ...

class WeightMap(_message.Message):
    __slots__ = ["batch", "head", "key_begin", "request_index", "row_begin", "row_end", "stage", "top_keys", "weights"]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    KEY_BEGIN_FIELD_NUMBER: _ClassVar[int]
    REQUEST_INDEX_FIELD_NUMBER: _ClassVar[int]
    ROW_BEGIN_FIELD_NUMBER: _ClassVar[int]
    ROW_END_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    TOP_KEYS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    batch: int
    head: int
    key_begin: int
    request_index: int
    row_begin: int
    row_end: int
    stage: MapStage
    top_keys: TopKeysResult
    weights: _tensor_pb2.Tensor
    def __init__(self, request_index: _Optional[int] = ..., batch: _Optional[int] = ..., head: _Optional[int] = ..., stage: _Optional[_Union[MapStage, str]] = ..., row_begin: _Optional[int] = ..., row_end: _Optional[int] = ..., key_begin: _Optional[int] = ..., weights: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., top_keys: _Optional[_Union[TopKeysResult, _Mapping]] = ...) -> None: ...

class WeightMaps(_message.Message):
    __slots__ = ["batches", "column_sums", "full", "heads", "keys", "pooled", "rows", "stage", "top_keys"]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    COLUMN_SUMS_FIELD_NUMBER: _ClassVar[int]
    FULL_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    POOLED_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    TOP_KEYS_FIELD_NUMBER: _ClassVar[int]
    batches: _containers.RepeatedScalarFieldContainer[int]
    column_sums: ColumnSums
    full: FullMap
    heads: _containers.RepeatedScalarFieldContainer[int]
    keys: RowRange
    pooled: PooledMap
    rows: _containers.RepeatedCompositeFieldContainer[RowRange]
    stage: MapStage
    top_keys: TopKeys
    def __init__(self, heads: _Optional[_Iterable[int]] = ..., batches: _Optional[_Iterable[int]] = ..., rows: _Optional[_Iterable[_Union[RowRange, _Mapping]]] = ..., keys: _Optional[_Union[RowRange, _Mapping]] = ..., full: _Optional[_Union[FullMap, _Mapping]] = ..., top_keys: _Optional[_Union[TopKeys, _Mapping]] = ..., pooled: _Optional[_Union[PooledMap, _Mapping]] = ..., column_sums: _Optional[_Union[ColumnSums, _Mapping]] = ..., stage: _Optional[_Union[MapStage, str]] = ...) -> None: ...

class MapStage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []

class PoolReducer(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []
