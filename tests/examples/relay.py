"""Stands between a client and a server, passes every call on as it is, and lets a test change the chunks of streams."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
from server_process import NO_LIMITS
from wire import service_pb

Chunks = list[service_pb.TensorChunk]
PIECE_BYTES = 100


class Relay(grpc.GenericRpcHandler):
    """Listens at `address`. `change`: what becomes of all chunks of a stream's answer."""

    def __init__(self, upstream: str):
        self.change: Callable[[Chunks], Chunks] = lambda chunks: chunks
        self.changed = 0  # streams
        self._channel = grpc.insecure_channel(upstream, options=NO_LIMITS)
        self._server = grpc.server(ThreadPoolExecutor(32), handlers=[self], options=NO_LIMITS)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def close(self) -> None:
        self._server.stop(grace=None).wait()
        self._channel.close()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        call = self._channel.stream_stream(details.method)  # on the wire one message is a stream of one
        streamed = details.method.endswith("/AttendStream")

        def pass_on(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            answers = call(requests)
            context.add_callback(answers.cancel)  # at the deadline, too
            try:
                yield from self._with_change(answers) if streamed else answers
            except grpc.RpcError as error:
                context.set_trailing_metadata(error.trailing_metadata())
                context.abort(error.code(), error.details())

        return grpc.stream_stream_rpc_method_handler(pass_on)

    def _with_change(self, answers: Iterator[bytes]) -> Iterator[bytes]:
        """Chunks wait for the end of the stream; all else goes on at once, for a client may wait for its acceptance."""
        chunks: Chunks = []
        for answer in answers:
            message = service_pb.AttendStreamResponse.FromString(answer)
            if message.HasField("chunk"):
                chunks.append(message.chunk)
                continue
            if message.HasField("end"):
                self.changed += 1
                for chunk in self.change(chunks):
                    yield service_pb.AttendStreamResponse(chunk=chunk).SerializeToString()
            yield answer


def last_piece_first(chunks: Chunks) -> Chunks:
    """All bytes, in small chunks and the other way round."""
    pieces = [
        service_pb.TensorChunk(tensor=chunk.tensor, offset=chunk.offset + at, data=chunk.data[at : at + PIECE_BYTES])
        for chunk in chunks
        for at in range(0, len(chunk.data), PIECE_BYTES)
    ]
    return pieces[::-1]


def flip_a_bit(chunks: Chunks) -> Chunks:
    """The lowest of the last number's."""
    data = bytearray(chunks[-1].data)
    data[-4] ^= 1
    chunks[-1].data = bytes(data)
    return chunks


def swap_two_pieces(chunks: Chunks) -> Chunks:
    """Two of the same size, each with the bytes of the other."""
    pieces = last_piece_first(chunks)
    pieces[-1].data, pieces[-2].data = pieces[-2].data, pieces[-1].data
    return pieces
