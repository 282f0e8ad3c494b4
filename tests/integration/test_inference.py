"""The Open Inference Protocol v2 (KServe, Triton): the same attention under other names, and Triton's own client."""

import json
import os
import pathlib
import re
import subprocess

import grpc
import make
import numpy as np
import pytest
from inference import open_inference_pb2 as pb
from inference import open_inference_pb2_grpc as rpc
from rpc_errors import failure_of
from server_process import ROOT
from test_readme import BLOCK, DEFAULT_ADDRESS
from wire import BF16, BOOL, F16, F32, KINDS, array, options_pb, outputs_pb, service_pb, tensor

DATATYPES = {F32: "FP32", F16: "FP16", BF16: "BF16", BOOL: "BOOL"}
TRITON_PYTHON = os.environ.get("HEADLIGHT_TRITON_PYTHON")
PERF_ANALYZER = os.environ.get("HEADLIGHT_PERF_ANALYZER")


@pytest.fixture
def stub(server) -> rpc.GRPCInferenceServiceStub:
    return rpc.GRPCInferenceServiceStub(server.channel)


def parameter(value: bool | int | float | str) -> pb.InferParameter:
    kind = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}[type(value)]
    return pb.InferParameter(**{kind: value})


def infer_request(arrays: dict[str, np.ndarray], outputs: tuple[str, ...] = (), **parameters) -> pb.ModelInferRequest:
    """Names of parameters with __ for a dot."""
    request = pb.ModelInferRequest(model_name="attention", id="seven")
    for name, given in arrays.items():
        request.inputs.add(name=name, datatype=DATATYPES[given.dtype], shape=given.shape)
        request.raw_input_contents.append(given.tobytes())
    for name in outputs:
        request.outputs.add(name=name)
    for name, value in parameters.items():
        request.parameters[name.replace("__", ".")].CopyFrom(parameter(value))
    return request


def arrays_of(answer: pb.ModelInferResponse) -> dict[str, np.ndarray]:
    kinds = {name: kind for kind, name in DATATYPES.items()}
    assert len(answer.raw_output_contents) == len(answer.outputs)
    return {
        output.name: np.frombuffer(raw, kinds[output.datatype]).reshape(output.shape)
        for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
    }


def inputs(request: service_pb.AttendRequest) -> dict[str, np.ndarray]:
    given = request.query_key_value
    return {"query": array(given.query), "key": array(given.key), "value": array(given.value)}


@pytest.mark.parametrize("kind", [F32, F16, BF16], ids=["f32", "f16", "bf16"])
@pytest.mark.parametrize("rank", [4, 3, 2])
def test_the_bits_are_those_of_attend(server, stub, kind, rank) -> None:
    sizes = make.Sizes(heads=4, tokens=9, size=8, key_heads=2, batch=1 if rank == 2 else 2, kind=kind)
    request = make.qkv(np.random.default_rng(rank), sizes, rank)
    heads = {} if rank == 4 else {"query_heads": 4, "key_value_heads": 2}
    asked = infer_request(inputs(request), causal=True, scale=0.5, **heads)
    request.options.mask.causal.alignment = options_pb.CAUSAL_ALIGNMENT_TOP_LEFT
    request.options.scale = 0.5
    answer = stub.ModelInfer(asked, timeout=20)
    assert (answer.model_name, answer.model_version, answer.id) == ("attention", "1", "seven")
    assert list(arrays_of(answer)) == ["output"]
    expected = array(server.attend(request).output)
    assert arrays_of(answer)["output"].tobytes() == expected.tobytes()
    assert arrays_of(answer)["output"].shape == expected.shape
    assert answer.parameters["algorithm"].string_param == "ALGORITHM_FLASH"


def test_everything_that_can_be_asked_for(server, stub) -> None:
    request = make.qkv(np.random.default_rng(1), make.Sizes(heads=3, tokens=6, batch=2))
    names = ("weights", "log_sum_exp", "output", "head_outputs", "weights")
    found = arrays_of(stub.ModelInfer(infer_request(inputs(request), names), timeout=20))
    request.outputs.log_sum_exp = request.outputs.head_outputs = True
    request.outputs.maps.add(full=outputs_pb.FullMap())
    expected = server.attend(request)
    assert list(found) == ["weights", "log_sum_exp", "output", "head_outputs"]
    maps = np.stack([array(one.weights) for one in expected.maps]).reshape(2, 3, 6, 6)
    assert np.array_equal(found["weights"], maps)
    assert np.array_equal(found["log_sum_exp"], array(expected.log_sum_exp))
    assert np.array_equal(found["head_outputs"], array(expected.head_outputs))
    assert list(arrays_of(stub.ModelInfer(infer_request(inputs(request), ("log_sum_exp",)), timeout=20))) == ["log_sum_exp"]


def test_parameters_are_fields_of_the_options(server, stub) -> None:
    request = make.qkv(np.random.default_rng(2), make.Sizes(heads=2, tokens=12))
    options = '{"position": {"alibi": {}}, "headGains": [1, 0.5]}'
    asked = infer_request(
        inputs(request), options=options, mask__window__left=3, mask__causal__alignment="TOP_LEFT", softcap=5,
        algorithm="ALGORITHM_NAIVE", precision="FLOAT32", tensor_kind="F16", priority="BATCH", allow_non_finite=False,
    )  # fmt: skip
    request.options.position.alibi.SetInParent()
    request.options.head_gains[:] = [1, 0.5]
    request.options.mask.window.left = 3
    request.options.mask.causal.alignment = options_pb.CAUSAL_ALIGNMENT_TOP_LEFT
    request.options.softcap = 5
    request.options.algorithm = options_pb.ALGORITHM_NAIVE
    request.outputs.tensor_kind = KINDS[F16]
    answer = stub.ModelInfer(asked, timeout=20)
    assert answer.outputs[0].datatype == "FP16"
    assert np.array_equal(arrays_of(answer)["output"], array(server.attend(request).output))
    assert answer.parameters["algorithm"].string_param == "ALGORITHM_NAIVE"


@pytest.mark.parametrize("kind", [BOOL, F32], ids=["bool", "f32"])
def test_a_mask(server, stub, kind) -> None:
    rng = np.random.default_rng(3)
    request = make.qkv(rng, make.Sizes(tokens=5))
    mask = (rng.random((5, 5)) < 0.6).astype(kind)
    found = arrays_of(stub.ModelInfer(infer_request({**inputs(request), "mask": mask}), timeout=20))
    request.options.mask.tensor.CopyFrom(tensor(mask))
    assert np.array_equal(found["output"], array(server.attend(request).output))


def test_typed_contents(server, stub) -> None:
    rng = np.random.default_rng(4)
    request = make.qkv(rng, make.Sizes(tokens=4))
    mask = rng.random((4, 4)) < 0.6
    asked = infer_request({**inputs(request), "mask": mask})
    for tensor_in, raw in zip(asked.inputs, asked.raw_input_contents, strict=True):
        if tensor_in.datatype == "BOOL":
            tensor_in.contents.bool_contents.extend(np.frombuffer(raw, BOOL).tolist())
        else:
            tensor_in.contents.fp32_contents.extend(np.frombuffer(raw, F32).tolist())
    del asked.raw_input_contents[:]
    request.options.mask.tensor.CopyFrom(tensor(mask))
    assert np.array_equal(arrays_of(stub.ModelInfer(asked, timeout=20))["output"], array(server.attend(request).output))


def test_every_violation_at_once_in_the_protocols_words(stub) -> None:
    query = np.zeros((1, 1, 3, 8), F32)
    asked = infer_request({"query": query, "qeury": query, "key": query}, ("weights", "wieghts"), scale="big", sclae=1.0)
    asked.model_name = "attenshun"
    asked.inputs[2].parameters["shared_memory_region"].string_param = "mine"
    failure = failure_of(lambda: stub.ModelInfer(asked, timeout=20))
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT
    assert set(failure.violations) == {
        "model_name", "parameters.scale", "parameters.sclae", "outputs[1].name", "inputs[1].name",
        "inputs.key.parameters", "inputs.value",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("causal", 1, "true or false"),
        ("timeout", 0, "microseconds"),
        ("options", "{", "AttentionOptions as JSON"),
        ("query_heads", -1, "an integer from 0 to 4294967295"),
        ("mask", "x", "a field of AttentionOptions"),
        ("mask.causal", True, "a field of AttentionOptions"),
        ("head_gains", 1.0, "a field of AttentionOptions"),
        ("algorithm", "FALSH", "ALGORITHM_NAIVE, ALGORITHM_FLASH"),
        ("", 1, "a field of AttentionOptions"),
        ("sequence_id", 1, "a field of AttentionOptions"),
    ],
)
def test_a_parameter_that_is_not_one(stub, name, value, expected) -> None:
    request = infer_request(inputs(make.qkv(np.random.default_rng(5))))
    request.parameters[name].CopyFrom(parameter(value))
    failure = failure_of(lambda: stub.ModelInfer(request, timeout=20))
    assert list(failure.violations) == [f"parameters.{name}"]
    assert expected in failure.violations[f"parameters.{name}"]


def test_wrong_bytes_and_types(stub) -> None:
    asked = infer_request(inputs(make.qkv(np.random.default_rng(6))))
    asked.raw_input_contents[0] += b"\0"
    asked.inputs[1].datatype = "INT8"
    failure = failure_of(lambda: stub.ModelInfer(asked, timeout=20))
    assert "inputs.key.datatype" in failure.violations
    assert any(field.startswith("inputs.query") for field in failure.violations)
    del asked.raw_input_contents[1:]
    failure = failure_of(lambda: stub.ModelInfer(asked, timeout=20))
    assert "raw_input_contents" in failure.violations


def test_the_timeout_is_a_deadline(stub) -> None:
    asked = infer_request(inputs(make.qkv(np.random.default_rng(7))), timeout=1)
    assert failure_of(lambda: stub.ModelInfer(asked, timeout=20)).code == grpc.StatusCode.DEADLINE_EXCEEDED


def test_what_there_is(stub) -> None:
    assert stub.ServerLive(pb.ServerLiveRequest(), timeout=5).live
    assert stub.ServerReady(pb.ServerReadyRequest(), timeout=5).ready
    assert stub.ModelReady(pb.ModelReadyRequest(name="attention", version="1"), timeout=5).ready
    assert not stub.ModelReady(pb.ModelReadyRequest(name="attention", version="2"), timeout=5).ready
    assert not stub.ModelReady(pb.ModelReadyRequest(name="resnet"), timeout=5).ready
    assert stub.ServerMetadata(pb.ServerMetadataRequest(), timeout=5).name == "headlight"
    model = stub.ModelMetadata(pb.ModelMetadataRequest(name="attention"), timeout=5)
    assert [tensor.name for tensor in model.inputs] == ["query", "key", "value", "mask"]
    assert [tensor.name for tensor in model.outputs] == ["output", "head_outputs", "weights", "log_sum_exp"]
    missing = failure_of(lambda: stub.ModelMetadata(pb.ModelMetadataRequest(name="resnet"), timeout=5))
    assert missing.code == grpc.StatusCode.NOT_FOUND


def test_calls_are_counted(server, stub) -> None:
    labels = {"grpc_service": "inference.GRPCInferenceService", "grpc_method": "ModelInfer", "grpc_type": "unary"}
    before = server.metrics().value("grpc_server_started_total", **labels)
    stub.ModelInfer(infer_request(inputs(make.qkv(np.random.default_rng(8)))), timeout=20)
    stub.ServerLive(pb.ServerLiveRequest(), timeout=5)
    assert server.metrics().value("grpc_server_started_total", **labels) == before + 1


def test_a_token_is_asked_for(start, tmp_path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-of-some-length-0123456789\n")
    guarded = rpc.GRPCInferenceServiceStub(start("--threads=1", f"--auth-token-file={tokens}").channel)
    asked = infer_request(inputs(make.qkv(np.random.default_rng(9))))
    for call in (lambda **k: guarded.ModelInfer(asked, timeout=20, **k),
                 lambda **k: guarded.ServerLive(pb.ServerLiveRequest(), timeout=5, **k)):  # fmt: skip
        assert failure_of(call).code == grpc.StatusCode.UNAUTHENTICATED
        call(metadata=[("authorization", "Bearer a-token-of-some-length-0123456789")])


needs_triton = pytest.mark.skipif(TRITON_PYTHON is None, reason="no Triton client: HEADLIGHT_TRITON_PYTHON is not set")


@needs_triton
def test_the_pages_program(server, tmp_path) -> None:
    page = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    (code,) = [found["code"] for found in BLOCK.finditer(page) if found["kind"] == "triton"]
    program = tmp_path / "program.py"
    program.write_text(code.replace(DEFAULT_ADDRESS, server.address), encoding="utf-8")
    run = subprocess.run([TRITON_PYTHON, "-B", program], capture_output=True, text=True, timeout=60)
    assert run.stdout.startswith("(1, 8, 128, 64) "), run.stderr


@needs_triton
def test_tritons_own_client(server) -> None:
    program = str(ROOT / "tests" / "interop" / "triton_client.py")
    run = subprocess.run([TRITON_PYTHON, "-B", program, server.address], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "Triton's client: 5 of 5\n"


needs_perf_analyzer = pytest.mark.skipif(PERF_ANALYZER is None, reason="no perf_analyzer: HEADLIGHT_PERF_ANALYZER is not set")


def analyze(address: str, data: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess:
    """One short measurement by Triton's own tool."""
    environment = pathlib.Path(PERF_ANALYZER)
    (library,) = environment.glob("lib/python*/site-packages/nvidia/cuda_runtime/lib")
    command = [environment / "bin" / "perf_analyzer", "-m", "attention", "-i", "grpc", "-u", address, "--input-data", data,
               "--measurement-mode=count_windows", "--measurement-request-count=50", "-p", "200", "-s", "99"]  # fmt: skip
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "LD_LIBRARY_PATH": str(library)})  # fmt: skip


@needs_perf_analyzer
@pytest.mark.parametrize("arguments", [[], ["--async", "--concurrency-range=4"]], ids=["one by one", "four at a time"])
def test_perf_analyzer(server, tmp_path, arguments) -> None:
    shape = [1, 2, 16, 8]
    tensors = dict(zip(("query", "key", "value"), np.random.default_rng(10).standard_normal((3, 256)).tolist()))
    step = {name: {"content": content, "shape": shape} for name, content in tensors.items()}
    step["mask"] = {"content": [0.0] * 256, "shape": [1, 1, 16, 16]}
    data = tmp_path / "data.json"
    data.write_text(json.dumps({"data": [step]}), encoding="utf-8")
    labels = {"grpc_service": "inference.GRPCInferenceService", "grpc_method": "ModelInfer", "grpc_code": "OK"}
    before = server.metrics().value("grpc_server_handled_total", **labels)
    run = analyze(server.address, data, *arguments)
    assert run.returncode == 0, run.stdout + run.stderr
    (count,) = re.findall(r"Request count: (\d+)", run.stdout)
    assert int(count) >= 50
    assert server.metrics().value("grpc_server_handled_total", **labels) - before >= int(count)
