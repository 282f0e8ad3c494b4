from google.protobuf import duration_pb2 as _duration_pb2
from headlight.v1 import options_pb2 as _options_pb2
from headlight.v1 import outputs_pb2 as _outputs_pb2
from headlight.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

ADMISSION_FORECAST_ADMITTED: AdmissionForecast
ADMISSION_FORECAST_QUEUED: AdmissionForecast
ADMISSION_FORECAST_REFUSED: AdmissionForecast
ADMISSION_FORECAST_UNKNOWN: AdmissionForecast
ADMISSION_FORECAST_UNSPECIFIED: AdmissionForecast
DESCRIPTOR: _descriptor.FileDescriptor
PRIORITY_BATCH: Priority
PRIORITY_INTERACTIVE: Priority
PRIORITY_UNSPECIFIED: Priority
STREAMED_TENSOR_CONTEXT: StreamedTensor
STREAMED_TENSOR_EMBEDDINGS: StreamedTensor
STREAMED_TENSOR_HEAD_OUTPUTS: StreamedTensor
STREAMED_TENSOR_KEY: StreamedTensor
STREAMED_TENSOR_LAYER_KEY: StreamedTensor
STREAMED_TENSOR_LAYER_KEY_BIAS: StreamedTensor
STREAMED_TENSOR_LAYER_OUTPUT: StreamedTensor
STREAMED_TENSOR_LAYER_OUTPUT_BIAS: StreamedTensor
STREAMED_TENSOR_LAYER_QUERY: StreamedTensor
STREAMED_TENSOR_LAYER_QUERY_BIAS: StreamedTensor
STREAMED_TENSOR_LAYER_VALUE: StreamedTensor
STREAMED_TENSOR_LAYER_VALUE_BIAS: StreamedTensor
STREAMED_TENSOR_LEARNED_TABLE: StreamedTensor
STREAMED_TENSOR_LOG_SUM_EXP: StreamedTensor
STREAMED_TENSOR_MASK: StreamedTensor
STREAMED_TENSOR_OUTPUT: StreamedTensor
STREAMED_TENSOR_QUERY: StreamedTensor
STREAMED_TENSOR_UNSPECIFIED: StreamedTensor
STREAMED_TENSOR_VALUE: StreamedTensor

class AttendRequest(_message.Message):
    __slots__ = ["options", "outputs", "priority", "query_key_value", "self_attention", "tokens"]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    QUERY_KEY_VALUE_FIELD_NUMBER: _ClassVar[int]
    SELF_ATTENTION_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    options: _options_pb2.AttentionOptions
    outputs: _outputs_pb2.OutputSelection
    priority: Priority
    query_key_value: QueryKeyValue
    self_attention: SelfAttention
    tokens: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, self_attention: _Optional[_Union[SelfAttention, _Mapping]] = ..., query_key_value: _Optional[_Union[QueryKeyValue, _Mapping]] = ..., options: _Optional[_Union[_options_pb2.AttentionOptions, _Mapping]] = ..., outputs: _Optional[_Union[_outputs_pb2.OutputSelection, _Mapping]] = ..., priority: _Optional[_Union[Priority, str]] = ..., tokens: _Optional[_Iterable[str]] = ...) -> None: ...

class AttendResponse(_message.Message):
    __slots__ = ["execution", "head_outputs", "head_statistics", "log_sum_exp", "maps", "output"]
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    HEAD_OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    HEAD_STATISTICS_FIELD_NUMBER: _ClassVar[int]
    LOG_SUM_EXP_FIELD_NUMBER: _ClassVar[int]
    MAPS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    execution: _outputs_pb2.Execution
    head_outputs: _tensor_pb2.Tensor
    head_statistics: _containers.RepeatedCompositeFieldContainer[_outputs_pb2.HeadStatistics]
    log_sum_exp: _tensor_pb2.Tensor
    maps: _containers.RepeatedCompositeFieldContainer[_outputs_pb2.WeightMap]
    output: _tensor_pb2.Tensor
    def __init__(self, output: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., maps: _Optional[_Iterable[_Union[_outputs_pb2.WeightMap, _Mapping]]] = ..., log_sum_exp: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., head_outputs: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., head_statistics: _Optional[_Iterable[_Union[_outputs_pb2.HeadStatistics, _Mapping]]] = ..., execution: _Optional[_Union[_outputs_pb2.Execution, _Mapping]] = ...) -> None: ...

class AttendStreamAcceptance(_message.Message):
    __slots__ = ["head_statistics", "inputs", "maps", "plan", "results"]
    HEAD_STATISTICS_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    MAPS_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    head_statistics: int
    inputs: _containers.RepeatedCompositeFieldContainer[StreamedTensorSpec]
    maps: int
    plan: PlanAttentionResponse
    results: _containers.RepeatedCompositeFieldContainer[StreamedTensorSpec]
    def __init__(self, plan: _Optional[_Union[PlanAttentionResponse, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[StreamedTensorSpec, _Mapping]]] = ..., results: _Optional[_Iterable[_Union[StreamedTensorSpec, _Mapping]]] = ..., maps: _Optional[int] = ..., head_statistics: _Optional[int] = ...) -> None: ...

class AttendStreamCommit(_message.Message):
    __slots__ = []
    def __init__(self) -> None: ...

class AttendStreamEnd(_message.Message):
    __slots__ = ["execution"]
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    execution: _outputs_pb2.Execution
    def __init__(self, execution: _Optional[_Union[_outputs_pb2.Execution, _Mapping]] = ...) -> None: ...

class AttendStreamHeader(_message.Message):
    __slots__ = ["call", "tokens"]
    CALL_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    call: PlanAttentionRequest
    tokens: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, call: _Optional[_Union[PlanAttentionRequest, _Mapping]] = ..., tokens: _Optional[_Iterable[str]] = ...) -> None: ...

class AttendStreamProgress(_message.Message):
    __slots__ = ["all_tiles", "done_tiles"]
    ALL_TILES_FIELD_NUMBER: _ClassVar[int]
    DONE_TILES_FIELD_NUMBER: _ClassVar[int]
    all_tiles: int
    done_tiles: int
    def __init__(self, done_tiles: _Optional[int] = ..., all_tiles: _Optional[int] = ...) -> None: ...

class AttendStreamRequest(_message.Message):
    __slots__ = ["chunk", "commit", "header"]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    chunk: TensorChunk
    commit: AttendStreamCommit
    header: AttendStreamHeader
    def __init__(self, header: _Optional[_Union[AttendStreamHeader, _Mapping]] = ..., chunk: _Optional[_Union[TensorChunk, _Mapping]] = ..., commit: _Optional[_Union[AttendStreamCommit, _Mapping]] = ...) -> None: ...

class AttendStreamResponse(_message.Message):
    __slots__ = ["acceptance", "chunk", "end", "head_statistics", "map", "progress"]
    ACCEPTANCE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    HEAD_STATISTICS_FIELD_NUMBER: _ClassVar[int]
    MAP_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    acceptance: AttendStreamAcceptance
    chunk: TensorChunk
    end: AttendStreamEnd
    head_statistics: HeadStatisticsBlock
    map: WeightMapBlock
    progress: AttendStreamProgress
    def __init__(self, acceptance: _Optional[_Union[AttendStreamAcceptance, _Mapping]] = ..., chunk: _Optional[_Union[TensorChunk, _Mapping]] = ..., map: _Optional[_Union[WeightMapBlock, _Mapping]] = ..., head_statistics: _Optional[_Union[HeadStatisticsBlock, _Mapping]] = ..., progress: _Optional[_Union[AttendStreamProgress, _Mapping]] = ..., end: _Optional[_Union[AttendStreamEnd, _Mapping]] = ...) -> None: ...

class CompareAlgorithmsRequest(_message.Message):
    __slots__ = ["options", "outputs", "priority", "query_key_value", "self_attention", "tokens"]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    QUERY_KEY_VALUE_FIELD_NUMBER: _ClassVar[int]
    SELF_ATTENTION_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    options: _options_pb2.AttentionOptions
    outputs: _outputs_pb2.OutputSelection
    priority: Priority
    query_key_value: QueryKeyValue
    self_attention: SelfAttention
    tokens: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, self_attention: _Optional[_Union[SelfAttention, _Mapping]] = ..., query_key_value: _Optional[_Union[QueryKeyValue, _Mapping]] = ..., options: _Optional[_Union[_options_pb2.AttentionOptions, _Mapping]] = ..., outputs: _Optional[_Union[_outputs_pb2.OutputSelection, _Mapping]] = ..., priority: _Optional[_Union[Priority, str]] = ..., tokens: _Optional[_Iterable[str]] = ...) -> None: ...

class CompareAlgorithmsResponse(_message.Message):
    __slots__ = ["flash", "flash_reference", "naive", "naive_flash", "naive_reference", "reference"]
    FLASH_FIELD_NUMBER: _ClassVar[int]
    FLASH_REFERENCE_FIELD_NUMBER: _ClassVar[int]
    NAIVE_FIELD_NUMBER: _ClassVar[int]
    NAIVE_FLASH_FIELD_NUMBER: _ClassVar[int]
    NAIVE_REFERENCE_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    flash: _outputs_pb2.Execution
    flash_reference: Difference
    naive: _outputs_pb2.Execution
    naive_flash: Difference
    naive_reference: Difference
    reference: ReferenceExecution
    def __init__(self, naive: _Optional[_Union[_outputs_pb2.Execution, _Mapping]] = ..., flash: _Optional[_Union[_outputs_pb2.Execution, _Mapping]] = ..., reference: _Optional[_Union[ReferenceExecution, _Mapping]] = ..., naive_flash: _Optional[_Union[Difference, _Mapping]] = ..., naive_reference: _Optional[_Union[Difference, _Mapping]] = ..., flash_reference: _Optional[_Union[Difference, _Mapping]] = ...) -> None: ...

class Difference(_message.Message):
    __slots__ = ["index", "max_abs_difference", "mean_abs_difference", "rows_compared"]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    MAX_ABS_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    MEAN_ABS_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    ROWS_COMPARED_FIELD_NUMBER: _ClassVar[int]
    index: _containers.RepeatedScalarFieldContainer[int]
    max_abs_difference: float
    mean_abs_difference: float
    rows_compared: int
    def __init__(self, max_abs_difference: _Optional[float] = ..., mean_abs_difference: _Optional[float] = ..., index: _Optional[_Iterable[int]] = ..., rows_compared: _Optional[int] = ...) -> None: ...

class GetDemoRequest(_message.Message):
    __slots__ = []
    def __init__(self) -> None: ...

class GetDemoResponse(_message.Message):
    __slots__ = ["embeddings", "head_descriptions", "layer", "tokens"]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    HEAD_DESCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    embeddings: _tensor_pb2.Tensor
    head_descriptions: _containers.RepeatedScalarFieldContainer[str]
    layer: str
    tokens: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, layer: _Optional[str] = ..., tokens: _Optional[_Iterable[str]] = ..., embeddings: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., head_descriptions: _Optional[_Iterable[str]] = ...) -> None: ...

class GetServerInfoRequest(_message.Message):
    __slots__ = []
    def __init__(self) -> None: ...

class GetServerInfoResponse(_message.Message):
    __slots__ = ["available_cpu_targets", "cpu_target", "layers", "library_versions", "limits", "threads", "version"]
    class LibraryVersionsEntry(_message.Message):
        __slots__ = ["key", "value"]
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    AVAILABLE_CPU_TARGETS_FIELD_NUMBER: _ClassVar[int]
    CPU_TARGET_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    LIBRARY_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    available_cpu_targets: _containers.RepeatedScalarFieldContainer[str]
    cpu_target: str
    layers: _containers.RepeatedScalarFieldContainer[str]
    library_versions: _containers.ScalarMap[str, str]
    limits: _containers.RepeatedCompositeFieldContainer[Limit]
    threads: int
    version: str
    def __init__(self, version: _Optional[str] = ..., cpu_target: _Optional[str] = ..., available_cpu_targets: _Optional[_Iterable[str]] = ..., library_versions: _Optional[_Mapping[str, str]] = ..., threads: _Optional[int] = ..., limits: _Optional[_Iterable[_Union[Limit, _Mapping]]] = ..., layers: _Optional[_Iterable[str]] = ...) -> None: ...

class HeadStatisticsBlock(_message.Message):
    __slots__ = ["heads"]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    heads: _containers.RepeatedCompositeFieldContainer[_outputs_pb2.HeadStatistics]
    def __init__(self, heads: _Optional[_Iterable[_Union[_outputs_pb2.HeadStatistics, _Mapping]]] = ...) -> None: ...

class KeyRange(_message.Message):
    __slots__ = ["begin", "end", "total_keys"]
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    TOTAL_KEYS_FIELD_NUMBER: _ClassVar[int]
    begin: int
    end: int
    total_keys: int
    def __init__(self, begin: _Optional[int] = ..., end: _Optional[int] = ..., total_keys: _Optional[int] = ...) -> None: ...

class LayerWeights(_message.Message):
    __slots__ = ["key", "key_bias", "output", "output_bias", "query", "query_bias", "value", "value_bias"]
    KEY_BIAS_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_BIAS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    QUERY_BIAS_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    VALUE_BIAS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: _tensor_pb2.Tensor
    key_bias: _tensor_pb2.Tensor
    output: _tensor_pb2.Tensor
    output_bias: _tensor_pb2.Tensor
    query: _tensor_pb2.Tensor
    query_bias: _tensor_pb2.Tensor
    value: _tensor_pb2.Tensor
    value_bias: _tensor_pb2.Tensor
    def __init__(self, query: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., key: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., value: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., output: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., query_bias: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., key_bias: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., value_bias: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., output_bias: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class LayerWeightsSpec(_message.Message):
    __slots__ = ["key", "key_bias", "output", "output_bias", "query", "query_bias", "value", "value_bias"]
    KEY_BIAS_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_BIAS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    QUERY_BIAS_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    VALUE_BIAS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: _tensor_pb2.TensorSpec
    key_bias: _tensor_pb2.TensorSpec
    output: _tensor_pb2.TensorSpec
    output_bias: _tensor_pb2.TensorSpec
    query: _tensor_pb2.TensorSpec
    query_bias: _tensor_pb2.TensorSpec
    value: _tensor_pb2.TensorSpec
    value_bias: _tensor_pb2.TensorSpec
    def __init__(self, query: _Optional[_Union[_tensor_pb2.TensorSpec, _Mapping]] = ..., key: _Optional[_Union[_tensor_pb2.TensorSpec, _Mapping]] = ..., value: _Optional[_Union[_tensor_pb2.TensorSpec, _Mapping]] = ..., output: _Optional[_Union[_tensor_pb2.TensorSpec, _Mapping]] = ..., query_bias: _Optional[_Union[_tensor_pb2.TensorSpec, _Mapping]] = ..., key_bias: _Optional[_Union[_tensor_pb2.TensorSpec, _Mapping]] = ..., value_bias: _Optional[_Union[_tensor_pb2.TensorSpec, _Mapping]] = ..., output_bias: _Optional[_Union[_tensor_pb2.TensorSpec, _Mapping]] = ...) -> None: ...

class Limit(_message.Message):
    __slots__ = ["name", "value"]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: int
    def __init__(self, name: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...

class MergePartialsRequest(_message.Message):
    __slots__ = ["head_gains", "output_bias", "output_weights", "partials", "priority", "sinks", "tensor_kind"]
    HEAD_GAINS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_BIAS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    PARTIALS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    SINKS_FIELD_NUMBER: _ClassVar[int]
    TENSOR_KIND_FIELD_NUMBER: _ClassVar[int]
    head_gains: _containers.RepeatedScalarFieldContainer[float]
    output_bias: _tensor_pb2.Tensor
    output_weights: _tensor_pb2.Tensor
    partials: _containers.RepeatedCompositeFieldContainer[PartialAttention]
    priority: Priority
    sinks: _containers.RepeatedScalarFieldContainer[float]
    tensor_kind: _tensor_pb2.TensorKind
    def __init__(self, partials: _Optional[_Iterable[_Union[PartialAttention, _Mapping]]] = ..., sinks: _Optional[_Iterable[float]] = ..., head_gains: _Optional[_Iterable[float]] = ..., output_weights: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., output_bias: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., tensor_kind: _Optional[_Union[_tensor_pb2.TensorKind, str]] = ..., priority: _Optional[_Union[Priority, str]] = ...) -> None: ...

class MergePartialsResponse(_message.Message):
    __slots__ = ["log_sum_exp", "output"]
    LOG_SUM_EXP_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    log_sum_exp: _tensor_pb2.Tensor
    output: _tensor_pb2.Tensor
    def __init__(self, output: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., log_sum_exp: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class PartialAttention(_message.Message):
    __slots__ = ["log_sum_exp", "output"]
    LOG_SUM_EXP_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    log_sum_exp: _tensor_pb2.Tensor
    output: _tensor_pb2.Tensor
    def __init__(self, output: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., log_sum_exp: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class PlanAttentionRequest(_message.Message):
    __slots__ = ["learned_table", "mask_tensor", "options", "outputs", "priority", "query_key_value", "self_attention", "streamed"]
    LEARNED_TABLE_FIELD_NUMBER: _ClassVar[int]
    MASK_TENSOR_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    QUERY_KEY_VALUE_FIELD_NUMBER: _ClassVar[int]
    SELF_ATTENTION_FIELD_NUMBER: _ClassVar[int]
    STREAMED_FIELD_NUMBER: _ClassVar[int]
    learned_table: _tensor_pb2.TensorSpec
    mask_tensor: _tensor_pb2.TensorSpec
    options: _options_pb2.AttentionOptions
    outputs: _outputs_pb2.OutputSelection
    priority: Priority
    query_key_value: QueryKeyValueSpec
    self_attention: SelfAttentionSpec
    streamed: bool
    def __init__(self, self_attention: _Optional[_Union[SelfAttentionSpec, _Mapping]] = ..., query_key_value: _Optional[_Union[QueryKeyValueSpec, _Mapping]] = ..., options: _Optional[_Union[_options_pb2.AttentionOptions, _Mapping]] = ..., outputs: _Optional[_Union[_outputs_pb2.OutputSelection, _Mapping]] = ..., priority: _Optional[_Union[Priority, str]] = ..., mask_tensor: _Optional[_Union[_tensor_pb2.TensorSpec, _Mapping]] = ..., learned_table: _Optional[_Union[_tensor_pb2.TensorSpec, _Mapping]] = ..., streamed: bool = ...) -> None: ...

class PlanAttentionResponse(_message.Message):
    __slots__ = ["admission", "algorithm", "flash_bytes", "flops", "head_size", "key_value_heads", "naive_bytes", "predicted", "projection_flops", "query_heads", "reason", "response_bytes", "score_grid_bytes", "value_head_size", "violations"]
    ADMISSION_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    FLASH_BYTES_FIELD_NUMBER: _ClassVar[int]
    FLOPS_FIELD_NUMBER: _ClassVar[int]
    HEAD_SIZE_FIELD_NUMBER: _ClassVar[int]
    KEY_VALUE_HEADS_FIELD_NUMBER: _ClassVar[int]
    NAIVE_BYTES_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_FIELD_NUMBER: _ClassVar[int]
    PROJECTION_FLOPS_FIELD_NUMBER: _ClassVar[int]
    QUERY_HEADS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SCORE_GRID_BYTES_FIELD_NUMBER: _ClassVar[int]
    VALUE_HEAD_SIZE_FIELD_NUMBER: _ClassVar[int]
    VIOLATIONS_FIELD_NUMBER: _ClassVar[int]
    admission: AdmissionForecast
    algorithm: _options_pb2.Algorithm
    flash_bytes: int
    flops: int
    head_size: int
    key_value_heads: int
    naive_bytes: int
    predicted: _duration_pb2.Duration
    projection_flops: int
    query_heads: int
    reason: str
    response_bytes: int
    score_grid_bytes: int
    value_head_size: int
    violations: _containers.RepeatedCompositeFieldContainer[PlanViolation]
    def __init__(self, algorithm: _Optional[_Union[_options_pb2.Algorithm, str]] = ..., reason: _Optional[str] = ..., flops: _Optional[int] = ..., naive_bytes: _Optional[int] = ..., flash_bytes: _Optional[int] = ..., score_grid_bytes: _Optional[int] = ..., response_bytes: _Optional[int] = ..., predicted: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., admission: _Optional[_Union[AdmissionForecast, str]] = ..., violations: _Optional[_Iterable[_Union[PlanViolation, _Mapping]]] = ..., query_heads: _Optional[int] = ..., key_value_heads: _Optional[int] = ..., head_size: _Optional[int] = ..., value_head_size: _Optional[int] = ..., projection_flops: _Optional[int] = ...) -> None: ...

class PlanViolation(_message.Message):
    __slots__ = ["expected", "field", "got"]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    GOT_FIELD_NUMBER: _ClassVar[int]
    expected: str
    field: str
    got: str
    def __init__(self, field: _Optional[str] = ..., got: _Optional[str] = ..., expected: _Optional[str] = ...) -> None: ...

class QueryKeyValue(_message.Message):
    __slots__ = ["key", "part", "query", "value"]
    KEY_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: _tensor_pb2.Tensor
    part: KeyRange
    query: _tensor_pb2.Tensor
    value: _tensor_pb2.Tensor
    def __init__(self, query: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., key: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., value: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., part: _Optional[_Union[KeyRange, _Mapping]] = ...) -> None: ...

class QueryKeyValueSpec(_message.Message):
    __slots__ = ["key", "part", "query", "value"]
    KEY_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: _tensor_pb2.TensorSpec
    part: KeyRange
    query: _tensor_pb2.TensorSpec
    value: _tensor_pb2.TensorSpec
    def __init__(self, query: _Optional[_Union[_tensor_pb2.TensorSpec, _Mapping]] = ..., key: _Optional[_Union[_tensor_pb2.TensorSpec, _Mapping]] = ..., value: _Optional[_Union[_tensor_pb2.TensorSpec, _Mapping]] = ..., part: _Optional[_Union[KeyRange, _Mapping]] = ...) -> None: ...

class ReferenceExecution(_message.Message):
    __slots__ = ["flops", "rows", "rows_total", "total", "workspace_bytes"]
    FLOPS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    ROWS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_BYTES_FIELD_NUMBER: _ClassVar[int]
    flops: int
    rows: int
    rows_total: int
    total: _duration_pb2.Duration
    workspace_bytes: int
    def __init__(self, rows: _Optional[int] = ..., rows_total: _Optional[int] = ..., total: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., workspace_bytes: _Optional[int] = ..., flops: _Optional[int] = ...) -> None: ...

class SeededEmbeddings(_message.Message):
    __slots__ = ["seed", "tokens", "width"]
    SEED_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    seed: int
    tokens: int
    width: int
    def __init__(self, seed: _Optional[int] = ..., tokens: _Optional[int] = ..., width: _Optional[int] = ...) -> None: ...

class SeededWeights(_message.Message):
    __slots__ = ["seed"]
    SEED_FIELD_NUMBER: _ClassVar[int]
    seed: int
    def __init__(self, seed: _Optional[int] = ...) -> None: ...

class SelfAttention(_message.Message):
    __slots__ = ["context", "embeddings", "layer", "layer_weights", "seeded_embeddings", "seeded_weights"]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    LAYER_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    SEEDED_EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    SEEDED_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    context: _tensor_pb2.Tensor
    embeddings: _tensor_pb2.Tensor
    layer: str
    layer_weights: LayerWeights
    seeded_embeddings: SeededEmbeddings
    seeded_weights: SeededWeights
    def __init__(self, embeddings: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., seeded_embeddings: _Optional[_Union[SeededEmbeddings, _Mapping]] = ..., context: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., layer_weights: _Optional[_Union[LayerWeights, _Mapping]] = ..., layer: _Optional[str] = ..., seeded_weights: _Optional[_Union[SeededWeights, _Mapping]] = ...) -> None: ...

class SelfAttentionSpec(_message.Message):
    __slots__ = ["context", "embeddings", "layer", "layer_weights", "seeded_embeddings", "seeded_weights"]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    LAYER_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    SEEDED_EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    SEEDED_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    context: _tensor_pb2.TensorSpec
    embeddings: _tensor_pb2.TensorSpec
    layer: str
    layer_weights: LayerWeightsSpec
    seeded_embeddings: SeededEmbeddings
    seeded_weights: SeededWeights
    def __init__(self, embeddings: _Optional[_Union[_tensor_pb2.TensorSpec, _Mapping]] = ..., seeded_embeddings: _Optional[_Union[SeededEmbeddings, _Mapping]] = ..., context: _Optional[_Union[_tensor_pb2.TensorSpec, _Mapping]] = ..., layer_weights: _Optional[_Union[LayerWeightsSpec, _Mapping]] = ..., layer: _Optional[str] = ..., seeded_weights: _Optional[_Union[SeededWeights, _Mapping]] = ...) -> None: ...

class StreamedTensorSpec(_message.Message):
    __slots__ = ["spec", "tensor"]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    spec: _tensor_pb2.TensorSpec
    tensor: StreamedTensor
    def __init__(self, tensor: _Optional[_Union[StreamedTensor, str]] = ..., spec: _Optional[_Union[_tensor_pb2.TensorSpec, _Mapping]] = ...) -> None: ...

class TensorChunk(_message.Message):
    __slots__ = ["data", "offset", "tensor"]
    DATA_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    offset: int
    tensor: StreamedTensor
    def __init__(self, tensor: _Optional[_Union[StreamedTensor, str]] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class WeightMapBlock(_message.Message):
    __slots__ = ["first", "map", "part"]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    MAP_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    first: int
    map: int
    part: _outputs_pb2.WeightMap
    def __init__(self, map: _Optional[int] = ..., first: _Optional[int] = ..., part: _Optional[_Union[_outputs_pb2.WeightMap, _Mapping]] = ...) -> None: ...

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []

class AdmissionForecast(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []

class StreamedTensor(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []
