"""LayerService: layers uploaded, named in calls, replaced and deleted while calls run; a folder at the start."""

import itertools
import json
import subprocess
import threading
import time
from collections.abc import Iterator

import grpc
import make
import numpy as np
import pytest
from headlight.v1 import analysis_service_pb2 as analysis_pb
from headlight.v1 import analysis_service_pb2_grpc as analysis_grpc
from headlight.v1 import layer_service_pb2 as layer_pb
from headlight.v1 import layer_service_pb2_grpc as layer_grpc
from rpc_errors import failure_of, refusal_of
from safetensors_file import file_of
from server_process import CLI, Server, environment, run_server, wait_until
from wire import BF16, F16, F32, array, service_pb, tensor

PERMISSION_DENIED = grpc.StatusCode.PERMISSION_DENIED
INVALID = grpc.StatusCode.INVALID_ARGUMENT
WIDTH = 16
ZERO = analysis_pb.ABLATION_MODE_ZERO
TOKEN, OTHER = "token-of-those-who-upload", "token-of-everybody-else"


@pytest.fixture
def taking(start) -> Server:
    return start("--threads=2", "--allow-layer-uploads", "--max-wait-seconds=1000")


def layers_of(server: Server) -> layer_grpc.LayerServiceStub:
    return layer_grpc.LayerServiceStub(server.channel)


def matrices(rng: np.random.Generator, width: int = WIDTH) -> dict[str, np.ndarray]:
    return {n: rng.standard_normal((width, width)).astype(F32) for n in ("query", "key", "value", "output")}


def messages(file: bytes, chunk: int = 1 << 20, **header) -> Iterator[layer_pb.UploadLayerRequest]:
    yield layer_pb.UploadLayerRequest(header=layer_pb.UploadLayerHeader(**header))
    for at in range(0, len(file), chunk):
        yield layer_pb.UploadLayerRequest(chunk=file[at : at + chunk])


def upload(server: Server, file: bytes, metadata=None, chunk: int = 1 << 20, **header) -> layer_pb.UploadLayerResponse:
    return layers_of(server).UploadLayer(messages(file, chunk, **header), metadata=metadata, timeout=60)


def attend_request(rng: np.random.Generator, heads: int = 4, tokens: int = 9) -> service_pb.AttendRequest:
    request = service_pb.AttendRequest()
    embeddings = rng.standard_normal((tokens, WIDTH)).astype(F32)
    request.self_attention.embeddings.CopyFrom(tensor(embeddings))
    request.options.query_heads = heads
    return request


def by_name(request: service_pb.AttendRequest, name: str) -> service_pb.AttendRequest:
    named = service_pb.AttendRequest.FromString(request.SerializeToString())
    named.self_attention.layer = name
    return named


def with_matrices(request: service_pb.AttendRequest, weights: dict[str, np.ndarray]) -> service_pb.AttendRequest:
    sent = service_pb.AttendRequest.FromString(request.SerializeToString())
    sent.self_attention.layer_weights.CopyFrom(
        service_pb.LayerWeights(**{name: tensor(matrix) for name, matrix in weights.items()})
    )
    return sent


def test_an_uploaded_layer_gives_what_the_same_matrices_give(taking, rng) -> None:
    weights, request = matrices(rng), attend_request(rng)
    file = file_of(weights)
    answer = upload(taking, file, chunk=999, name="mine", query_heads=4, total_bytes=len(file))
    assert [layer.name for layer in answer.layers] == ["mine"] and not answer.known
    sent = make.bits(taking.attend(with_matrices(request, weights)))
    for name in ("mine", answer.id):
        assert make.bits(taking.attend(by_name(request, name))) == sent
    assert upload(taking, file, name="mine", query_heads=4).known
    listed = layers_of(taking).ListLayers(layer_pb.ListLayersRequest(), timeout=10)
    assert [layer.name for layer in listed.layers] == ["demo", "induction/0", "induction/1", "mine"]
    assert [stack.name for stack in listed.stacks] == ["induction"]
    got = layers_of(taking).GetLayer(layer_pb.GetLayerRequest(name=answer.id, include_weights=True), timeout=10)
    assert np.array_equal(array(got.weights.output), weights["output"])
    assert dict(got.layer.tensors) == {name: name for name in weights}
    assert got.layer.bytes == sum(matrix.nbytes for matrix in weights.values())


def test_the_same_bytes_read_in_another_way_are_another_layer(taking, rng) -> None:
    file = file_of(matrices(rng))
    two = upload(taking, file, name="two", query_heads=2)
    refusal_of(lambda: upload(taking, file, name="two", query_heads=4), grpc.StatusCode.ALREADY_EXISTS, "LAYER_EXISTS")
    names = layer_pb.TensorNames(query="query", key="key", value="value", output="output", transposed=True)
    turned = upload(taking, file, name="turned", query_heads=2, tensor_names=names)
    four = upload(taking, file, name="four", query_heads=4)
    assert len({two.id, turned.id, four.id}) == 3
    request = attend_request(rng, heads=2)
    mine = make.bits(taking.attend(by_name(request, two.id)))
    assert make.bits(taking.attend(by_name(request, turned.id))) != mine
    layers_of(taking).DeleteLayer(layer_pb.DeleteLayerRequest(name=turned.id), timeout=10)
    assert make.bits(taking.attend(by_name(request, two.id))) == mine


@pytest.mark.parametrize("kind", [F32, F16, BF16], ids=str)
def test_names_and_layouts_of_known_models(taking, rng, kind) -> None:
    """Each file is made of the same numbers, and each gives what those numbers give."""
    weights = {name: matrix.astype(kind) for name, matrix in matrices(rng).items()}
    wide = {name: matrix.astype(F32) for name, matrix in weights.items()}
    fused = np.concatenate([weights["query"], weights["key"], weights["value"]], axis=1)
    turned = {name: np.ascontiguousarray(matrix.T) for name, matrix in weights.items()}
    bert = {"query": "self.query", "key": "self.key", "value": "self.value", "output": "output.dense"}
    llama = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "o_proj"}
    files = {
        "gpt2": {"h.0.attn.c_attn.weight": fused, "h.0.attn.c_proj.weight": weights["output"]},
        "bert": {f"encoder.layer.0.attention.{bert[n]}.weight": matrix for n, matrix in turned.items()},
        "llama": {f"model.layers.0.self_attn.{llama[n]}.weight": matrix for n, matrix in turned.items()},
        "headlight": weights,
        "mapped": {f"x.{name}": matrix for name, matrix in turned.items()},
    }
    request = attend_request(rng)
    expected = make.bits(taking.attend(with_matrices(request, wide)))
    for scheme, tensors in files.items():
        names = layer_pb.TensorNames(**{n: f"x.{n}" for n in weights}, transposed=True) if scheme == "mapped" else None
        answer = upload(taking, file_of(tensors), name=scheme, tensor_names=names)
        assert answer.layers[0].scheme == scheme
        assert make.bits(taking.attend(by_name(request, scheme))) == expected


def test_without_the_flag_nothing_is_taken(server, rng) -> None:
    before = server.held()
    for call in (
        lambda: upload(server, file_of(matrices(rng)), name="mine"),
        lambda: layers_of(server).DeleteLayer(layer_pb.DeleteLayerRequest(name="demo"), timeout=10),
        lambda: layers_of(server).PruneLayer(layer_pb.PruneLayerRequest(layer="demo", heads=[0], name="x"), timeout=10),
    ):
        refusal_of(call, PERMISSION_DENIED, "PERMISSION_DENIED")
    assert "--allow-layer-uploads" in failure_of(lambda: upload(server, b"", name="mine")).message
    assert server.held() == before


def test_uploads_want_a_token_of_their_own(start, rng, tmp_path) -> None:
    for name, token in (("uploads", TOKEN), ("all", OTHER)):
        (tmp_path / name).write_text(f"{token}\n")
    everybody = f"--auth-token-file={tmp_path / 'all'}"
    guarded = start("--threads=1", "--allow-layer-uploads", f"--upload-token-file={tmp_path / 'uploads'}", everybody)
    file = file_of(matrices(rng))

    def bearing(token: str) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {token}")]

    refusal_of(lambda: upload(guarded, file, name="mine"), grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    refusal_of(lambda: upload(guarded, file, bearing(OTHER), name="mine"), PERMISSION_DENIED, "PERMISSION_DENIED")
    assert upload(guarded, file, bearing(TOKEN), name="mine").layers[0].name == "mine"
    listed = layers_of(guarded).ListLayers(layer_pb.ListLayersRequest(), metadata=bearing(OTHER), timeout=10)
    assert len(listed.layers) == 4
    without = start("--threads=1", "--allow-layer-uploads", everybody)
    failure = failure_of(lambda: upload(without, file, bearing(OTHER), name="mine"))
    assert failure.code == PERMISSION_DENIED and "--upload-token-file" in failure.message


def test_a_name_is_replaced_and_deleted_while_calls_run(taking, rng) -> None:
    """Each call computes with one layer or the other, never with a mixture, and none fails."""
    weights = [matrices(rng), matrices(rng)]
    files = [file_of(one) for one in weights]
    request = attend_request(rng, tokens=64)
    allowed = {str(make.bits(taking.attend(with_matrices(request, one)))) for one in weights}
    upload(taking, files[0], name="mine", query_heads=4)
    assert failure_of(lambda: upload(taking, files[1], name="mine")).code == grpc.StatusCode.ALREADY_EXISTS
    seen, failures, stop = set(), [], threading.Event()

    def call() -> None:
        while not stop.is_set():
            try:
                seen.add(str(make.bits(taking.attend(by_name(request, "mine")))))
            except grpc.RpcError as error:
                failures.append(error)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(30):
        upload(taking, files[(i + 1) % 2], name="mine", query_heads=4, replace=True)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures and seen <= allowed and seen
    # A long call goes on with what it found when the layer is deleted, and its memory is given back after it.
    long = by_name(attend_request(rng, tokens=9), "mine")
    long.self_attention.embeddings.CopyFrom(tensor(rng.standard_normal((8, 3000, WIDTH)).astype(F32)))
    running = taking.stub.Attend.future(long, timeout=120)
    wait_until(lambda: taking.metrics().value("headlight_queue_length") > 0, 10)
    gone = layers_of(taking).DeleteLayer(layer_pb.DeleteLayerRequest(name="mine"), timeout=10)
    assert list(gone.layers) == ["mine"]
    refusal_of(lambda: taking.attend(by_name(request, "mine")), grpc.StatusCode.NOT_FOUND, "LAYER_NOT_FOUND")
    assert running.result().HasField("output")
    wait_until(lambda: taking.held() == 0, 10)


def test_a_drain_that_is_cut_off_tells_an_upload(start, rng) -> None:
    server = start("--threads=2", "--allow-layer-uploads", "--drain-timeout=0.3")
    over = threading.Event()

    def slow() -> Iterator[layer_pb.UploadLayerRequest]:
        yield from messages(file_of(matrices(rng)), chunk=500, name="mine")
        over.wait(20)

    call = layers_of(server).UploadLayer.future(slow(), timeout=30)
    time.sleep(0.5)
    server.terminate()
    try:
        refusal_of(call.result, grpc.StatusCode.UNAVAILABLE, "DRAIN_ABORTED")
        assert server.wait(10) == 3
    finally:
        over.set()


def test_what_is_cut_off_leaves_nothing(taking, rng) -> None:
    file = file_of(matrices(rng))
    stub = layers_of(taking)
    half = list(messages(file, chunk=500, name="mine", total_bytes=len(file)))
    refusal_of(lambda: stub.UploadLayer(iter(half[:4]), timeout=20), INVALID, "INVALID_REQUEST")
    refusal_of(lambda: stub.UploadLayer(iter(half[1:]), timeout=20), INVALID, "INVALID_REQUEST")
    refusal_of(lambda: stub.UploadLayer(iter(half[:1] * 2), timeout=20), INVALID, "INVALID_REQUEST")
    refusal_of(lambda: stub.UploadLayer(iter([]), timeout=20), INVALID, "INVALID_REQUEST")
    refusal_of(lambda: upload(taking, file[:-1], name="mine"), INVALID, "INVALID_REQUEST")
    refusal_of(lambda: upload(taking, file, name="mine", chunk=1, total_bytes=1 << 40), INVALID, "REQUEST_TOO_EXPENSIVE")
    big = [half[0], layer_pb.UploadLayerRequest(chunk=bytes((1 << 20) + 1))]
    refusal_of(lambda: stub.UploadLayer(iter(big), timeout=20), INVALID, "INVALID_REQUEST")
    # A client that goes away, and one whose deadline passes, in the middle.
    wait = threading.Event()

    def slow() -> Iterator[layer_pb.UploadLayerRequest]:
        yield from half[:4]
        wait.wait(20)

    going = stub.UploadLayer.future(slow(), timeout=60)
    wait_until(lambda: taking.held() > 0, 10)
    going.cancel()
    late = failure_of(lambda: stub.UploadLayer(slow(), timeout=0.5))
    assert late.code == grpc.StatusCode.DEADLINE_EXCEEDED
    wait.set()
    wait_until(lambda: taking.held() == 0, 10)
    wait_until(lambda: taking.metrics().value("headlight_layer_uploads_total", outcome="aborted") == 2, 10)
    assert taking.metrics().value("headlight_layers") == 3
    assert taking.metrics().value("grpc_server_started_total", grpc_type="client_stream") > 0


def test_layers_count_against_the_memory_budget(start, rng) -> None:
    small = start("--threads=1", "--allow-layer-uploads", "--memory-budget-bytes=1048576")
    file = file_of(matrices(rng, width=160))  # 400 KiB, and as much made of it
    upload(small, file, name="one")
    held = 4 * 160 * 160 * 4

    def reserved() -> float:
        return small.metrics().value("headlight_memory_reserved_bytes")

    wait_until(lambda: reserved() == held)  # the file's own bytes go a moment after the answer
    refusal_of(lambda: upload(small, file, name="two"), grpc.StatusCode.RESOURCE_EXHAUSTED, "SERVER_OVERLOADED")
    refusal_of(lambda: upload(small, file, name="big", total_bytes=1 << 21), INVALID, "REQUEST_TOO_EXPENSIVE")
    wait_until(lambda: reserved() == held)
    layers_of(small).DeleteLayer(layer_pb.DeleteLayerRequest(name="one"), timeout=10)
    wait_until(lambda: small.held() == 0)
    upload(small, file, name="two")


def test_a_pruned_layer_is_the_layer_without_these_heads(taking, rng) -> None:
    upload(taking, file_of(matrices(rng)), name="mine", query_heads=4)
    request = attend_request(rng, heads=0)
    answer = layers_of(taking).PruneLayer(layer_pb.PruneLayerRequest(layer="mine", heads=[0, 2], name="small"), timeout=10)
    assert list(answer.kept_heads) == [1, 3] and answer.layer.bytes * 2 == answer.bytes_before
    off = by_name(request, "mine")
    off.options.head_gains.extend([0, 1, 0, 1])
    expected = array(taking.attend(off).output)
    assert np.allclose(array(taking.attend(by_name(request, "small")).output), expected, atol=1e-5)
    shift = rng.standard_normal(WIDTH).astype(F32)
    pruned = layer_pb.PruneLayerRequest(layer=answer.layer.id, heads=[0], name="smaller", output_shift=tensor(shift))
    assert list(layers_of(taking).PruneLayer(pruned, timeout=10).kept_heads) == [1]
    off.options.head_gains[:] = [0, 0, 0, 1]
    output = array(taking.attend(by_name(request, "smaller")).output)
    assert np.allclose(output, array(taking.attend(off).output) + shift, atol=1e-5)
    pruned.output_shift.CopyFrom(tensor(shift[:-1]))
    refusal_of(lambda: layers_of(taking).PruneLayer(pruned, timeout=10), INVALID, "INVALID_REQUEST")


def test_a_layer_whose_keys_want_a_context_is_told_of_by_its_field(taking, rng) -> None:
    weights = matrices(rng)
    weights["key"], weights["value"] = (rng.standard_normal((24, WIDTH)).astype(F32) for _ in "kv")
    upload(taking, file_of(weights), name="crossed", query_heads=4)
    stub = analysis_grpc.AnalysisServiceStub(taking.channel)
    tokens = tensor(rng.standard_normal((5, WIDTH)).astype(F32))
    sequences = [analysis_pb.HeadSequence(embeddings=tokens)]
    swap = analysis_pb.CircuitSwap(embeddings=tokens, aim_head=0, cargo_head=1)
    for field, call in {
        "layer": lambda: stub.AnalyzeHeads(analysis_pb.AnalyzeHeadsRequest(layer="crossed", sequences=sequences)),
        "layer ": lambda: stub.AblateHeads(
            analysis_pb.AblateHeadsRequest(layer="crossed", embeddings=tokens, heads=[0], mode=ZERO)
        ),
        "swap": lambda: stub.AnalyzeCircuits(analysis_pb.AnalyzeCircuitsRequest(layer="crossed", swap=swap)),
    }.items():
        assert list(failure_of(call).violations) == [field.strip()]


def test_no_name_and_one_that_is_too_long_are_violations(taking) -> None:
    stub = layers_of(taking)
    for name in ("", "x" * 200):
        for field, call in {
            "name": lambda name=name: stub.GetLayer(layer_pb.GetLayerRequest(name=name), timeout=10),
            "name ": lambda name=name: stub.DeleteLayer(layer_pb.DeleteLayerRequest(name=name), timeout=10),
            "layer": lambda name=name: stub.PruneLayer(layer_pb.PruneLayerRequest(layer=name, name="x"), timeout=10),
        }.items():
            refusal = refusal_of(call, INVALID, "INVALID_REQUEST")
            assert list(refusal.violations) == [field.strip()]


def test_a_folder_at_the_start(start, rng, tmp_path) -> None:
    """As Kubernetes mounts it: links to links."""
    data = tmp_path / "..2026"
    data.mkdir()
    (tmp_path / "..data").symlink_to(data.name)
    weights = matrices(rng)
    (data / "mine.safetensors").write_bytes(file_of(weights))
    (data / "mine.json").write_text(json.dumps({"num_attention_heads": 4}))
    for name in ("mine.safetensors", "mine.json"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    server = start("--threads=1", "--allow-layer-uploads", f"--layers={tmp_path}")
    request = attend_request(rng, heads=0)
    sent = with_matrices(attend_request(rng), weights)
    sent.self_attention.embeddings.CopyFrom(request.self_attention.embeddings)
    assert make.bits(server.attend(by_name(request, "mine"))) == make.bits(server.attend(sent))
    delete = layer_pb.DeleteLayerRequest(name="mine")
    refusal_of(lambda: layers_of(server).DeleteLayer(delete, timeout=10), PERMISSION_DENIED, "PERMISSION_DENIED")
    (tmp_path / "bad.safetensors").write_bytes(b"no file of layers")
    ended = run_server("--listen=127.0.0.1:0", "--http=127.0.0.1:0", "--web=", f"--layers={tmp_path}")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "--layers" in ended.stderr and "bad.safetensors" in ended.stderr


def test_the_command_line(taking, rng, tmp_path) -> None:
    file = tmp_path / "odd.safetensors"
    file.write_bytes(file_of({f"w.{name}": matrix for name, matrix in matrices(rng).items()}))
    mapping = tmp_path / "names.json"
    mapping.write_text(json.dumps({name: f"w.{name}" for name in ("query", "key", "value", "output")}))

    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [CLI, "layers", *arguments, "--address", taking.address]
        return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=30)

    assert run("upload", str(file)).returncode == 3
    uploaded = run("upload", str(file), "--heads", "4", "--mapping", str(mapping), "--json")
    assert uploaded.returncode == 0, uploaded.stderr
    identity = json.loads(uploaded.stdout)["id"]
    assert "held already" in run("upload", str(file), "--heads", "4", "--mapping", str(mapping)).stdout
    assert run("upload", str(file), "--heads", "2", "--mapping", str(mapping)).returncode != 0
    shown = run("show", identity)
    assert "w.query" in shown.stdout and identity in shown.stdout
    assert "kept heads 1,2" in run("prune", "odd", "--heads", "0,3", "--name", "small").stdout
    listed = run("list")
    assert all(name in listed.stdout for name in ("demo", "odd", "small", "stack induction"))
    assert run("delete", "odd").stdout == "deleted odd\n"
    assert run("show", "odd").returncode == 3
    assert run("delete", "demo").returncode == 3
    assert run("upload", str(tmp_path / "none")).returncode == 2


def test_a_large_upload_leaves_calls_alone(taking, rng) -> None:
    """Its bytes are read and turned beside calls, in steps."""
    names = [f"model.layers.0.self_attn.{n}_proj.weight" for n in "qkvo"]
    file = file_of({name: np.ones((2048, 2048), BF16) for name in names})
    taking.attend(make.canary())
    done = layers_of(taking).UploadLayer.future(messages(file, name="large", query_heads=16), timeout=120)
    slowest = 0.0
    for _ in itertools.takewhile(lambda _: not done.done(), itertools.count()):
        began = time.monotonic()
        taking.attend(make.canary())
        slowest = max(slowest, time.monotonic() - began)
    assert done.result().layers[0].head_size == 128
    assert slowest < 2
