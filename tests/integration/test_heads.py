"""AnalyzeHeads: every number computed again in numpy from the full maps that Attend gives, and, where the package is
installed, with TransformerLens' own functions."""

from dataclasses import dataclass, field

import make
import numpy as np
import pytest
from headlight.v1 import analysis_service_pb2 as analysis_pb
from headlight.v1 import analysis_service_pb2_grpc as analysis_grpc
from grpc import StatusCode
from make import HALVES, TOP_LEFT, Sizes, full_map, normal
from rpc_errors import refusal_of
from wire import F32, array, options_pb, service_pb, tensor

NEAR = 2e-5
LOOKS = ("previous", "same", "first", "last", "duplicate", "induction")


@dataclass
class Text:
    """One sequence, and what is known of it."""

    embeddings: np.ndarray
    ids: list[int] = field(default_factory=list)
    pattern: np.ndarray | None = None

    @property
    def tokens(self) -> int:
        return len(self.embeddings)


@dataclass
class Case:
    """Texts that the heads of one layer read."""

    texts: list[Text]
    layer: service_pb.LayerWeights
    options: options_pb.AttentionOptions

    def request(self) -> analysis_pb.AnalyzeHeadsRequest:
        request = analysis_pb.AnalyzeHeadsRequest(layer_weights=self.layer, options=self.options)
        for text in self.texts:
            sequence = request.sequences.add(embeddings=tensor(text.embeddings), token_ids=text.ids)
            if text.pattern is not None:
                sequence.pattern.CopyFrom(tensor(text.pattern))
        return request

    def maps(self, server, text: Text) -> np.ndarray:
        """[H, T, T], as Attend gives them."""
        request = service_pb.AttendRequest(options=self.options)
        request.self_attention.embeddings.CopyFrom(tensor(text.embeddings))
        request.self_attention.layer_weights.CopyFrom(self.layer)
        request.outputs.maps.append(full_map())
        return np.stack([array(m.weights) for m in server.attend(request).maps]).astype(np.float64)

    def value_lengths(self, text: Text) -> np.ndarray:
        """[H, T]: ||(x W_v + b_v) W_o|| of each head's part (Kobayashi et al. 2020)."""
        heads, groups = self.options.query_heads, self.options.key_value_heads
        values = text.embeddings.astype(np.float64) @ array(self.layer.value).astype(np.float64)
        if self.layer.HasField("value_bias"):
            values += array(self.layer.value_bias)
        values = np.repeat(values.reshape(text.tokens, groups, -1).swapaxes(0, 1), heads // groups, axis=0)
        if self.layer.HasField("output"):
            output = array(self.layer.output).astype(np.float64)
            values = values @ output.reshape(heads, -1, output.shape[1])
        return np.linalg.norm(values, axis=-1)


def make_text(rng, tokens: int, width: int, words: int = 6, patterned: bool = False) -> Text:
    ids = (rng.integers(0, words, tokens) * 10**12 - 5).tolist()
    pattern = rng.random((tokens, tokens)) < 0.3 if patterned else None
    return Text(normal(rng, (tokens, width)), ids, pattern)


def make_case(rng, *lengths: int, heads: int = 4, key_heads: int = 2, patterned: bool = False, **layer) -> Case:
    sizes = Sizes(heads=heads, key_heads=key_heads, size=8, value_size=6, width=24)
    request = service_pb.AttendRequest()
    make.set_layer(request, rng, sizes, **layer)
    texts = [make_text(rng, tokens, sizes.width, patterned=patterned) for tokens in lengths]
    request.options.scale = 1.5
    return Case(texts, request.self_attention.layer_weights, request.options)


def looked_at(text: Text, keys: int) -> dict[str, np.ndarray]:
    """[T, T] of truths by name; the first two of TransformerLens' patterns are among them, and induction likewise."""
    place = np.arange(text.tokens)
    same = np.tril(np.array(text.ids)[:, None] == np.array(text.ids), -1) if text.ids else np.zeros((text.tokens,) * 2)
    after = np.zeros_like(same)
    after[:, 1:] = same[:, :-1]
    looks = {
        "previous": place[:, None] - 1 == place,
        "same": place[:, None] == place,
        "first": np.broadcast_to(place == 0, (text.tokens, text.tokens)),
        "last": np.broadcast_to(place == keys - 1, (text.tokens, text.tokens)),
        "duplicate": same,
        "induction": after,
    }
    return {name: np.asarray(look, dtype=bool) & (place < keys) for name, look in looks.items()}


def mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else 0.0


class Rows:
    """What rows of one head add up to, over texts."""

    def __init__(self):
        self.numbers = {name: [] for name in ("entropy", "largest", "distance")}
        self.shares = {name: [] for name in LOOKS}
        self.by_value = {name: [] for name in LOOKS}
        self.scores = {name: [] for name in ("previous", "duplicate", "induction", "pattern")}

    def add(self, text: Text, weights: np.ndarray, lengths: np.ndarray, keys: int) -> None:
        seeing = weights.any(axis=1)
        place = np.arange(text.tokens)
        logs = np.log(np.where(weights > 0, weights, 1))
        self.numbers["entropy"].extend(-(weights * logs).sum(axis=1)[seeing])
        self.numbers["largest"].extend(weights.max(axis=1)[seeing])
        self.numbers["distance"].extend((weights * abs(place[:, None] - place)).sum(axis=1)[seeing])
        valued = weights * lengths
        valued = valued / np.where(seeing, valued.sum(axis=1), 1)[:, None]
        looks = looked_at(text, keys)
        for name, look in looks.items():
            there = look.any(axis=1) & seeing
            self.shares[name].extend((weights * look).sum(axis=1)[there])
            self.by_value[name].extend((valued * look).sum(axis=1)[there])
        if text.pattern is not None:
            looks["pattern"] = text.pattern
        compared = set() if text.ids else {"duplicate", "induction"}
        for name in (self.scores.keys() & looks.keys()) - compared:
            self.scores[name].append((weights * looks[name]).sum() / weights.sum())


def divergence(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Jensen-Shannon, of each row."""
    middle = (a + b) / 2

    def against(p: np.ndarray) -> np.ndarray:
        return (p * np.log(np.where(p > 0, p, 1) / np.where(p > 0, middle, 1))).sum(axis=1)

    return (against(a) + against(b)) / 2


def check(server, case: Case) -> analysis_pb.AnalyzeHeadsResponse:
    """Asks, and holds every number against the formulas."""
    answer = analysis_grpc.AnalysisServiceStub(server.channel).AnalyzeHeads(case.request(), timeout=120)
    heads = case.options.query_heads
    rows = [Rows() for _ in range(heads)]
    apart = {(a, b): [] for a in range(heads) for b in range(a + 1, heads)}
    for text in case.texts:
        maps, lengths = case.maps(server, text), case.value_lengths(text)
        keys = case.options.mask.key_lengths[0] if case.options.mask.key_lengths else text.tokens
        for h in range(heads):
            rows[h].add(text, maps[h], lengths[h], keys)
        for (a, b), values in apart.items():
            values.extend(divergence(maps[a], maps[b])[maps[a].any(axis=1) & maps[b].any(axis=1)])
    assert [report.head for report in answer.heads] == list(range(heads))
    for report, want in zip(answer.heads, rows, strict=True):
        got = {"entropy": report.mean_entropy, "largest": report.mean_largest_weight, "distance": report.mean_distance}
        for name, values in want.numbers.items():
            assert got[name] == pytest.approx(np.mean(values), rel=NEAR, abs=NEAR), name
        for name in LOOKS:
            assert getattr(report.shares, name) == pytest.approx(mean(np.array(want.shares[name])), abs=NEAR), name
            by_value = mean(np.array(want.by_value[name]))
            assert getattr(report.value_weighted, name) == pytest.approx(by_value, abs=NEAR), name
        assert report.previous_token_score == pytest.approx(np.mean(want.scores["previous"]), abs=NEAR)
        assert report.duplicate_token_score == pytest.approx(np.mean(want.scores["duplicate"]), abs=NEAR)
        assert report.induction_score == pytest.approx(np.mean(want.scores["induction"]), abs=NEAR)
        assert report.HasField("pattern_score") == bool(want.scores["pattern"])
        if want.scores["pattern"]:
            assert report.pattern_score == pytest.approx(np.mean(want.scores["pattern"]), abs=NEAR)
    got_apart = {(d.head, d.other): d.jensen_shannon for d in answer.distances}
    assert list(got_apart) == list(apart)
    for pair, values in apart.items():
        assert got_apart[pair] == pytest.approx(np.mean(values), abs=NEAR), pair
    assert answer.rows == len(rows[0].numbers["entropy"])
    return answer


def test_full_attention(server, rng) -> None:
    check(server, make_case(rng, 40, patterned=True))


def test_causal_texts_of_several_lengths(server, rng) -> None:
    case = make_case(rng, 50, 1, 17, 200, key_heads=4)
    case.options.mask.causal.alignment = TOP_LEFT
    case.texts[1].ids = []
    case.texts[2].pattern = np.eye(17, dtype=bool)
    check(server, case)


@pytest.mark.parametrize("output_width", [0, 300])
def test_values_with_and_without_an_output_matrix(server, rng, output_width) -> None:
    check(server, make_case(rng, 70, key_heads=1, output_width=output_width, biases=output_width > 0))


def test_key_lengths_and_sinks(server, rng) -> None:
    case = make_case(rng, 60, patterned=True)
    case.options.mask.key_lengths.append(35)
    case.options.sinks.extend([0.5, -1, 2, 0])
    check(server, case)


def test_windows(server, rng) -> None:
    case = make_case(rng, 90)
    case.options.mask.window.left, case.options.mask.window.right = 6, 1
    case.options.mask.window.alignment = TOP_LEFT
    check(server, case)


@pytest.mark.parametrize("scheme", ["rotary", "alibi"])
def test_positions(server, rng, scheme) -> None:
    case = make_case(rng, 80, 33)
    case.options.mask.causal.alignment = TOP_LEFT
    getattr(case.options.position, scheme).SetInParent()
    if scheme == "rotary":
        case.options.position.rotary.layout = HALVES
    check(server, case)


def test_the_same_heads_are_look_alikes(server, rng) -> None:
    case = make_case(rng, 40, heads=3, key_heads=3)
    for name in ("query", "key", "query_bias", "key_bias"):
        matrix = array(getattr(case.layer, name)).copy()
        matrix[..., 16:24] = matrix[..., 0:8]
        getattr(case.layer, name).CopyFrom(tensor(matrix))
    answer = check(server, case)
    assert [list(cluster.heads) for cluster in answer.clusters] == [[0, 2]]
    assert {(d.head, d.other): d.jensen_shannon for d in answer.distances}[0, 2] < 1e-6


def test_a_head_that_looks_one_step_back_is_told_so(server, rng) -> None:
    tokens = 12
    position = np.eye(tokens, dtype=F32)
    back = np.roll(position, -1, axis=0)  # a query of token i is the key of token i - 1
    layer = service_pb.LayerWeights()
    for name, matrix in {"query": back.T * 9, "key": position, "value": position}.items():
        getattr(layer, name).CopyFrom(tensor(np.ascontiguousarray(matrix)))
    options = options_pb.AttentionOptions(query_heads=1, key_value_heads=1)
    options.mask.causal.alignment = TOP_LEFT
    options.scale = 1
    (report,) = check(server, Case([Text(position, list(range(tokens)))], layer, options)).heads
    assert report.shares.previous > 0.9
    assert report.habit == analysis_pb.HABIT_PREVIOUS_TOKEN
    assert report.description == f"looks one step back, {report.habit_score:.2f}"


def test_every_violation_is_told(server, rng) -> None:
    case = make_case(rng, 10, 12)
    case.texts[0].ids.append(3)
    case.texts[1].pattern = np.ones((12, 11), dtype=bool)
    request = case.request()
    request.options.head_gains.extend([1, 1, 1, 1])
    request.cluster_distance = -1
    stub = analysis_grpc.AnalysisServiceStub(server.channel)
    refusal = refusal_of(lambda: stub.AnalyzeHeads(request), StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert set(refusal.violations) == {
        "options.head_gains",
        "cluster_distance",
        "sequences[0].token_ids",
        "sequences[1].pattern.shape",
    }


def test_transformer_lens_says_the_same(server, rng) -> None:
    """The detection patterns and scores of the real package."""
    reason = "transformer_lens is not installed: pip install transformer_lens to compare with the package itself"
    detector = pytest.importorskip("transformer_lens.head_detector", reason=reason)
    torch = pytest.importorskip("torch", reason=reason)
    case = make_case(rng, 60, 25)
    case.options.mask.causal.alignment = TOP_LEFT
    answer = check(server, case)
    for h, report in enumerate(answer.heads):
        scores = {"previous_token": [], "duplicate_token": [], "induction": []}
        for text in case.texts:
            weights = torch.tensor(case.maps(server, text)[h])
            for name, values in scores.items():
                pattern_of = getattr(detector, f"get_{name}_head_detection_pattern")
                values.append(
                    detector.compute_head_attention_similarity_score(
                        weights,
                        detection_pattern=pattern_of(torch.tensor([text.ids])),
                        exclude_bos=False,
                        exclude_current_token=False,
                        error_measure="mul",
                    )
                )
        for name, values in scores.items():
            assert getattr(report, f"{name}_score") == pytest.approx(np.mean(values), abs=NEAR), name
