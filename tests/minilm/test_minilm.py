"""A real model: maps and outputs of its 72 heads are its own, and what docs/heads.md says of its heads is so."""

import numpy as np
import pytest
from encoder import HEADS, LAYERS, SENTENCES, Encoder, Reading
from headlight.v1 import analysis_service_pb2 as analysis_pb
from headlight.v1 import layer_service_pb2 as layer_pb
from wire import array, outputs_pb, service_pb, tensor

BOUND = 1e-5


@pytest.fixture(scope="session")
def readings(encoder: Encoder) -> list[Reading]:
    return [encoder.read(sentence) for sentence in SENTENCES]


def attend(server, states: np.ndarray, layer: int, **outputs) -> service_pb.AttendResponse:
    request = service_pb.AttendRequest()
    request.self_attention.embeddings.CopyFrom(tensor(states))
    request.self_attention.layer = f"minilm/{layer}"
    request.outputs.CopyFrom(outputs_pb.OutputSelection(**outputs))
    return server.attend(request)


def test_the_layers_are_recognised(server) -> None:
    layers = server.layers.ListLayers(layer_pb.ListLayersRequest(), timeout=10).layers
    mine = {layer.name: layer for layer in layers if layer.name.startswith("minilm/")}
    assert sorted(mine) == [f"minilm/{n}" for n in range(LAYERS)]
    for n in range(LAYERS):
        layer = mine[f"minilm/{n}"]
        assert (layer.scheme, layer.width, layer.query_heads, layer.head_size) == ("bert", 384, HEADS, 32)
        assert layer.tensors["query"] == f"encoder.layer.{n}.attention.self.query.weight"


@pytest.mark.parametrize("layer", range(LAYERS))
def test_maps_and_outputs_of_all_heads_are_the_models_own(server, readings, layer) -> None:
    full = outputs_pb.WeightMaps(full=outputs_pb.FullMap())
    for reading in readings:
        answer = attend(server, reading.states[layer], layer, maps=[full])
        assert len(answer.maps) == HEADS
        for map_ in answer.maps:
            difference = np.abs(array(map_.weights) - reading.maps[layer][map_.head]).max()
            assert difference <= BOUND, f"head {map_.head}: {difference}"
        assert np.abs(array(answer.output) - reading.attended[layer]).max() <= BOUND


def test_the_embedding_is_the_models_own(server, encoder, readings) -> None:
    for reading in readings:
        own = reading.states[-1].mean(0)
        ours = encoder.embed(server.stub, reading.states[0])
        assert np.abs(ours - own / np.linalg.norm(own)).max() <= BOUND


def test_habits_are_those_of_the_models_own_maps(server, readings) -> None:
    for layer in range(LAYERS):
        request = analysis_pb.AnalyzeHeadsRequest(layer=f"minilm/{layer}")
        for reading in readings:
            request.sequences.add(embeddings=tensor(reading.states[layer]), token_ids=reading.ids)
        heads = server.analysis.AnalyzeHeads(request, timeout=60).heads
        assert [head.head for head in heads] == list(range(HEADS))
        for head in heads:
            maps = [reading.maps[layer][head.head] for reading in readings]
            last = np.concatenate([map_[:, -1] for map_ in maps]).mean()
            previous = np.concatenate([np.diagonal(map_, -1) for map_ in maps]).mean()
            assert head.shares.last == pytest.approx(last, abs=BOUND)
            assert head.shares.previous == pytest.approx(previous, abs=BOUND)
