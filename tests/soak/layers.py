"""Scenarios of layers and what is computed of them: files that come, change and go, broken ones, analyses given up."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import grpc
import numpy as np
from headlight.v1 import analysis_service_pb2 as analysis_pb
from headlight.v1 import analysis_service_pb2_grpc as analysis_grpc
from headlight.v1 import layer_service_pb2 as layer_pb
from headlight.v1 import layer_service_pb2_grpc as layer_grpc
from safetensors_file import file_of
from scene import Scene, resident
from server_process import Server
from wire import F32, tensor

WIDTH, HEADS, TOKENS = 128, 8, 256
CHUNK = 50_000
UPLOADED = {"OK", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}
DELETED = {"OK", "NOT_FOUND"}
ANALYZED = {"OK", "CANCELLED", "NOT_FOUND", "RESOURCE_EXHAUSTED"}


def layer_file(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    return file_of({n: 0.1 * rng.standard_normal((WIDTH, WIDTH)).astype(F32) for n in ("query", "key", "value", "output")})


def broken(file: bytes, chance: random.Random) -> bytes:
    """Cut off, or with some bytes changed, most of them in what describes the tensors."""
    if chance.random() < 0.3:
        return file[: chance.randrange(len(file))]
    spoiled = bytearray(file)
    for _ in range(chance.randint(1, 4)):
        spoiled[chance.randrange(400 if chance.random() < 0.8 else len(file))] = chance.randrange(256)
    return bytes(spoiled)


def parts(file: bytes, name: str) -> Iterator[layer_pb.UploadLayerRequest]:
    header = layer_pb.UploadLayerHeader(name=name, query_heads=HEADS, replace=True)
    yield layer_pb.UploadLayerRequest(header=header)
    for at in range(0, len(file), CHUNK):
        yield layer_pb.UploadLayerRequest(chunk=file[at : at + CHUNK])


def analyses(server: Server) -> list[tuple[Callable, object]]:
    stub = analysis_grpc.AnalysisServiceStub(server.channel)
    tokens = tensor(np.random.default_rng(1).standard_normal((TOKENS, WIDTH)).astype(F32))
    sequence = analysis_pb.HeadSequence(embeddings=tokens, token_ids=range(TOKENS))
    swap = analysis_pb.CircuitSwap(embeddings=tokens, aim_head=0, cargo_head=1)
    mean = analysis_pb.ABLATION_MODE_MEAN
    return [
        (stub.AnalyzeHeads, analysis_pb.AnalyzeHeadsRequest(layer="mine", sequences=[sequence] * 2)),
        (stub.AblateHeads, analysis_pb.AblateHeadsRequest(layer="mine", embeddings=tokens, heads=[0], mode=mean)),
        (stub.AnalyzeCircuits, analysis_pb.AnalyzeCircuitsRequest(layer="mine", later_layer="mine", swap=swap)),
        (stub.TraceStack, analysis_pb.TraceStackRequest(stack="induction", token_ids=range(32), maps=True)),
    ]


def layers(scene: Scene) -> None:
    """Whole and broken files replace a layer and delete it, while analyses of it begin and are given up."""
    ends: dict[str, Counter] = {"uploads": Counter(), "broken": Counter(), "deletions": Counter(), "analyses": Counter()}
    with scene.server("--threads=2", "--allow-layer-uploads", "--max-wait-seconds=100") as server:
        before, end = resident(server), time.monotonic() + scene.seconds
        stub = layer_grpc.LayerServiceStub(server.channel)
        files = [layer_file(seed) for seed in range(4)]
        stub.UploadLayer(parts(files[0], "mine"), timeout=60)

        def count(kind: str, call: grpc.Future) -> None:
            ends[kind][call.code().name] += 1

        def until_the_end(seed: int, act: Callable[[random.Random], None]) -> threading.Thread:
            def run() -> None:
                chance = random.Random(seed)
                while time.monotonic() < end:
                    act(chance)

            thread = threading.Thread(target=run)
            thread.start()
            return thread

        def change(chance: random.Random) -> None:
            count("uploads", stub.UploadLayer.future(parts(chance.choice(files), "mine"), timeout=60))
            if chance.random() < 0.2:
                count("deletions", stub.DeleteLayer.future(layer_pb.DeleteLayerRequest(name="mine"), timeout=60))

        def spoil(chance: random.Random) -> None:
            count("broken", stub.UploadLayer.future(parts(broken(files[0], chance), "broken"), timeout=60))

        def analyze(chance: random.Random) -> None:
            method, request = chance.choice(analyses(server))
            call = method.future(request, timeout=60)
            if chance.random() < 0.5:
                time.sleep(chance.random() * 0.05)
                call.cancel()
            count("analyses", call)

        for thread in [until_the_end(*act) for act in enumerate((change, spoil, analyze, analyze))]:
            thread.join()
        for name in ("mine", "broken"):
            count("deletions", stub.DeleteLayer.future(layer_pb.DeleteLayerRequest(name=name), timeout=60))
        for kind, allowed in {"uploads": UPLOADED, "broken": UPLOADED, "deletions": DELETED, "analyses": ANALYZED}.items():
            for code, number in ends[kind].items():
                scene.tell(f"{kind} that ended {code}", number)
            scene.promise(f"{kind} that ended otherwise", sum(n for c, n in ends[kind].items() if c not in allowed))
        scene.promise("layers afterwards", server.metrics().value("headlight_layers"), 3)
        scene.at_most("resident more than at rest, at the end", resident(server) - before, 64, "MiB")


SCENARIOS = {"layers": (layers, 30)}
