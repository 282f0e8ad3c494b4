"""The server that one writes with grpcio and PyTorch: Attend of our contract with scaled_dot_product_attention.

Usage: torch_server.py WORKERS THREADS   (calls at once, and threads within each; stubs of the contract on PYTHONPATH)
"""

import signal
import sys
import warnings
from concurrent import futures

import grpc
import torch
from headlight.v1 import attention_service_pb2 as pb
from headlight.v1 import attention_service_pb2_grpc as rpc
from headlight.v1 import tensor_pb2

NO_LIMITS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def view(message: tensor_pb2.Tensor) -> torch.Tensor:
    """The tensor's numbers where they are."""
    return torch.frombuffer(message.f32_le, dtype=torch.float32).view(*message.shape)


class Service(rpc.AttentionServiceServicer):
    def Attend(self, request: pb.AttendRequest, context: grpc.ServicerContext) -> pb.AttendResponse:
        given = request.query_key_value
        with torch.inference_mode():
            output = torch.nn.functional.scaled_dot_product_attention(
                view(given.query), view(given.key), view(given.value)
            )
        answer = tensor_pb2.Tensor(shape=output.shape, f32_le=output.contiguous().numpy().tobytes())
        return pb.AttendResponse(output=answer)


def main(workers: int, threads: int) -> None:
    warnings.filterwarnings("ignore", message="The given buffer is not writable")
    # Of each worker, as OpenMP counts them.
    pool = futures.ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads,))
    server = grpc.server(pool, options=NO_LIMITS)
    rpc.add_AttentionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    signal.signal(signal.SIGTERM, lambda *_: server.stop(0))
    print(f"ready grpc=127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
