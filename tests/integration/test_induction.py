"""The trained two-layer stack "induction" on texts that it was not trained on: it bets on what followed the last word
where that stood before. The pair of heads that does it is found by what they look at and by K-composition ("A
Mathematical Framework for Transformer Circuits", Elhage et al. 2021), and without either head the bet is gone."""

import itertools
from collections.abc import Iterable

import numpy as np
import pytest
from headlight.v1 import analysis_service_pb2 as analysis_pb
from headlight.v1 import analysis_service_pb2_grpc as analysis_grpc
from wire import array

STACK = "induction"
REPEATS = 1000
POTTER = "Mr and Mrs Potter thanked the driver ; then Mrs"
# Each text and what followed its last word before. The words are the stack's own; the sentences are of this test.
PROMPTS = {
    POTTER: "Potter",
    "Professor Lestrade wrote to Holmes and then Professor": "Lestrade",
    "my sister Clara was in Dublin , and my": "sister",
    "when Sir Darcy met the farmer , Sir": "Darcy",
    "The red fox saw a cow . The": "red",
    "Inspector Moriarty asked Watson about London but Inspector": "Moriarty",
    "Aunt Emma and her brother went to Rome with Aunt": "Emma",
    "Uncle Oliver had a black dog . Then Uncle": "Oliver",
}
Head = tuple[int, int]
PAIRS = list(itertools.product(range(2), range(4)))


class Tracer:
    """Asks one server."""

    def __init__(self, stub: analysis_grpc.AnalysisServiceStub):
        self.stub = stub

    def words(self, text: str, off: Iterable[Head] = (), **asked) -> analysis_pb.TraceStackResponse:
        return self._trace(tokens=text.split(), off=off, **asked)

    def ids(self, ids: Iterable[int], off: Iterable[Head] = (), **asked) -> analysis_pb.TraceStackResponse:
        return self._trace(token_ids=[int(i) for i in ids], off=off, **asked)

    def _trace(self, off: Iterable[Head], **asked) -> analysis_pb.TraceStackResponse:
        heads = [analysis_pb.StackHead(layer=layer, head=head) for layer, head in off]
        return self.stub.TraceStack(analysis_pb.TraceStackRequest(stack=STACK, off=heads, **asked), timeout=60)


@pytest.fixture(scope="module")
def tracer(server) -> Tracer:
    return Tracer(analysis_grpc.AnalysisServiceStub(server.channel))


def random_repeats(tracer: Tracer, count: int, seed: int) -> list[tuple[np.ndarray, int]]:
    """Random words, none twice but the last, which is one of those before again: with what followed it there."""
    words = tracer.words(POTTER, logits=True).logits.shape[1]
    rng = np.random.default_rng(seed)
    repeats = []
    for _ in range(count):
        ids = rng.permutation(words)[: rng.integers(10, 33)]
        place = int(rng.integers(0, len(ids) - 2))
        ids[-1] = ids[place]
        repeats.append((ids, int(ids[place + 1])))
    return repeats


@pytest.fixture(scope="module")
def repeats(tracer) -> list[tuple[np.ndarray, int]]:
    return random_repeats(tracer, REPEATS, seed=20_26)


def rate(tracer: Tracer, repeats: list[tuple[np.ndarray, int]], off: Iterable[Head] = ()) -> float:
    """How often the best bet is what followed."""
    return float(np.mean([tracer.ids(ids, off, bets=1).bets[0].id == follower for ids, follower in repeats]))


def scores(tracer: Tracer, repeats: list[tuple[np.ndarray, int]]) -> tuple[np.ndarray, np.ndarray]:
    """By head: layer 0's mean weight on the word before, layer 1's on what followed the last word before."""
    previous, induction = [], []
    for ids, _ in repeats:
        layers = tracer.ids(ids, maps=True).layers
        maps = [np.stack([array(m.weights) for m in layer.maps]) for layer in layers]
        previous.append(np.diagonal(maps[0], offset=-1, axis1=1, axis2=2).mean(axis=1))
        place = int(np.flatnonzero(ids[:-1] == ids[-1])[0])
        induction.append(maps[1][:, -1, place + 1])
    return np.mean(previous, axis=0), np.mean(induction, axis=0)


@pytest.fixture(scope="module")
def pair(tracer, repeats) -> tuple[int, int]:
    """The head of layer 0 that looks one word back and the head of layer 1 that looks at what followed."""
    previous, induction = scores(tracer, repeats[:100])
    print(f"\nprevious-token scores of layer 0: {previous.round(3)}, induction scores of layer 1: {induction.round(3)}")
    assert previous.max() > 0.5 and np.sort(previous)[-2] < 0.5 * previous.max()
    assert induction.max() > 0.5 and np.sort(induction)[-2] < 0.5 * induction.max()
    return int(previous.argmax()), int(induction.argmax())


@pytest.mark.parametrize("text", PROMPTS)
def test_it_bets_on_what_followed(tracer, text) -> None:
    answer = tracer.words(text)
    assert list(answer.tokens) == text.split()
    assert answer.bets[0].token == PROMPTS[text]
    assert answer.bets[0].probability > 5 * answer.bets[1].probability


def test_the_pair_by_score_is_the_pair_by_composition(server, tracer, pair) -> None:
    stub = analysis_grpc.AnalysisServiceStub(server.channel)
    request = analysis_pb.AnalyzeCircuitsRequest(layer=f"{STACK}/0", later_layer=f"{STACK}/1")
    compositions = stub.AnalyzeCircuits(request, timeout=60).compositions
    best = max(compositions, key=lambda c: c.key)
    others = [c.key for c in compositions if c is not best]
    print(f"\nK-composition of {pair}: {best.key:.3f}, of the others at most {max(others):.3f}")
    assert (best.head, best.later_head) == pair
    assert best.key > 1.5 * max(others)


def test_without_either_head_the_bet_is_gone_and_without_others_it_is_not(tracer, pair) -> None:
    """Gone: of a bet of more than a half less than a tenth is left. In some texts that is still the best of 500 words;
    how often it is, the success rate without the head says."""
    ours = {(0, pair[0]), (1, pair[1])}
    for text, follower in PROMPTS.items():
        sure = tracer.words(text).bets[0].probability
        for head in PAIRS:
            answer = tracer.words(text, [head], target=follower)
            if head in ours:
                assert sure > 0.5 and answer.target.probability < 0.1, (text, head)
            else:
                assert answer.bets[0].token == follower, (text, head)
                assert answer.target.probability > sure / 2, (text, head)
            if head in ours and text == POTTER:
                assert answer.bets[0].token != follower, head


def test_the_later_head_of_the_pair_adds_most_to_the_bet(tracer, pair) -> None:
    answer = tracer.words(POTTER)
    best = max(answer.attributions, key=lambda a: a.centered_logit)
    assert (best.layer, best.head) == (1, pair[1])
    parts = sum(a.logit for a in answer.attributions) + answer.embedding_logit + answer.bias_logit
    assert parts == pytest.approx(answer.target.logit, rel=1e-5, abs=1e-4)
    assert best.logit > 0.5 * answer.target.logit


def test_the_success_rate_over_random_repeats(tracer, repeats, pair, capsys) -> None:
    found = rate(tracer, repeats)
    without = [rate(tracer, repeats, [(layer, pair[layer])]) for layer in range(2)]
    with capsys.disabled():
        print(
            f"\n{STACK}: right in {found:.1%} of {REPEATS} random repeats; without head {pair[0]} of layer 0 in "
            f"{without[0]:.1%}, without head {pair[1]} of layer 1 in {without[1]:.1%}"
        )
    assert found >= 0.9
    assert max(without) < 0.2
