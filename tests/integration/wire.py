"""The contract's messages under short names, and numpy arrays to tensors and back."""

import ml_dtypes
import numpy as np
from headlight.v1 import attention_service_pb2 as service_pb
from headlight.v1 import attention_service_pb2_grpc as service_grpc
from headlight.v1 import error_reason_pb2 as reason_pb
from headlight.v1 import options_pb2 as options_pb
from headlight.v1 import outputs_pb2 as outputs_pb
from headlight.v1 import tensor_pb2 as tensor_pb

__all__ = ["service_pb", "service_grpc", "reason_pb", "options_pb", "outputs_pb", "tensor_pb"]

UNSPECIFIED = options_pb.ALGORITHM_UNSPECIFIED
NAIVE = options_pb.ALGORITHM_NAIVE
FLASH = options_pb.ALGORITHM_FLASH
ALGORITHMS = [UNSPECIFIED, NAIVE, FLASH]
ALGORITHM_NAMES = ["choice", "naive", "flash"]

BF16 = np.dtype(ml_dtypes.bfloat16)
F16 = np.dtype(np.float16)
F32 = np.dtype(np.float32)
BOOL = np.dtype(np.bool_)

FIELDS = {F32: "f32_le", F16: "f16_le", BF16: "bf16_le", BOOL: "bool_u8"}
KINDS = {F32: tensor_pb.TENSOR_KIND_F32, F16: tensor_pb.TENSOR_KIND_F16, BF16: tensor_pb.TENSOR_KIND_BF16}


def tensor(array: np.ndarray) -> tensor_pb.Tensor:
    """A tensor of the array's kind, as bytes."""
    data = np.ascontiguousarray(array)
    return tensor_pb.Tensor(shape=array.shape, **{FIELDS[data.dtype]: data.tobytes()})


def tensor_of_values(array: np.ndarray) -> tensor_pb.Tensor:
    """A float32 tensor as a list of numbers."""
    values = tensor_pb.FloatValues(values=array.ravel().tolist())
    return tensor_pb.Tensor(shape=array.shape, f32_values=values)


def array(message: tensor_pb.Tensor) -> np.ndarray:
    """The elements in their own kind, in the tensor's shape."""
    field = message.WhichOneof("data")
    if field == "f32_values":
        return np.array(message.f32_values.values, dtype=F32).reshape(message.shape)
    kind = next(kind for kind, name in FIELDS.items() if name == field)
    return np.frombuffer(getattr(message, field), dtype=kind).reshape(message.shape)


def wide(message: tensor_pb.Tensor) -> np.ndarray:
    """The elements as float64; booleans stay booleans."""
    elements = array(message)
    return elements if elements.dtype == BOOL else elements.astype(np.float64)
