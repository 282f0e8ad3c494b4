"""Client of Headlight: exact multi-head attention as a gRPC service, with the weight maps.

with headlight.Client("127.0.0.1:50051") as client:
    answer = client.attend(query, key, value, causal="top_left", maps=[0])
answer.output, answer.maps[0].weights
"""

from headlight.aio import AsyncClient
from headlight.analyses import CircuitSwap, HeadSequence
from headlight.answers import Answer, Attention, Trace, WeightMap
from headlight.channel import Options, Tls
from headlight.client import Client
from headlight.errors import (
    AlreadyExistsError,
    CancelledError,
    DeadlineExceededError,
    HeadlightError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
    Violation,
)
from headlight.merging import Merged, merge_partials
from headlight.requests import (
    AttendKeywords,
    AttentionKeywords,
    LayerWeights,
    SeededEmbeddings,
    SeededWeights,
    alibi,
    learned,
    pooled,
    rotary,
    sinusoidal,
    top_keys,
    weight_maps,
)
from headlight.streaming import Progress
from headlight.tensors import Spec, to_array, to_spec, to_tensor

__version__ = "0.1.0"

__all__ = [
    "AlreadyExistsError",
    "Answer",
    "AsyncClient",
    "AttendKeywords",
    "Attention",
    "AttentionKeywords",
    "CancelledError",
    "CircuitSwap",
    "Client",
    "DeadlineExceededError",
    "HeadSequence",
    "HeadlightError",
    "InternalError",
    "InvalidArgumentError",
    "LayerWeights",
    "Merged",
    "NotFoundError",
    "Options",
    "PermissionDeniedError",
    "Progress",
    "ResourceExhaustedError",
    "SeededEmbeddings",
    "SeededWeights",
    "Spec",
    "Tls",
    "Trace",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "Violation",
    "WeightMap",
    "alibi",
    "learned",
    "merge_partials",
    "pooled",
    "rotary",
    "sinusoidal",
    "to_array",
    "to_spec",
    "to_tensor",
    "top_keys",
    "weight_maps",
]
