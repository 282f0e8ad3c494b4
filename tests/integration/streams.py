"""Streamed calls, message by message: what goes out for a request, and the answer from what comes back."""

import math
from collections.abc import Iterable, Iterator

import make
import numpy as np
from wire import outputs_pb, service_pb, tensor_pb

MIB = 2**20
WIDTHS = {
    tensor_pb.TENSOR_KIND_F32: 4,
    tensor_pb.TENSOR_KIND_F16: 2,
    tensor_pb.TENSOR_KIND_BF16: 2,
    tensor_pb.TENSOR_KIND_BOOL: 1,
}
DATA = {number: field for field, number in make.SPEC_KINDS.items() if field != "f32_values"}
RESULTS = {
    service_pb.STREAMED_TENSOR_OUTPUT: "output",
    service_pb.STREAMED_TENSOR_LOG_SUM_EXP: "log_sum_exp",
    service_pb.STREAMED_TENSOR_HEAD_OUTPUTS: "head_outputs",
}


def header_of(request: service_pb.AttendRequest) -> service_pb.AttendStreamRequest:
    header = service_pb.AttendStreamHeader(call=make.plan_of(request), tokens=request.tokens)
    return service_pb.AttendStreamRequest(header=header)


def chunk_of(tensor: int, offset: int, data: bytes) -> service_pb.AttendStreamRequest:
    return service_pb.AttendStreamRequest(chunk=service_pb.TensorChunk(tensor=tensor, offset=offset, data=data))


COMMIT = service_pb.AttendStreamRequest(commit=service_pb.AttendStreamCommit())


def tensors_of(request: service_pb.AttendRequest) -> dict[int, bytes]:
    """The data of every tensor of a request, by the number that chunks give it."""
    own, given = request.self_attention, request.query_key_value
    named = {"QUERY": given.query, "KEY": given.key, "VALUE": given.value}
    named |= {"EMBEDDINGS": own.embeddings, "CONTEXT": own.context}
    named |= {f"LAYER_{field.name.upper()}": value for field, value in own.layer_weights.ListFields()}
    named |= {"MASK": request.options.mask.tensor, "LEARNED_TABLE": request.options.position.learned.table}
    data = {}
    for name, tensor in named.items():
        if (field := tensor.WhichOneof("data")) is None:
            continue
        values = np.array(tensor.f32_values.values, np.float32).tobytes() if field == "f32_values" else None
        number = service_pb.StreamedTensor.Value(f"STREAMED_TENSOR_{name}")
        data[number] = getattr(tensor, field) if values is None else values
    return data


def chunks_of(
    request: service_pb.AttendRequest, rng: np.random.Generator | None = None, size: int = MIB
) -> Iterator[service_pb.AttendStreamRequest]:
    """Tensor by tensor in chunks of one size; with `rng` in any order and of any size up to it."""
    left = {number: 0 for number in tensors_of(request)}
    data = tensors_of(request)
    while left:
        number = next(iter(left)) if rng is None else int(rng.choice(list(left)))
        at = left[number]
        most = size if rng is None else int(rng.integers(1, size + 1))
        part = data[number][at : at + most]
        yield chunk_of(number, at, part)
        left[number] += len(part)
        if left[number] == len(data[number]):
            del left[number]


def messages_of(request: service_pb.AttendRequest, *how) -> Iterator[service_pb.AttendStreamRequest]:
    yield header_of(request)
    yield from chunks_of(request, *how)
    yield COMMIT


def assemble(messages: Iterable[service_pb.AttendStreamResponse]) -> service_pb.AttendResponse:
    """The answer. Asserts what a stream promises: the order, that every byte comes once, and all that was announced."""
    answer = service_pb.AttendResponse()
    came = list(messages)
    assert [m.WhichOneof("part") for m in (came[0], came[-1])] == ["acceptance", "end"]
    said = came[0].acceptance
    buffers = {r.tensor: bytearray(math.prod(r.spec.shape) * WIDTHS[r.spec.kind]) for r in said.results}
    covered = {tensor: np.zeros(len(buffer), bool) for tensor, buffer in buffers.items()}
    blocks: list[list[service_pb.WeightMapBlock]] = [[] for _ in range(said.maps)]
    done = 0
    for message in came[1:]:
        part = message.WhichOneof("part")
        assert part not in (None, "acceptance")
        if part == "chunk":
            chunk = message.chunk
            where = slice(chunk.offset, chunk.offset + len(chunk.data))
            assert 1 <= len(chunk.data) <= MIB
            assert not covered[chunk.tensor][where].any()
            covered[chunk.tensor][where] = True
            buffers[chunk.tensor][where] = chunk.data
        elif part == "map":
            blocks[message.map.map].append(message.map)
        elif part == "head_statistics":
            answer.head_statistics.extend(message.head_statistics.heads)
        elif part == "progress":
            assert done <= message.progress.done_tiles <= message.progress.all_tiles
            done = message.progress.done_tiles
        else:
            assert message is came[-1]
            answer.execution.CopyFrom(message.end.execution)
    assert len(answer.head_statistics) == said.head_statistics
    for result in said.results:
        assert covered[result.tensor].all()
        tensor = getattr(answer, RESULTS[result.tensor])
        tensor.shape.extend(result.spec.shape)
        setattr(tensor, DATA[result.spec.kind], bytes(buffers[result.tensor]))
    answer.maps.extend(joined(of_one) for of_one in blocks)
    return answer


def joined(blocks: list[service_pb.WeightMapBlock]) -> outputs_pb.WeightMap:
    """A map of its blocks, which come in order and leave no row out."""
    whole = outputs_pb.WeightMap()
    whole.CopyFrom(blocks[0].part)
    first = 0
    for block in blocks:
        assert block.first == first
        rows = len(block.part.top_keys.counts) or block.part.weights.shape[0]
        first += rows
        if block is blocks[0]:
            continue
        if whole.HasField("top_keys"):
            whole.top_keys.MergeFrom(block.part.top_keys)
        else:
            field = whole.weights.WhichOneof("data")
            whole.weights.shape[0] += rows
            setattr(whole.weights, field, getattr(whole.weights, field) + getattr(block.part.weights, field))
    return whole


def attend_streamed(server, request: service_pb.AttendRequest, *how, timeout: float = 120) -> service_pb.AttendResponse:
    return assemble(server.stub.AttendStream(messages_of(request, *how), timeout=timeout))
