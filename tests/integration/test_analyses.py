"""Analyses given up at any moment, and two at once: nothing is held afterwards, and every answer is whole."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from headlight.v1 import analysis_service_pb2 as analysis_pb
from headlight.v1 import analysis_service_pb2_grpc as analysis_grpc
from server_process import WITH_FAULTS, Server, wait_until
from wire import tensor

ROUNDS = 8


def embeddings(tokens: int):
    return tensor(np.random.default_rng(3).standard_normal((tokens, 16)).astype(np.float32))


def heads(stub) -> tuple[Callable, object]:
    sequence = analysis_pb.HeadSequence(embeddings=embeddings(1500), token_ids=range(1500))
    return stub.AnalyzeHeads, analysis_pb.AnalyzeHeadsRequest(layer="demo", sequences=[sequence])


def ablate(stub) -> tuple[Callable, object]:
    mode = analysis_pb.ABLATION_MODE_MEAN
    return stub.AblateHeads, analysis_pb.AblateHeadsRequest(layer="demo", embeddings=embeddings(3000), mode=mode)


def circuits(stub) -> tuple[Callable, object]:
    request = analysis_pb.AnalyzeCircuitsRequest(layer="induction/0", later_layer="induction/1", directions=32)
    return stub.AnalyzeCircuits, request


def trace(stub) -> tuple[Callable, object]:
    return stub.TraceStack, analysis_pb.TraceStackRequest(stack="induction", token_ids=range(32), maps=True, logits=True)


ANALYSES = (heads, ablate, circuits, trace)


def bits(call: tuple[Callable, object]) -> bytes:
    """The answer without what every run has of its own."""
    method, request = call
    answer = method(request, timeout=60)
    for field in ("execution", "total"):
        if field in answer.DESCRIPTOR.fields_by_name:
            answer.ClearField(field)
    return answer.SerializeToString(deterministic=True)


@pytest.fixture
def quiet(start) -> Server:
    return start("--threads=2", "--max-wait-seconds=100")


@pytest.fixture
def slow(start, tmp_path) -> Server:
    """Each unit of work takes 1 ms more, so that the shortest analysis too has a middle."""
    faults = tmp_path / "faults"
    faults.write_text("unit=1ms")
    env = {"HEADLIGHT_FAULT_FILE": str(faults)}
    return start("--threads=2", "--max-wait-seconds=100", binary=WITH_FAULTS, env=env)


@pytest.mark.parametrize("analysis", ANALYSES, ids=lambda one: one.__name__)
def test_an_analysis_given_up_half_way_leaves_nothing(slow, analysis) -> None:
    method, request = analysis(analysis_grpc.AnalysisServiceStub(slow.channel))
    whole = bits((method, request))
    began = time.monotonic()
    assert bits((method, request)) == whole
    took = time.monotonic() - began
    ended = set()
    for i in range(ROUNDS):
        call = method.future(request, timeout=60)
        time.sleep(took * i / ROUNDS)
        call.cancel()
        try:
            call.result()
            ended.add("OK")
        except grpc.FutureCancelledError:
            ended.add("cancelled")
    assert "cancelled" in ended
    with pytest.raises(grpc.RpcError) as late:
        method(request, timeout=took / 1000)
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: slow.held() == 0)
    assert bits((method, request)) == whole


def test_analyses_side_by_side_give_what_they_give_alone(quiet) -> None:
    stub = analysis_grpc.AnalysisServiceStub(quiet.channel)

    alone = [bits(analysis(stub)) for analysis in ANALYSES]
    with ThreadPoolExecutor(8) as clients:
        for _ in range(3):
            assert list(clients.map(bits, [analysis(stub) for analysis in ANALYSES * 2])) == alone * 2
    wait_until(lambda: quiet.held() == 0)
