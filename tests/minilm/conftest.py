"""A server that holds the model's layers."""

import os
from collections.abc import Iterator

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import stubs

stubs.generate()

import encoder as minilm
import pytest
from headlight.v1 import analysis_service_pb2_grpc as analysis_grpc
from headlight.v1 import layer_service_pb2_grpc as layer_grpc
from server_process import Server


@pytest.fixture(scope="session")
def encoder() -> "minilm.Encoder":
    return minilm.Encoder()


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[Server]:
    layers = tmp_path_factory.mktemp("layers")
    minilm.lay_out(layers)
    running = Server("--threads=2", f"--layers={layers}")
    running.layers = layer_grpc.LayerServiceStub(running.channel)
    running.analysis = analysis_grpc.AnalysisServiceStub(running.channel)
    yield running
    running.close()
