"""Heads switched off: every number of AblateHeads again in numpy, from the head outputs that Attend gives."""

import json
import subprocess

import grpc
import make
import numpy as np
import pytest
from grpc import StatusCode
from headlight.v1 import analysis_service_pb2 as analysis_pb
from headlight.v1 import analysis_service_pb2_grpc as analysis_grpc
from make import TOP_LEFT, Sizes, embeddings, with_algorithm
from reference import assert_close
from rpc_errors import is_field_path, refusal_of
from server_process import CLI, environment, wait_until
from wire import BF16, F16, F32, array, service_pb, tensor, wide

ZERO, MEAN = analysis_pb.ABLATION_MODE_ZERO, analysis_pb.ABLATION_MODE_MEAN
MODES = pytest.mark.parametrize("mode", [ZERO, MEAN], ids=["zero", "mean"])
KINDS = pytest.mark.parametrize("kind", [F32, F16, BF16], ids=lambda kind: kind.name)
GROUPED = Sizes(heads=6, key_heads=2, tokens=70, size=8, value_size=5, batch=2, width=20)


def request_of(attend: service_pb.AttendRequest, heads: list[int], mode: int) -> analysis_pb.AblateHeadsRequest:
    """The same input and options."""
    request = analysis_pb.AblateHeadsRequest(heads=heads, mode=mode, options=attend.options)
    request.embeddings.CopyFrom(attend.self_attention.embeddings)
    if attend.self_attention.WhichOneof("weights") == "layer":
        request.layer = attend.self_attention.layer
    else:
        request.layer_weights.CopyFrom(attend.self_attention.layer_weights)
    return request


def call(server, request: analysis_pb.AblateHeadsRequest) -> analysis_pb.AblateHeadsResponse:
    return analysis_grpc.AnalysisServiceStub(server.channel).AblateHeads(request, timeout=120)


class Heads:
    """What each head adds to the output, in double, from Attend's answer."""

    def __init__(self, server, attend: service_pb.AttendRequest, mode: int, matrix: np.ndarray | None):
        asking = service_pb.AttendRequest()
        asking.CopyFrom(attend)
        asking.outputs.head_outputs = True
        asking.outputs.tensor_kind = make.KINDS[F32]
        answer = server.attend(asking)
        heads = wide(answer.head_outputs)  # [B, H, T, V]
        self.output = wide(answer.output)
        self.count, size = heads.shape[1], heads.shape[3]
        means = heads.mean(axis=(0, 2)) * (mode == MEAN)  # [H, V]
        through = np.eye(self.count * size) if matrix is None else matrix
        rows = [through[h * size : (h + 1) * size] for h in range(self.count)]
        self.added = [((heads[:, h] - means[h]) @ rows[h]).reshape(self.output.shape) for h in range(self.count)]
        self.mean_added = [means[h] @ rows[h] for h in range(self.count)]

    def without(self, off: list[int]) -> np.ndarray:
        return self.output - sum((self.added[h] for h in off), np.zeros_like(self.output))

    def change(self, off: list[int]) -> tuple[float, float]:
        """Relative L2 and cosine."""
        left = self.without(off)
        length, left_length = np.linalg.norm(self.output), np.linalg.norm(left)
        cosine = np.vdot(self.output, left) / (length * left_length) if left_length > 1e-6 * length else 0
        return np.linalg.norm(self.output - left) / length, cosine

    def redundancy(self) -> list[int]:
        order: list[int] = []
        while len(order) < self.count:
            left = [h for h in range(self.count) if h not in order]
            order.append(min(left, key=lambda h: self.change([*order, h])[0]))
        return order


def check_change(got: analysis_pb.OutputChange, want: tuple[float, float]) -> None:
    assert (got.relative_l2, got.cosine) == pytest.approx(want, rel=2e-5, abs=2e-5)


def check(answer: analysis_pb.AblateHeadsResponse, heads: Heads, off: list[int], kind: np.dtype) -> None:
    assert array(answer.output).dtype == kind
    assert_close(array(answer.output), heads.without(off))
    if off:
        check_change(answer.change, heads.change(off))
    else:
        assert (answer.change.relative_l2, answer.change.cosine) == (0, 1)
    assert [loss.head for loss in answer.losses] == list(range(heads.count))
    for loss in answer.losses:
        check_change(loss.change, heads.change([loss.head]))
    order = [step.head for step in answer.redundancy]
    assert order == heads.redundancy()
    for i, step in enumerate(answer.redundancy):
        check_change(step.change, heads.change(order[: i + 1]))


@MODES
@KINDS
@pytest.mark.parametrize("off", [[], [4], [5, 0, 2]], ids=["none", "one", "three"])
def test_every_number(server, rng, algorithm, kind, mode, off) -> None:
    sizes = Sizes(**{**vars(GROUPED), "kind": kind})
    attend = with_algorithm(embeddings(rng, sizes, output_width=26), algorithm)
    attend.options.mask.causal.alignment = TOP_LEFT
    heads = Heads(server, attend, mode, wide(attend.self_attention.layer_weights.output))
    answer = call(server, request_of(attend, off, mode))
    check(answer, heads, off, kind)
    if mode == MEAN:
        want = sum((heads.mean_added[h] for h in off), np.zeros(26))
        assert_close(array(answer.mean_contribution), want, "mean contribution")
    else:
        assert not answer.HasField("mean_contribution")
    assert answer.execution.query_heads == 6
    assert (answer.layer, answer.layer_id) == ("", "")


@MODES
def test_without_an_output_matrix_heads_have_columns_of_their_own(server, rng, algorithm, mode) -> None:
    attend = with_algorithm(embeddings(rng, GROUPED, output_width=0), algorithm)
    heads = Heads(server, attend, mode, None)
    answer = call(server, request_of(attend, [1, 3], mode))
    check(answer, heads, [1, 3], F32)
    if mode == MEAN:
        assert_close(array(answer.mean_contribution), heads.mean_added[1] + heads.mean_added[3], "mean contribution")


@KINDS
def test_zero_is_attend_with_gains_of_zero_bit_by_bit(server, rng, algorithm, kind) -> None:
    attend = with_algorithm(embeddings(rng, Sizes(**{**vars(GROUPED), "kind": kind})), algorithm)
    request = request_of(attend, [0, 5], ZERO)
    attend.options.head_gains.extend([0, 1, 1, 1, 1, 0])
    assert call(server, request).output == server.attend(attend).output


def test_the_shift_of_a_pruned_layer_is_the_mean_contribution(server, rng) -> None:
    """Gains of 0 and the means' contribution on the bias: what PruneLayer makes of output_shift."""
    attend = embeddings(rng, GROUPED)
    answer = call(server, request_of(attend, [2, 3], MEAN))
    bias = attend.self_attention.layer_weights.output_bias
    bias.CopyFrom(tensor(array(bias) + array(answer.mean_contribution)))
    attend.options.head_gains.extend([1, 1, 0, 0, 1, 1])
    assert_close(array(answer.output), wide(server.attend(attend).output))


def test_one_worker_gives_the_same_bytes(server, start, rng) -> None:
    request = request_of(embeddings(rng, Sizes(heads=4, tokens=300, size=16, batch=3)), [1, 2], MEAN)
    answers = [call(server, request), call(start("--threads=1"), request)]
    for answer in answers:
        answer.ClearField("execution")
    assert answers[0] == answers[1]


def test_all_that_is_wrong_is_told_in_this_requests_paths(server, rng) -> None:
    request = request_of(embeddings(rng, GROUPED), [6, 1, 1], analysis_pb.ABLATION_MODE_UNSPECIFIED)
    request.options.head_gains.extend([1] * 6)
    request.options.allow_non_finite = True
    request.layer_weights.key.shape[0] += 1
    failure = refusal_of(lambda: call(server, request), StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert set(failure.violations) == {
        "mode", "heads[0]", "heads[2]", "options.head_gains", "options.allow_non_finite",
        "layer_weights.key.shape", "layer_weights.key.data",
    }  # fmt: skip
    assert all(is_field_path(path, analysis_pb.AblateHeadsRequest.DESCRIPTOR) for path in failure.violations)


def test_values_are_looked_at(server, rng, canary) -> None:
    request = request_of(embeddings(rng, GROUPED), [0], ZERO)
    bad = array(request.embeddings).copy()
    bad[1, 2, 3] = np.nan
    request.embeddings.CopyFrom(tensor(bad))
    failure = refusal_of(lambda: call(server, request), StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert list(failure.violations) == ["embeddings"]
    canary()


def test_an_unknown_layer(server, rng) -> None:
    request = request_of(embeddings(rng, GROUPED), [0], ZERO)
    request.layer = "nobody"
    failure = refusal_of(lambda: call(server, request), StatusCode.NOT_FOUND, "LAYER_NOT_FOUND")
    assert failure.message.startswith("layer:")


def test_a_long_call_ends_with_its_deadline_and_holds_nothing(server, rng) -> None:
    request = request_of(embeddings(rng, Sizes(heads=8, tokens=6000, size=32)), [0], MEAN)
    stub = analysis_grpc.AnalysisServiceStub(server.channel)
    with pytest.raises(grpc.RpcError) as caught:
        stub.AblateHeads(request, timeout=0.05)
    assert caught.value.code() == StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: server.held() == 0)


# The command line.


def run_cli(server, *arguments: str) -> subprocess.CompletedProcess:
    command = [CLI, "ablate", "--address", server.address, *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=30)


def test_the_command_line_shows_the_demo(server, tmp_path) -> None:
    path = tmp_path / "out.npy"
    run = run_cli(server, "--heads", "0,2", "--mode", "mean", "--output", str(path))
    assert run.returncode == 0, run.stderr
    demo = server.stub.GetDemo(service_pb.GetDemoRequest(), timeout=10)
    request = analysis_pb.AblateHeadsRequest(embeddings=demo.embeddings, layer="demo", heads=[0, 2], mode=MEAN)
    answer = call(server, request)
    assert np.array_equal(np.load(path), array(answer.output))
    lines = [line.split() for line in run.stdout.splitlines()]
    for loss in answer.losses:
        numbers = [f"{loss.change.relative_l2:.4f}", f"{loss.change.cosine:.4f}"]
        assert ["head", str(loss.head), *numbers] in lines
    for i, step in enumerate(answer.redundancy):
        numbers = [f"{step.change.relative_l2:.4f}", f"{step.change.cosine:.4f}"]
        assert [f"{i + 1}.", "head", str(step.head), *numbers] in lines
    assert ["heads", "0,", "2", f"{answer.change.relative_l2:.4f}", f"{answer.change.cosine:.4f}"] in lines


def test_the_command_line_as_json_with_a_file(server, tmp_path) -> None:
    demo = server.stub.GetDemo(service_pb.GetDemoRequest(), timeout=10)
    path = tmp_path / "x.npy"
    np.save(path, array(demo.embeddings)[:6])
    run = run_cli(server, "--embeddings", str(path), "--heads", "1", "--causal", "top-left", "--json")
    assert run.returncode == 0, run.stderr
    printed = json.loads(run.stdout)
    request = analysis_pb.AblateHeadsRequest(layer="demo", heads=[1], mode=ZERO)
    request.embeddings.CopyFrom(tensor(array(demo.embeddings)[:6]))
    request.options.mask.causal.alignment = TOP_LEFT
    answer = call(server, request)
    values = np.array(printed["output"]["f32_values"]["values"], dtype=F32)
    assert np.array_equal(values.reshape(6, 16), array(answer.output))
    assert printed["layer_id"] == answer.layer_id
    assert [step["head"] for step in printed["redundancy"]] == [step.head for step in answer.redundancy]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--heads", "7"], 3, "heads[0]: got 7"),
        (["--layer", "nobody"], 3, "layer: no layer has this name"),
        (["--mode", "none"], 2, "--mode"),
        (["--embeddings", "missing.npy"], 2, "missing.npy"),
        (["--causal", "left"], 2, "--causal"),
    ],
)
def test_the_command_line_tells_what_is_wrong(server, arguments, code, text) -> None:
    run = run_cli(server, *arguments)
    assert run.returncode == code
    assert text in run.stderr
    assert run.stdout == ""
