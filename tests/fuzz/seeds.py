#!/usr/bin/env python3
"""Writes the inputs that fuzzing starts from: FOLDER/<target>/*, from the requests of the integration tests.

Usage: build/venv/bin/python -B tests/fuzz/seeds.py FOLDER   (`./dev fuzz --keep` does it)

Every malformed request of their tables goes to decode_check and, as a plan, to plan_check; well-formed ones, one for each
thing that can be asked for, to all targets, to `stream` in chunks, beside messages that do not fit. Names are hashes of the
contents; the same requests give the same files.
"""

import hashlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

import stubs

stubs.generate()

import make
import numpy as np
import test_errors
import test_malformed
import test_stream
from google.protobuf import json_format
from make import BOTTOM_RIGHT, HALVES, INTERLEAVED, TOP_LEFT, Sizes
from headlight.v1 import layer_service_pb2 as layer_pb
from safetensors_file import file_of
from streams import COMMIT, chunk_of, chunks_of, header_of, messages_of
from wire import BF16, F16, options_pb, outputs_pb, service_pb, tensor

Request = service_pb.AttendRequest
SIZES = Sizes(heads=4, key_heads=2, tokens=5, keys=7, size=4, value_size=3, batch=2)


def numbers() -> np.random.Generator:
    return np.random.default_rng(7)


def halves(kind: np.dtype) -> Callable[[], Request]:
    return lambda: make.qkv(numbers(), Sizes(heads=2, tokens=6, size=8, kind=kind))


BASES: list[Callable[[], Request]] = [
    lambda: make.qkv(numbers(), SIZES),
    lambda: make.qkv(numbers(), SIZES, rank=3),
    lambda: make.qkv(numbers(), Sizes(heads=2, tokens=3, keys=20, size=2), rank=2),
    halves(F16),
    halves(BF16),
    lambda: make.embeddings(numbers(), Sizes(heads=2, tokens=5, size=4)),
    lambda: make.embeddings(numbers(), Sizes(heads=2, tokens=6, size=4, kind=BF16), rank=2, output_width=0),
    lambda: make.cross(numbers(), Sizes(heads=2, tokens=4, keys=6, size=2, batch=2), context_width=5),
    lambda: make.seeded(tokens=5, width=8, heads=2),
    # Tails of tiles, and more than one tile.
    lambda: make.seeded(tokens=130, width=4, heads=1),
    lambda: make.qkv(numbers(), Sizes(heads=1, tokens=2, keys=300, size=1)),
]


def rotary(request: Request, **fields) -> None:
    request.options.position.rotary.layout = HALVES
    request.options.position.rotary.MergeFrom(options_pb.RotaryPositions(**fields))
    request.options.position.query_offset = 3


def learned(request: Request) -> None:
    if not request.self_attention.HasField("embeddings"):
        return
    width = request.self_attention.embeddings.shape[-1]
    table = np.random.default_rng(8).standard_normal((40, width)).astype(np.float32)
    request.options.position.learned.table.CopyFrom(tensor(table))
    request.options.position.query_offset = 2


def sinusoidal(request: Request) -> None:
    request.options.position.sinusoidal.layout = INTERLEAVED
    request.options.position.query_offset = 1


def alibi(request: Request) -> None:
    request.options.position.alibi.SetInParent()
    request.options.position.query_offset = 0


def window(request: Request) -> None:
    request.options.mask.window.left, request.options.mask.window.right = 2, 1
    request.options.mask.window.alignment = TOP_LEFT


def mask(request: Request, array: np.ndarray) -> None:
    request.options.mask.tensor.CopyFrom(tensor(array))


def heads_of(request: Request) -> int:
    query = request.query_key_value.query
    return query.shape[1] if len(query.shape) == 4 else request.options.query_heads


def per_head(request: Request) -> None:
    request.options.sinks.extend([0.5] * heads_of(request))
    request.options.head_gains.extend([-1.5] * heads_of(request))


def maps(request: Request) -> None:
    request.outputs.maps.extend([
        make.full_map(stage=outputs_pb.MAP_STAGE_BIASED),
        make.top_keys(3),
        make.pooled(1, 2, outputs_pb.POOL_REDUCER_MEAN, stage=outputs_pb.MAP_STAGE_SCALED),
        make.column_sums(heads=[0]),
    ])
    request.outputs.head_statistics = True


def set_options(**fields) -> Callable[[Request], None]:
    return lambda request: request.options.MergeFrom(options_pb.AttentionOptions(**fields))


CHANGES: list[Callable[[Request], object]] = [
    lambda request: None,
    rotary,
    lambda request: rotary(request, yarn=options_pb.YarnScaling(factor=4, original_context=16)),
    lambda request: rotary(request, ntk_aware=options_pb.NtkAwareScaling(factor=2)),
    lambda request: rotary(request, llama3=options_pb.Llama3Scaling(
        factor=8, low_frequency_factor=1, high_frequency_factor=4, original_context=16)),
    learned,
    sinusoidal,
    alibi,
    lambda request: setattr(request.options.mask.causal, "alignment", TOP_LEFT),
    lambda request: setattr(request.options.mask.causal, "alignment", BOTTOM_RIGHT),
    window,
    lambda request: request.options.mask.key_lengths.extend([3]),
    lambda request: request.options.mask.key_lengths.extend([4, 0]),
    lambda request: mask(request, np.arange(7) % 3 > 0),
    lambda request: mask(request, np.array([[[[0, 1, -np.inf, 2, -1]]]], dtype=np.float32)),
    lambda request: request.options.mask.segments.MergeFrom(
        options_pb.Segments(query_ids=[1, 1, 2, 2, 2], key_ids=[1, 1, 2, 2, 2, 3, 3])),
    per_head,
    set_options(scale=0.7, softcap=5),
    set_options(precision=options_pb.COMPUTE_PRECISION_BFLOAT16),
    set_options(allow_non_finite=True),
    maps,
    lambda request: request.outputs.MergeFrom(outputs_pb.OutputSelection(
        log_sum_exp=True, head_outputs=True, verify_rows=3, tensor_kind=1)),
]


def well_formed() -> Iterator[Request]:
    """Every change of every base. Some ask for what the base cannot give, and are refused."""
    for base in BASES:
        for change in CHANGES:
            request = base()
            change(request)
            yield request


def malformed() -> Iterator[Request]:
    for case in [*test_errors.CASES, *test_malformed.CASES.values()]:
        yield case.request()


def matrices(*names: str, kind: np.dtype = np.dtype(np.float32)) -> dict[str, np.ndarray]:
    return {name: numbers().standard_normal((4, 4)).astype(kind) for name in names}


def uploads() -> Iterator[layer_pb.UploadLayerRequest]:
    """A file of every scheme, some that are none, and mappings."""
    ours = matrices("query", "key", "value", "output")
    bert = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"]
    llama = ["q_proj", "k_proj", "v_proj", "o_proj"]
    stack = matrices(*(f"layers.{i}.{name}" for i in range(2) for name in ours), "token_embedding", "unembedding")
    words = {"headlight.query_heads": "2", "headlight.vocabulary": "a\nb\nc\nd", "headlight.causal": "true"}
    files = [
        file_of(ours, {"headlight.query_heads": "2"}),
        file_of(matrices(*(f"encoder.layer.0.{name}.weight" for name in bert), kind=F16)),
        file_of(matrices(*(f"model.layers.3.self_attn.{name}.weight" for name in llama), kind=BF16)),
        file_of({"h.0.attn.c_attn.weight": np.ones((4, 12), np.float32), "h.0.attn.c_proj.weight": ours["output"]}),
        file_of(stack, words),
        file_of(ours | {"query": np.full((4, 4), np.nan, np.float32)}),
        file_of(ours)[:-3],
        file_of({}),
        b"\x02\0\0\0\0\0\0\0{}x",
    ]
    for file in files:
        yield layer_pb.UploadLayerRequest(chunk=file)
    names = layer_pb.TensorNames(query="a.{layer}.q", key="a.{layer}.k", value="a.{layer}.v", output="a.{layer}.o")
    fused = layer_pb.TensorNames(query_key_value="f.qkv", output="f.o", query_key_value_bias="f.b", transposed=True)
    for mapping in (names, fused):
        yield layer_pb.UploadLayerRequest(header=layer_pb.UploadLayerHeader(query_heads=2, tensor_names=mapping))


def connections(good: list[Request]) -> Iterator[layer_pb.UploadLayerRequest]:
    """What is sent to the web port: heads, bodies, and JSON alone, of which the target makes a call."""
    call = b"POST /headlight.v1.AttentionService/Attend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/"
    texts = [json_format.MessageToJson(request, indent=None).encode() for request in good[:12]]
    body = good[8].SerializeToString()
    yield from (layer_pb.UploadLayerRequest(chunk=text) for text in [*texts, b"{}", b'{"options": {"queryHeads": "2"}}', b"[[[[]]]]"])
    for sent in (
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2,
        b"GET /main.js HTTP/1.0\r\nHost: 127.0.0.1\r\nRange: bytes=0-1\r\n\r\n",
        call + b"proto\r\nContent-Length: %d\r\nConnect-Timeout-Ms: 9\r\nX-A-Bin: AA\r\n\r\n" % len(body) + body,
        call + b"json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        call + b"json\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
        call.replace(b"POST", b"OPTIONS") + b"json\r\nOrigin: http://localhost\r\n\r\n",
    ):
        yield layer_pb.UploadLayerRequest(chunk=sent)


@dataclass
class StreamInput:
    """The message of tests/fuzz/stream.proto, of which there are no stubs here: messages, or bytes in their place."""

    sent: list[service_pb.AttendStreamRequest | bytes]
    slice: int = 0
    looks: int = 0
    drop_after: int = 0

    def SerializeToString(self, deterministic: bool) -> bytes:  # noqa: N802
        def field(number: int, data: bytes) -> bytes:
            return bytes([number << 3 | 2]) + make.varint(len(data)) + data

        def one(sent: service_pb.AttendStreamRequest | bytes) -> bytes:
            if isinstance(sent, bytes):
                return field(2, sent)
            return field(1, sent.SerializeToString(deterministic=deterministic))

        numbers = [(2, self.slice), (3, self.looks), (4, self.drop_after)]
        rest = b"".join(bytes([number << 3]) + make.varint(value) for number, value in numbers if value)
        return b"".join(field(1, one(sent)) for sent in self.sent) + rest


def otherwise(chunk: service_pb.AttendStreamRequest) -> Iterator[bytes]:
    """Bytes of a chunk that are not as libraries write them; some are none."""
    plain = chunk.SerializeToString()
    body = chunk.chunk.SerializeToString()
    yield from (plain + b"\x50\x01", plain[:-1], plain + plain, b"\x12\x80\x80" + plain[1:], b"\xff")
    yield b"\x12" + make.varint(len(body) + 2) + b"\x08\x03" + body  # the tensor twice
    yield b"\x12" + make.varint(len(body)) + body[2:] + body[:2]  # its fields in another order
    yield b"\x12" + make.varint(len(body) + 9) + body  # longer than it is
    yield b"\x22" + plain[1:]  # of a field that there is not


def streams(good: list[Request], bad: list[Request]) -> Iterator[StreamInput]:
    """Calls in chunks, some of them left early; messages out of turn, and headers that are refused."""
    for number, request in enumerate(good):
        messages = list(messages_of(request, numbers() if number % 2 else None, 1 + 97 * number % 700))
        yield StreamInput(messages, number % 9, 0x5A5A5 * (number % 3), number % 5 * (number % 7 == 0))
    for messages, _ in test_stream.FRAMING.values():
        yield StreamInput(messages)
    header, *chunks, commit = messages_of(good[0])
    for after in (COMMIT, header, chunk_of(test_stream.QUERY, 0, b"x"), b""):
        yield StreamInput([header, *chunks, commit, after], looks=3)
    for sent in otherwise(chunks[0]):
        yield StreamInput([header, sent, *chunks[1:], commit], slice=3)
    map_of_two = make.qkv(numbers(), Sizes(heads=1, tokens=600, size=1, kind=BF16))
    map_of_two.outputs.maps.append(make.full_map())
    yield StreamInput([header_of(map_of_two), *list(chunks_of(map_of_two))[:1], COMMIT])
    for size in (1 << 61, 1 << 62):  # bytes that 64 bits do not count
        header = header_of(good[0])
        header.header.call.query_key_value.query.shape[:] = [size]
        yield StreamInput([header])
    header = header_of(good[0])
    header.header.call.learned_table.shape[:], header.header.call.learned_table.kind = [9, 4], 1
    yield StreamInput([header])
    for request in bad:
        yield StreamInput([header_of(request)])


def write(folder: Path, message) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    contents = message.SerializeToString(deterministic=True)
    if len(contents) <= 4096:
        (folder / hashlib.sha1(contents).hexdigest()).write_bytes(contents)


def main() -> None:
    folder = Path(sys.argv[1])
    good, bad = list(well_formed()), list(malformed())
    for request in good:
        write(folder / "small_call", request)
    for upload in uploads():
        write(folder / "safetensors", upload)
    for sent in connections(good):
        write(folder / "web", sent)
    for stream in streams(good, bad):
        write(folder / "stream", stream)
    for request in [*good, *bad]:
        write(folder / "decode_check", request)
        write(folder / "plan_check", make.plan_of(request))


if __name__ == "__main__":
    main()
