"""Sends golden requests to a Headlight server and compares its answers: attend.py ADDRESS FILE..."""

import json
import math
import sys
from pathlib import Path

import grpc
import numpy as np
from google.protobuf import json_format
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from headlight.v1 import attention_service_pb2 as pb
from headlight.v1 import attention_service_pb2_grpc as rpc
from headlight.v1 import tensor_pb2 as tensor_pb

CHANNEL = [
    ("grpc.service_config", Path("../service_config.json").read_text()),
    ("grpc.max_receive_message_length", 256 << 20),  # gRPC's own limit is 4 MiB
    ("grpc.per_rpc_retry_buffer_size", 256 << 20),
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
]
CHUNK_BYTES = 128  # many for a small tensor, to show it; send 1 MiB, the most that is allowed


def numbers(tensor):
    if tensor.HasField("bf16_le"):  # the upper half of a float32
        flat = (np.frombuffer(tensor.bf16_le, "<u2").astype("<u4") << 16).view("<f4")
    elif tensor.HasField("f32_le"):
        flat = np.frombuffer(tensor.f32_le, "<f4")
    else:
        flat = np.array(tensor.f32_values.values, "<f4")
    return flat.reshape(tensor.shape)


def tensors(answer):
    names = ["output", "log_sum_exp", "head_outputs"]
    found = [getattr(answer, name) for name in names if answer.HasField(name)]
    return [numbers(tensor) for tensor in found + [m.weights for m in answer.maps]]


def answered(answer, golden):
    got = tensors(answer)
    want = tensors(json_format.ParseDict(golden["expected"], pb.AttendResponse()))
    print(f"{golden['name']}: {answer.execution.cpu_target}, {len(got)} tensors, the first {got[0].flat[:4]} ...")
    return len(got) == len(want) and all(
        g.shape == w.shape and np.allclose(g, w, rtol=0, atol=golden["tolerance"]) for g, w in zip(got, want)
    )


def refused(error, golden):
    bad = error_details_pb2.BadRequest()
    fields = []
    status = rpc_status.from_call(error)  # None where the server never answered
    for detail in status.details if status else []:
        if detail.Unpack(bad):
            fields = [violation.field for violation in bad.field_violations]
    print(f"{golden['name']}: {error.code().name}, {fields}, {error.details()}")
    return golden.get("error") == {"code": error.code().name, "fields": fields}


def parts(request):
    """What a stream takes: the call without its tensors' bytes, those in chunks, a commit."""
    tensors = {name: getattr(request.query_key_value, name) for name in ("query", "key", "value")}
    specs = {name: tensor_pb.TensorSpec(shape=t.shape, kind="TENSOR_KIND_F32") for name, t in tensors.items()}
    call = pb.PlanAttentionRequest(query_key_value=specs, options=request.options, outputs=request.outputs)
    yield pb.AttendStreamRequest(header=pb.AttendStreamHeader(call=call))
    for name, tensor in tensors.items():
        for at in range(0, len(tensor.f32_le), CHUNK_BYTES):
            data = tensor.f32_le[at : at + CHUNK_BYTES]
            chunk = pb.TensorChunk(tensor=f"STREAMED_TENSOR_{name.upper()}", offset=at, data=data)
            yield pb.AttendStreamRequest(chunk=chunk)
    yield pb.AttendStreamRequest(commit=pb.AttendStreamCommit())


def streamed(stub, request, answer, golden):
    output = bytearray()
    for message in stub.AttendStream(parts(request), timeout=10):
        if message.HasField("acceptance"):
            output = bytearray(4 * math.prod(message.acceptance.results[0].spec.shape))
        elif message.HasField("chunk"):  # of the output, the one result that was asked for; in any order
            output[message.chunk.offset : message.chunk.offset + len(message.chunk.data)] = message.chunk.data
    same = output == answer.output.f32_le
    print(f"{golden['name']}: streamed, the same bits: {same}")
    return same


def check(stub, golden):
    request = json_format.ParseDict(golden["request"], pb.AttendRequest())
    try:
        answer = stub.Attend(request, timeout=10)
        good = "expected" in golden and answered(answer, golden)
        if good and request.query_key_value.query.f32_le:  # the golden whose Q, K and V are bytes
            good = streamed(stub, request, answer, golden)
        return good
    except grpc.RpcError as error:
        return refused(error, golden)


address, *files = sys.argv[1:]
with grpc.insecure_channel(address, options=CHANNEL) as channel:
    stub = rpc.AttentionServiceStub(channel)
    passed = sum(check(stub, json.loads(Path(file).read_text())) for file in files)
good = passed == len(files) > 0
print(f"golden check {'passed' if good else 'failed'}: {passed} of {len(files)}")
sys.exit(not good)
