from google.protobuf import duration_pb2 as _duration_pb2
from headlight.v1 import attention_service_pb2 as _attention_service_pb2
from headlight.v1 import options_pb2 as _options_pb2
from headlight.v1 import outputs_pb2 as _outputs_pb2
from headlight.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

ABLATION_MODE_MEAN: AblationMode
ABLATION_MODE_UNSPECIFIED: AblationMode
ABLATION_MODE_ZERO: AblationMode
DESCRIPTOR: _descriptor.FileDescriptor
HABIT_DUPLICATE_TOKEN: Habit
HABIT_FIRST_TOKEN: Habit
HABIT_INDUCTION: Habit
HABIT_LAST_TOKEN: Habit
HABIT_NONE: Habit
HABIT_PREVIOUS_TOKEN: Habit
HABIT_SAME_TOKEN: Habit
HABIT_SPREAD: Habit
HABIT_UNSPECIFIED: Habit

class AblateHeadsRequest(_message.Message):
    __slots__ = ["embeddings", "heads", "layer", "layer_weights", "mode", "options", "priority"]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    LAYER_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    embeddings: _tensor_pb2.Tensor
    heads: _containers.RepeatedScalarFieldContainer[int]
    layer: str
    layer_weights: _attention_service_pb2.LayerWeights
    mode: AblationMode
    options: _options_pb2.AttentionOptions
    priority: _attention_service_pb2.Priority
    def __init__(self, embeddings: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., layer: _Optional[str] = ..., layer_weights: _Optional[_Union[_attention_service_pb2.LayerWeights, _Mapping]] = ..., options: _Optional[_Union[_options_pb2.AttentionOptions, _Mapping]] = ..., heads: _Optional[_Iterable[int]] = ..., mode: _Optional[_Union[AblationMode, str]] = ..., priority: _Optional[_Union[_attention_service_pb2.Priority, str]] = ...) -> None: ...

class AblateHeadsResponse(_message.Message):
    __slots__ = ["change", "execution", "layer", "layer_id", "losses", "mean_contribution", "output", "redundancy"]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    LAYER_ID_FIELD_NUMBER: _ClassVar[int]
    LOSSES_FIELD_NUMBER: _ClassVar[int]
    MEAN_CONTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    REDUNDANCY_FIELD_NUMBER: _ClassVar[int]
    change: OutputChange
    execution: _outputs_pb2.Execution
    layer: str
    layer_id: str
    losses: _containers.RepeatedCompositeFieldContainer[HeadLoss]
    mean_contribution: _tensor_pb2.Tensor
    output: _tensor_pb2.Tensor
    redundancy: _containers.RepeatedCompositeFieldContainer[RedundancyStep]
    def __init__(self, output: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., change: _Optional[_Union[OutputChange, _Mapping]] = ..., losses: _Optional[_Iterable[_Union[HeadLoss, _Mapping]]] = ..., redundancy: _Optional[_Iterable[_Union[RedundancyStep, _Mapping]]] = ..., mean_contribution: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., layer: _Optional[str] = ..., layer_id: _Optional[str] = ..., execution: _Optional[_Union[_outputs_pb2.Execution, _Mapping]] = ...) -> None: ...

class AnalyzeCircuitsRequest(_message.Message):
    __slots__ = ["directions", "heads", "key_value_heads", "keys", "later_key_value_heads", "later_layer", "later_query_heads", "layer", "priority", "queries", "query_heads", "swap"]
    DIRECTIONS_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    KEY_VALUE_HEADS_FIELD_NUMBER: _ClassVar[int]
    LATER_KEY_VALUE_HEADS_FIELD_NUMBER: _ClassVar[int]
    LATER_LAYER_FIELD_NUMBER: _ClassVar[int]
    LATER_QUERY_HEADS_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    QUERY_HEADS_FIELD_NUMBER: _ClassVar[int]
    SWAP_FIELD_NUMBER: _ClassVar[int]
    directions: int
    heads: _containers.RepeatedScalarFieldContainer[int]
    key_value_heads: int
    keys: _tensor_pb2.Tensor
    later_key_value_heads: int
    later_layer: str
    later_query_heads: int
    layer: str
    priority: _attention_service_pb2.Priority
    queries: _tensor_pb2.Tensor
    query_heads: int
    swap: CircuitSwap
    def __init__(self, layer: _Optional[str] = ..., query_heads: _Optional[int] = ..., key_value_heads: _Optional[int] = ..., heads: _Optional[_Iterable[int]] = ..., directions: _Optional[int] = ..., queries: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., keys: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., later_layer: _Optional[str] = ..., later_query_heads: _Optional[int] = ..., later_key_value_heads: _Optional[int] = ..., swap: _Optional[_Union[CircuitSwap, _Mapping]] = ..., priority: _Optional[_Union[_attention_service_pb2.Priority, str]] = ...) -> None: ...

class AnalyzeCircuitsResponse(_message.Message):
    __slots__ = ["compositions", "heads", "layer_id", "layer_name", "random_baseline", "swapped_contribution", "swapped_map", "swapped_output"]
    COMPOSITIONS_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    LAYER_ID_FIELD_NUMBER: _ClassVar[int]
    LAYER_NAME_FIELD_NUMBER: _ClassVar[int]
    RANDOM_BASELINE_FIELD_NUMBER: _ClassVar[int]
    SWAPPED_CONTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    SWAPPED_MAP_FIELD_NUMBER: _ClassVar[int]
    SWAPPED_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    compositions: _containers.RepeatedCompositeFieldContainer[Composition]
    heads: _containers.RepeatedCompositeFieldContainer[HeadCircuits]
    layer_id: str
    layer_name: str
    random_baseline: Composition
    swapped_contribution: _tensor_pb2.Tensor
    swapped_map: _tensor_pb2.Tensor
    swapped_output: _tensor_pb2.Tensor
    def __init__(self, heads: _Optional[_Iterable[_Union[HeadCircuits, _Mapping]]] = ..., compositions: _Optional[_Iterable[_Union[Composition, _Mapping]]] = ..., random_baseline: _Optional[_Union[Composition, _Mapping]] = ..., swapped_output: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., swapped_map: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., swapped_contribution: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., layer_name: _Optional[str] = ..., layer_id: _Optional[str] = ...) -> None: ...

class AnalyzeHeadsRequest(_message.Message):
    __slots__ = ["cluster_distance", "layer", "layer_weights", "options", "priority", "sequences"]
    CLUSTER_DISTANCE_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    LAYER_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    cluster_distance: float
    layer: str
    layer_weights: _attention_service_pb2.LayerWeights
    options: _options_pb2.AttentionOptions
    priority: _attention_service_pb2.Priority
    sequences: _containers.RepeatedCompositeFieldContainer[HeadSequence]
    def __init__(self, sequences: _Optional[_Iterable[_Union[HeadSequence, _Mapping]]] = ..., layer: _Optional[str] = ..., layer_weights: _Optional[_Union[_attention_service_pb2.LayerWeights, _Mapping]] = ..., options: _Optional[_Union[_options_pb2.AttentionOptions, _Mapping]] = ..., cluster_distance: _Optional[float] = ..., priority: _Optional[_Union[_attention_service_pb2.Priority, str]] = ...) -> None: ...

class AnalyzeHeadsResponse(_message.Message):
    __slots__ = ["clusters", "distances", "execution", "heads", "layer", "layer_id", "rows"]
    CLUSTERS_FIELD_NUMBER: _ClassVar[int]
    DISTANCES_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    LAYER_ID_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    clusters: _containers.RepeatedCompositeFieldContainer[HeadCluster]
    distances: _containers.RepeatedCompositeFieldContainer[HeadDistance]
    execution: _outputs_pb2.Execution
    heads: _containers.RepeatedCompositeFieldContainer[HeadReport]
    layer: str
    layer_id: str
    rows: int
    def __init__(self, heads: _Optional[_Iterable[_Union[HeadReport, _Mapping]]] = ..., distances: _Optional[_Iterable[_Union[HeadDistance, _Mapping]]] = ..., clusters: _Optional[_Iterable[_Union[HeadCluster, _Mapping]]] = ..., rows: _Optional[int] = ..., layer: _Optional[str] = ..., layer_id: _Optional[str] = ..., execution: _Optional[_Union[_outputs_pb2.Execution, _Mapping]] = ...) -> None: ...

class AttentionShares(_message.Message):
    __slots__ = ["duplicate", "first", "induction", "last", "previous", "same"]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    INDUCTION_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    SAME_FIELD_NUMBER: _ClassVar[int]
    duplicate: float
    first: float
    induction: float
    last: float
    previous: float
    same: float
    def __init__(self, previous: _Optional[float] = ..., same: _Optional[float] = ..., first: _Optional[float] = ..., last: _Optional[float] = ..., duplicate: _Optional[float] = ..., induction: _Optional[float] = ...) -> None: ...

class Bet(_message.Message):
    __slots__ = ["id", "logit", "probability", "token"]
    ID_FIELD_NUMBER: _ClassVar[int]
    LOGIT_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    id: int
    logit: float
    probability: float
    token: str
    def __init__(self, id: _Optional[int] = ..., token: _Optional[str] = ..., logit: _Optional[float] = ..., probability: _Optional[float] = ...) -> None: ...

class Circuit(_message.Message):
    __slots__ = ["frobenius_norm", "left", "right", "singular_values"]
    FROBENIUS_NORM_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    RIGHT_FIELD_NUMBER: _ClassVar[int]
    SINGULAR_VALUES_FIELD_NUMBER: _ClassVar[int]
    frobenius_norm: float
    left: _tensor_pb2.Tensor
    right: _tensor_pb2.Tensor
    singular_values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, singular_values: _Optional[_Iterable[float]] = ..., frobenius_norm: _Optional[float] = ..., left: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., right: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class CircuitSwap(_message.Message):
    __slots__ = ["aim_head", "cargo_head", "embeddings", "options"]
    AIM_HEAD_FIELD_NUMBER: _ClassVar[int]
    CARGO_HEAD_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    aim_head: int
    cargo_head: int
    embeddings: _tensor_pb2.Tensor
    options: _options_pb2.AttentionOptions
    def __init__(self, embeddings: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., options: _Optional[_Union[_options_pb2.AttentionOptions, _Mapping]] = ..., aim_head: _Optional[int] = ..., cargo_head: _Optional[int] = ...) -> None: ...

class Composition(_message.Message):
    __slots__ = ["head", "key", "later_head", "query", "value"]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    LATER_HEAD_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    head: int
    key: float
    later_head: int
    query: float
    value: float
    def __init__(self, head: _Optional[int] = ..., later_head: _Optional[int] = ..., query: _Optional[float] = ..., key: _Optional[float] = ..., value: _Optional[float] = ...) -> None: ...

class HeadAttribution(_message.Message):
    __slots__ = ["centered_logit", "head", "layer", "logit"]
    CENTERED_LOGIT_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    LOGIT_FIELD_NUMBER: _ClassVar[int]
    centered_logit: float
    head: int
    layer: int
    logit: float
    def __init__(self, layer: _Optional[int] = ..., head: _Optional[int] = ..., logit: _Optional[float] = ..., centered_logit: _Optional[float] = ...) -> None: ...

class HeadCircuits(_message.Message):
    __slots__ = ["copying_score", "eigenvalues_imaginary", "eigenvalues_real", "head", "output_value", "query_key", "scores"]
    COPYING_SCORE_FIELD_NUMBER: _ClassVar[int]
    EIGENVALUES_IMAGINARY_FIELD_NUMBER: _ClassVar[int]
    EIGENVALUES_REAL_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_VALUE_FIELD_NUMBER: _ClassVar[int]
    QUERY_KEY_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    copying_score: float
    eigenvalues_imaginary: _containers.RepeatedScalarFieldContainer[float]
    eigenvalues_real: _containers.RepeatedScalarFieldContainer[float]
    head: int
    output_value: Circuit
    query_key: Circuit
    scores: _tensor_pb2.Tensor
    def __init__(self, head: _Optional[int] = ..., query_key: _Optional[_Union[Circuit, _Mapping]] = ..., output_value: _Optional[_Union[Circuit, _Mapping]] = ..., eigenvalues_real: _Optional[_Iterable[float]] = ..., eigenvalues_imaginary: _Optional[_Iterable[float]] = ..., copying_score: _Optional[float] = ..., scores: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class HeadCluster(_message.Message):
    __slots__ = ["heads"]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    heads: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, heads: _Optional[_Iterable[int]] = ...) -> None: ...

class HeadDistance(_message.Message):
    __slots__ = ["head", "jensen_shannon", "other"]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    JENSEN_SHANNON_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    head: int
    jensen_shannon: float
    other: int
    def __init__(self, head: _Optional[int] = ..., other: _Optional[int] = ..., jensen_shannon: _Optional[float] = ...) -> None: ...

class HeadLoss(_message.Message):
    __slots__ = ["change", "head"]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    change: OutputChange
    head: int
    def __init__(self, head: _Optional[int] = ..., change: _Optional[_Union[OutputChange, _Mapping]] = ...) -> None: ...

class HeadReport(_message.Message):
    __slots__ = ["description", "duplicate_token_score", "habit", "habit_score", "head", "induction_score", "mean_distance", "mean_entropy", "mean_largest_weight", "pattern_score", "previous_token_score", "shares", "value_weighted"]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_TOKEN_SCORE_FIELD_NUMBER: _ClassVar[int]
    HABIT_FIELD_NUMBER: _ClassVar[int]
    HABIT_SCORE_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    INDUCTION_SCORE_FIELD_NUMBER: _ClassVar[int]
    MEAN_DISTANCE_FIELD_NUMBER: _ClassVar[int]
    MEAN_ENTROPY_FIELD_NUMBER: _ClassVar[int]
    MEAN_LARGEST_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    PATTERN_SCORE_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_TOKEN_SCORE_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    VALUE_WEIGHTED_FIELD_NUMBER: _ClassVar[int]
    description: str
    duplicate_token_score: float
    habit: Habit
    habit_score: float
    head: int
    induction_score: float
    mean_distance: float
    mean_entropy: float
    mean_largest_weight: float
    pattern_score: float
    previous_token_score: float
    shares: AttentionShares
    value_weighted: AttentionShares
    def __init__(self, head: _Optional[int] = ..., mean_entropy: _Optional[float] = ..., mean_largest_weight: _Optional[float] = ..., mean_distance: _Optional[float] = ..., shares: _Optional[_Union[AttentionShares, _Mapping]] = ..., value_weighted: _Optional[_Union[AttentionShares, _Mapping]] = ..., previous_token_score: _Optional[float] = ..., duplicate_token_score: _Optional[float] = ..., induction_score: _Optional[float] = ..., pattern_score: _Optional[float] = ..., habit: _Optional[_Union[Habit, str]] = ..., habit_score: _Optional[float] = ..., description: _Optional[str] = ...) -> None: ...

class HeadSequence(_message.Message):
    __slots__ = ["embeddings", "pattern", "token_ids"]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    embeddings: _tensor_pb2.Tensor
    pattern: _tensor_pb2.Tensor
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, embeddings: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., token_ids: _Optional[_Iterable[int]] = ..., pattern: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class LayerTrace(_message.Message):
    __slots__ = ["head_statistics", "maps"]
    HEAD_STATISTICS_FIELD_NUMBER: _ClassVar[int]
    MAPS_FIELD_NUMBER: _ClassVar[int]
    head_statistics: _containers.RepeatedCompositeFieldContainer[_outputs_pb2.HeadStatistics]
    maps: _containers.RepeatedCompositeFieldContainer[_outputs_pb2.WeightMap]
    def __init__(self, maps: _Optional[_Iterable[_Union[_outputs_pb2.WeightMap, _Mapping]]] = ..., head_statistics: _Optional[_Iterable[_Union[_outputs_pb2.HeadStatistics, _Mapping]]] = ...) -> None: ...

class OutputChange(_message.Message):
    __slots__ = ["cosine", "relative_l2"]
    COSINE_FIELD_NUMBER: _ClassVar[int]
    RELATIVE_L2_FIELD_NUMBER: _ClassVar[int]
    cosine: float
    relative_l2: float
    def __init__(self, relative_l2: _Optional[float] = ..., cosine: _Optional[float] = ...) -> None: ...

class RedundancyStep(_message.Message):
    __slots__ = ["change", "head"]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    change: OutputChange
    head: int
    def __init__(self, head: _Optional[int] = ..., change: _Optional[_Union[OutputChange, _Mapping]] = ...) -> None: ...

class StackHead(_message.Message):
    __slots__ = ["head", "layer"]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    head: int
    layer: int
    def __init__(self, layer: _Optional[int] = ..., head: _Optional[int] = ...) -> None: ...

class TraceStackRequest(_message.Message):
    __slots__ = ["bets", "logits", "maps", "off", "priority", "stack", "target", "target_id", "token_ids", "tokens"]
    BETS_FIELD_NUMBER: _ClassVar[int]
    LOGITS_FIELD_NUMBER: _ClassVar[int]
    MAPS_FIELD_NUMBER: _ClassVar[int]
    OFF_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    STACK_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    TARGET_ID_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    bets: int
    logits: bool
    maps: bool
    off: _containers.RepeatedCompositeFieldContainer[StackHead]
    priority: _attention_service_pb2.Priority
    stack: str
    target: str
    target_id: int
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    tokens: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, stack: _Optional[str] = ..., tokens: _Optional[_Iterable[str]] = ..., token_ids: _Optional[_Iterable[int]] = ..., off: _Optional[_Iterable[_Union[StackHead, _Mapping]]] = ..., maps: bool = ..., logits: bool = ..., bets: _Optional[int] = ..., target: _Optional[str] = ..., target_id: _Optional[int] = ..., priority: _Optional[_Union[_attention_service_pb2.Priority, str]] = ...) -> None: ...

class TraceStackResponse(_message.Message):
    __slots__ = ["attributions", "bets", "bias_logit", "embedding_logit", "layers", "logits", "stack", "stack_id", "target", "token_ids", "tokens", "total"]
    ATTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    BETS_FIELD_NUMBER: _ClassVar[int]
    BIAS_LOGIT_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_LOGIT_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    LOGITS_FIELD_NUMBER: _ClassVar[int]
    STACK_FIELD_NUMBER: _ClassVar[int]
    STACK_ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    attributions: _containers.RepeatedCompositeFieldContainer[HeadAttribution]
    bets: _containers.RepeatedCompositeFieldContainer[Bet]
    bias_logit: float
    embedding_logit: float
    layers: _containers.RepeatedCompositeFieldContainer[LayerTrace]
    logits: _tensor_pb2.Tensor
    stack: str
    stack_id: str
    target: Bet
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    tokens: _containers.RepeatedScalarFieldContainer[str]
    total: _duration_pb2.Duration
    def __init__(self, token_ids: _Optional[_Iterable[int]] = ..., tokens: _Optional[_Iterable[str]] = ..., layers: _Optional[_Iterable[_Union[LayerTrace, _Mapping]]] = ..., bets: _Optional[_Iterable[_Union[Bet, _Mapping]]] = ..., logits: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., target: _Optional[_Union[Bet, _Mapping]] = ..., attributions: _Optional[_Iterable[_Union[HeadAttribution, _Mapping]]] = ..., embedding_logit: _Optional[float] = ..., bias_logit: _Optional[float] = ..., stack: _Optional[str] = ..., stack_id: _Optional[str] = ..., total: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Habit(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []

class AblationMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []
