"""The built-in layer does what the founding text says of its three heads, and seeds mean what the contract says."""

import make
import numpy as np
import pytest
from make import embeddings, full_map, top_keys, with_algorithm
from reference import assert_close, seeded_embeddings, seeded_matrices, split_mix
from wire import BF16, F16, F32, array, service_pb, tensor

WORDS = "The cat sat on the mat because it was tired".split()


@pytest.fixture
def demo(server) -> service_pb.GetDemoResponse:
    return server.stub.GetDemo(service_pb.GetDemoRequest(), timeout=10)


def demo_request(demo: service_pb.GetDemoResponse, algorithm: int) -> service_pb.AttendRequest:
    request = service_pb.AttendRequest(tokens=demo.tokens)
    request.self_attention.embeddings.CopyFrom(demo.embeddings)
    request.self_attention.layer = demo.layer
    request.options.algorithm = algorithm
    return request


@pytest.fixture
def maps(server, demo, algorithm) -> np.ndarray:
    """Weights by head, row word and key word."""
    request = demo_request(demo, algorithm)
    request.outputs.maps.append(full_map())
    answer = server.attend(request)
    assert list(answer.output.shape) == list(demo.embeddings.shape)
    return np.stack([array(m.weights) for m in answer.maps])


def top_word(row: np.ndarray) -> str:
    return WORDS[int(row.argmax())]


def test_the_sentence(demo) -> None:
    assert demo.layer == "demo"
    assert list(demo.tokens) == WORDS
    assert demo.embeddings.shape[0] == len(WORDS)
    assert np.isfinite(array(demo.embeddings)).all()
    assert len(demo.head_descriptions) == 3 and all(demo.head_descriptions)


def test_three_heads_each_row_adding_up_to_one(maps) -> None:
    assert maps.shape == (3, 10, 10)
    assert np.abs(maps.sum(axis=2) - 1).max() < 1e-5


def test_it_attends_most_to_because(maps) -> None:
    row = maps[0, WORDS.index("it")]
    assert top_word(row) == "because"
    assert f"{row.max():.2f}" == "0.80"


def test_head_0_looks_one_step_back(maps) -> None:
    assert [int(row.argmax()) for row in maps[0, 1:]] == list(range(9))


def test_head_1_links_verbs_to_subjects_and_articles_to_nouns(maps) -> None:
    links = {"sat": "cat", "The": "cat", "the": "mat", "was": "it"}
    assert {word: top_word(maps[1, WORDS.index(word)]) for word in links} == links


def test_head_2_resolves_it_to_the_cat(maps) -> None:
    row = maps[2, WORDS.index("it")]
    assert top_word(row) == "cat"
    assert row.max() > 0.5


def test_top_keys_tell_the_same(server, demo, maps, algorithm) -> None:
    request = demo_request(demo, algorithm)
    request.outputs.maps.append(top_keys(1, heads=[0], rows=[make.outputs_pb.RowRange(begin=7, end=8)]))
    (top,) = server.attend(request).maps
    assert [demo.tokens[key] for key in top.top_keys.keys] == ["because"]
    assert top.top_keys.weights[0] == pytest.approx(float(maps[0, 7].max()), abs=1e-6)


def test_the_embeddings_may_be_of_another_kind_than_the_layer(server, demo, maps, algorithm) -> None:
    request = demo_request(demo, algorithm)
    request.self_attention.embeddings.CopyFrom(tensor(array(demo.embeddings).astype(F16)))
    request.outputs.maps.append(full_map(heads=[0]))
    answer = server.attend(request)
    assert array(answer.output).dtype == F16
    assert np.abs(array(answer.maps[0].weights).astype(np.float64) - maps[0]).max() < 0.01


# Seeds.


def explicit_weights(width: int, seed: int, kind=F32) -> service_pb.LayerWeights:
    square = (width, width)
    matrices = seeded_matrices(seed, [square] * 4, kind)
    names = ("query", "key", "value", "output")
    return service_pb.LayerWeights(**{name: tensor(m) for name, m in zip(names, matrices, strict=True)})


@pytest.mark.parametrize("kind", [F32, F16, BF16], ids=lambda kind: kind.name)
def test_seeded_weights_are_explicit_ones_bit_by_bit(server, rng, algorithm, kind) -> None:
    sizes = make.Sizes(heads=4, tokens=70, size=8, kind=kind)
    request = make.everything(with_algorithm(embeddings(rng, sizes, seed=77), algorithm))
    by_seed = server.attend(request)
    request.self_attention.layer_weights.CopyFrom(explicit_weights(32, 77, kind))
    assert make.bits(server.attend(request)) == make.bits(by_seed)


def test_seeded_embeddings_are_explicit_ones_bit_by_bit(server, algorithm) -> None:
    request = make.everything(with_algorithm(make.seeded(tokens=90, width=24, heads=3, seed=5), algorithm))
    by_seed = server.attend(request)
    request.self_attention.embeddings.CopyFrom(tensor(seeded_embeddings(5, 90, 24)))
    assert make.bits(server.attend(request)) == make.bits(by_seed)


def test_another_seed_gives_other_numbers(server, algorithm) -> None:
    request = with_algorithm(make.seeded(tokens=9, width=8, heads=2, seed=5), algorithm)
    first = array(server.attend(request).output)
    request.self_attention.seeded_weights.seed = 0
    second = array(server.attend(request).output)
    assert np.abs(first - second).max() > 0.01


def test_seed_0_is_the_published_stream() -> None:
    """The reference's own generator against the numbers that SplitMix64's authors give for seed 0."""
    assert [hex(x) for x in split_mix(0, 3)] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4", "0x6c45d188009454f"]
    assert_close(seeded_embeddings(0, 1, 1), np.array([[(0xE220A8 / 2**23 - 1) * 3**0.5]]))
