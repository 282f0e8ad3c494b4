"""Every instruction set that this machine has, chosen by name."""

import make
import numpy as np
import pytest
from server_process import Server, run_server
from wire import array, service_pb

NAMES = ["avx512", "avx2", "sse4", "neon", "baseline"]


def info_of(server: Server) -> service_pb.GetServerInfoResponse:
    return server.stub.GetServerInfo(service_pb.GetServerInfoRequest(), timeout=10)


def demo_answer(server: Server, algorithm: int) -> service_pb.AttendResponse:
    demo = server.stub.GetDemo(service_pb.GetDemoRequest(), timeout=10)
    request = service_pb.AttendRequest()
    request.self_attention.embeddings.CopyFrom(demo.embeddings)
    request.self_attention.layer = demo.layer
    request.options.algorithm = algorithm
    return server.attend(make.everything(request))


def assert_same_numbers(got: service_pb.AttendResponse, want: service_pb.AttendResponse) -> None:
    tensors = ["output", "log_sum_exp", "head_outputs"]
    pairs = [(getattr(got, name), getattr(want, name)) for name in tensors]
    pairs += [(a.weights, b.weights) for a, b in zip(got.maps, want.maps, strict=True)]
    assert len(pairs) > len(tensors)
    for a, b in pairs:
        np.testing.assert_allclose(array(a), array(b), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_target(server, start, name) -> None:
    best = info_of(server)
    if name not in best.available_cpu_targets:
        pytest.skip(f"this machine has no {name}")
    forced = start("--threads=1", f"--cpu-target={name}")
    info = info_of(forced)
    assert info.cpu_target == name
    assert forced.metrics().value("headlight_build_info", cpu_target=name) == 1
    for algorithm in (1, 2):
        answer = demo_answer(forced, algorithm)
        assert answer.execution.cpu_target == name
        assert_same_numbers(answer, demo_answer(server, algorithm))
        assert_same_numbers(forced.attend(make.canary()), server.attend(make.canary()))


def test_a_forced_server_still_names_every_target_that_the_machine_has(server, start) -> None:
    forced = start("--threads=1", "--cpu-target=baseline")
    assert info_of(forced).available_cpu_targets == info_of(server).available_cpu_targets


def test_a_target_runs_other_instructions_than_the_next(server, start) -> None:
    """The name is no mere label: fused multiply-adds round otherwise than separate ones."""
    available = info_of(server).available_cpu_targets
    if not {"avx2", "sse4"} <= set(available):
        pytest.skip("this machine has not both avx2 and sse4")
    answers = [start("--threads=1", f"--cpu-target={name}").attend(make.canary()) for name in ("avx2", "sse4")]
    assert make.bits(answers[0]) != make.bits(answers[1])


@pytest.mark.parametrize("name", ["z80", "AVX2", "avx512,avx2", "neon"])
def test_an_unknown_target_refuses_to_start_and_names_those_there_are(server, name) -> None:
    available = list(info_of(server).available_cpu_targets)
    if name in available:
        pytest.skip(f"this machine has {name}")
    ended = run_server("--listen=127.0.0.1:0", "--http=127.0.0.1:0", "--web=", f"--cpu-target={name}")
    assert ended.returncode == 1
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert name in line
    assert ", ".join(available) in line
