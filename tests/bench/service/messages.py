"""Requests as bytes on the wire, and the numbers of their right answers, as files that headlight-load reads."""

import sys
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "integration"))
import stubs  # noqa: E402

stubs.generate()
from headlight.v1 import attention_service_pb2 as pb  # noqa: E402
from headlight.v1 import attention_service_pb2_grpc as rpc  # noqa: E402
from headlight.v1 import options_pb2, tensor_pb2  # noqa: E402
from servers import HEADS, MODEL, SIZE  # noqa: E402

STUBS = stubs.FOLDER
SEED = 20
# Of naive from the double-precision formula; of peers from naive headlight-load holds its own bound.
NAIVE_BOUND = 2e-5
NO_LIMITS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@dataclass
class Case:
    """The files of one problem."""

    tokens: int
    attend_request: Path  # headlight.v1.AttendRequest
    attend_expected: Path  # float32 [1, H, T, D]
    infer_request: Path  # inference.ModelInferRequest
    infer_expected: Path  # float32 [1, T, H x D]
    answer_bytes: int  # of headlight.v1.AttendResponse


def tensor(array: np.ndarray) -> tensor_pb2.Tensor:
    return tensor_pb2.Tensor(shape=array.shape, f32_le=array.tobytes())


def field(number: int, value: bytes | str | int) -> bytes:
    """One field of a protobuf message: an integer, or something with a length."""

    def varint(rest: int) -> bytes:
        out = bytearray()
        while rest > 0x7F:
            out.append(rest & 0x7F | 0x80)
            rest >>= 7
        return bytes([*out, rest])

    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    contents = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(contents)) + contents


def infer_request(arrays: dict[str, np.ndarray]) -> bytes:
    """ModelInferRequest of the open inference protocol: inputs described first, then their bytes as they are."""
    message = field(1, MODEL)
    for name, array in arrays.items():
        sizes = b"".join(field(3, size) for size in array.shape)
        message += field(5, field(1, name) + field(2, "FP32") + sizes)
    return message + b"".join(field(7, array.tobytes()) for array in arrays.values())


def rows_first(array: np.ndarray) -> np.ndarray:
    """[1, H, T, D] as [1, T, H x D]."""
    return np.ascontiguousarray(array.transpose(0, 2, 1, 3)).reshape(1, array.shape[2], HEADS * SIZE)


def attention(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The formula, in double precision, a head at a time."""
    output = np.empty(query.shape)
    for head in range(HEADS):
        q, k, v = (array[0, head].astype(np.float64) for array in (query, key, value))
        scores = q @ k.T / np.sqrt(SIZE)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        output[0, head] = weights @ v / weights.sum(axis=1, keepdims=True)
    return output


def make_case(tokens: int, address: str, folder: Path) -> Case:
    """Writes the files. The right answer is the naive algorithm's at `address`, held against the formula first."""
    rng = np.random.default_rng([SEED, tokens])
    arrays = [rng.standard_normal((1, HEADS, tokens, SIZE), dtype=np.float32) for _ in range(3)]
    query, key, value = (tensor(array) for array in arrays)
    request = pb.AttendRequest(query_key_value=pb.QueryKeyValue(query=query, key=key, value=value))
    naive = pb.AttendRequest(
        query_key_value=request.query_key_value,
        options=options_pb2.AttentionOptions(algorithm=options_pb2.ALGORITHM_NAIVE),
    )
    with grpc.insecure_channel(address, options=NO_LIMITS) as channel:
        stub = rpc.AttentionServiceStub(channel)
        answer = stub.Attend(request, timeout=60)
        output = np.frombuffer(stub.Attend(naive, timeout=60).output.f32_le, "<f4").reshape(arrays[0].shape)
    apart = float(np.abs(output - attention(*arrays)).max())
    if not apart <= NAIVE_BOUND:
        raise RuntimeError(f"naive is {apart} from the formula at {tokens} tokens")
    folder.mkdir(parents=True, exist_ok=True)
    case = Case(
        tokens,
        folder / f"{tokens}.attend",
        folder / f"{tokens}.attend.f32",
        folder / f"{tokens}.infer",
        folder / f"{tokens}.infer.f32",
        answer.ByteSize(),
    )
    case.attend_request.write_bytes(request.SerializeToString())
    case.attend_expected.write_bytes(output.tobytes())
    names = ("query", "key", "value")
    case.infer_request.write_bytes(infer_request({n: rows_first(a) for n, a in zip(names, arrays, strict=True)}))
    case.infer_expected.write_bytes(rows_first(output).tobytes())
    return case


def server_info(address: str) -> dict[str, object]:
    with grpc.insecure_channel(address) as channel:
        info = rpc.AttentionServiceStub(channel).GetServerInfo(pb.GetServerInfoRequest(), timeout=10)
    return {
        "version": info.version,
        "cpu_target": info.cpu_target,
        "threads": info.threads,
        "libraries": dict(info.library_versions),
    }
