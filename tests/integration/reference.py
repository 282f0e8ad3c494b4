"""Attention in numpy float64, for judging answers: reads the request, shares nothing with the server.

Letters: B batch, H query heads, K key/value heads, T query tokens, S key tokens, D head size, V value head size.
"""

from dataclasses import dataclass

import numpy as np
from wire import F32, array, options_pb, wide

GOLDEN = 0x9E3779B97F4A7C15


@dataclass
class Expected:
    """What an answer should hold."""

    output: np.ndarray  # in the request's form
    log_sum_exp: np.ndarray  # [B, H, T]
    head_outputs: np.ndarray  # [B, H, T, V]
    weights: np.ndarray  # [B, H, T, S]
    kind: np.dtype  # of the numbers that came in
    scale: float
    flops: int


@dataclass
class Layer:
    """Matrices [in, out] and biases [out] or 0."""

    query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    output: np.ndarray | None
    query_bias: np.ndarray | float = 0.0
    key_bias: np.ndarray | float = 0.0
    value_bias: np.ndarray | float = 0.0
    output_bias: np.ndarray | float = 0.0


def split_mix(seed: int, count: int) -> np.ndarray:
    """The first `count` numbers of SplitMix64(seed)."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.uint64(GOLDEN) * np.arange(1, count + 1, dtype=np.uint64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def seeded(seed: int, count: int) -> np.ndarray:
    """u of the contract, float32 in [-1, 1)."""
    return (split_mix(seed, count) >> np.uint64(40)).astype(F32) * F32.type(2**-23) - F32.type(1)


def seeded_embeddings(seed: int, tokens: int, width: int) -> np.ndarray:
    return (seeded(seed, tokens * width) * np.sqrt(F32.type(3))).reshape(tokens, width)


def seeded_matrices(seed: int, shapes: list[tuple[int, int]], kind: np.dtype) -> list[np.ndarray]:
    """Matrices one after the other from one stream, rounded to the kind."""
    stream = seeded(seed, sum(rows * columns for rows, columns in shapes))
    matrices, begin = [], 0
    for rows, columns in shapes:
        factor = np.sqrt(F32.type(6) / F32.type(rows + columns))
        part = stream[begin : begin + rows * columns] * factor
        matrices.append(part.reshape(rows, columns).astype(kind))
        begin += rows * columns
    return matrices


def split_heads(rows: np.ndarray, heads: int) -> np.ndarray:
    """[B, T, heads * size] to [B, heads, T, size]."""
    batch, tokens, width = rows.shape
    return rows.reshape(batch, tokens, heads, width // heads).swapaxes(1, 2)


def merge_heads(heads: np.ndarray) -> np.ndarray:
    """[B, H, T, V] to [B, T, H * V]."""
    batch, count, tokens, size = heads.shape
    return heads.swapaxes(1, 2).reshape(batch, tokens, count * size)


def explicit_layer(message) -> Layer:
    names = ["query", "key", "value", "query_bias", "key_bias", "value_bias", "output_bias"]
    given = {name: wide(getattr(message, name)) for name in names if message.HasField(name)}
    return Layer(output=wide(message.output) if message.HasField("output") else None, **given)


def seeded_layer(seed: int, widths: tuple[int, int], options, kind: np.dtype) -> Layer:
    width, context_width = widths
    heads = options.query_heads or width // options.head_size
    size = options.head_size or width // options.query_heads
    key_heads = options.key_value_heads or heads
    shapes = [(width, heads * size), (context_width, key_heads * size), (context_width, key_heads * size)]
    matrices = seeded_matrices(seed, [*shapes, (heads * size, width)], kind)
    return Layer(*(matrix.astype(np.float64) for matrix in matrices))


def sinusoids(positions: np.ndarray, width: int, scheme) -> np.ndarray:
    base = scheme.base if scheme.HasField("base") else 10000.0
    angles = positions[:, None] * base ** (-2.0 * np.arange(width // 2) / width)
    table = np.empty((len(positions), width))
    if scheme.layout == options_pb.CHANNEL_LAYOUT_INTERLEAVED:
        table[:, 0::2], table[:, 1::2] = np.sin(angles), np.cos(angles)
    else:
        table[:, : width // 2], table[:, width // 2 :] = np.sin(angles), np.cos(angles)
    return table


def add_positions(embeddings: np.ndarray, position) -> np.ndarray:
    """Sinusoidal and learned positions; embeddings [B, T, E]."""
    positions = position.query_offset + np.arange(embeddings.shape[1])
    scheme = position.WhichOneof("scheme")
    if scheme == "sinusoidal":
        return embeddings + sinusoids(positions, embeddings.shape[2], position.sinusoidal)
    if scheme == "learned":
        return embeddings + wide(position.learned.table)[positions]
    return embeddings


def turn(x: np.ndarray, positions: np.ndarray, scheme) -> np.ndarray:
    """Rotary positions; x [B, heads, T, D]."""
    size = scheme.rotary_size or x.shape[-1]
    base = scheme.base if scheme.HasField("base") else 10000.0
    angles = positions[:, None] * base ** (-2.0 * np.arange(size // 2) / size)
    if scheme.layout == options_pb.CHANNEL_LAYOUT_HALVES:
        first, second = slice(0, size // 2), slice(size // 2, size)
    else:
        first, second = slice(0, size, 2), slice(1, size, 2)
    turned = x.copy()
    turned[..., first] = x[..., first] * np.cos(angles) - x[..., second] * np.sin(angles)
    turned[..., second] = x[..., second] * np.cos(angles) + x[..., first] * np.sin(angles)
    return turned


def alibi_slopes(scheme, heads: int) -> np.ndarray:
    if scheme.slopes:
        return np.array(scheme.slopes, dtype=np.float64)
    power = 2 ** int(np.log2(heads))
    slopes = [2.0 ** (-8.0 * (h + 1) / power) for h in range(power)]
    between = [2.0 ** (-8.0 * (h + 1) / (2 * power)) for h in range(0, 2 * power, 2)]
    return np.array(slopes + between[: heads - power])


def visible_by_rules(mask, shape: tuple[int, int, int, int]) -> np.ndarray:
    """What causal mask, key lengths and the mask's last axis let be seen: [B, 1, T, S]."""
    batch, _, queries, keys = shape
    lengths = np.array(mask.key_lengths or [keys] * batch)
    key = np.arange(keys)
    visible = np.broadcast_to(key[None, None, None, :] < lengths[:, None, None, None], (batch, 1, queries, keys))
    if mask.HasField("causal"):
        offsets = {
            options_pb.CAUSAL_ALIGNMENT_TOP_LEFT: 0 * lengths,
            options_pb.CAUSAL_ALIGNMENT_BOTTOM_RIGHT: lengths - queries,
            options_pb.CAUSAL_ALIGNMENT_EXPLICIT: 0 * lengths + mask.causal.offset,
        }[mask.causal.alignment]
        last = np.arange(queries)[None, :] + offsets[:, None]
        visible = visible & (key <= last[:, None, :, None])
    if mask.HasField("tensor"):
        visible = visible & (key < mask.tensor.shape[-1])
    return visible


def mask_bias(mask, shape: tuple[int, int, int, int]) -> np.ndarray:
    """The mask tensor as a bias [B, H, T, S], keys beyond its last axis forbidden."""
    given = wide(mask.tensor)
    if given.dtype == np.bool_:
        given = np.where(given, 0.0, -np.inf)
    missing = shape[-1] - given.shape[-1]
    padding = [(0, 0)] * (given.ndim - 1) + [(0, missing)]
    return np.broadcast_to(np.pad(given, padding, constant_values=-np.inf), shape)


def scores_of(query: np.ndarray, key: np.ndarray, options, key_offset: int) -> np.ndarray:
    """Scaled scores with ALiBi, before masks: [B, H, T, S]."""
    scale = options.scale if options.HasField("scale") else query.shape[-1] ** -0.5
    with np.errstate(invalid="ignore"):  # keys beyond the key lengths may hold anything
        scores = scale * (query @ key.swapaxes(-1, -2))
    if options.position.WhichOneof("scheme") == "alibi":
        rows = options.position.query_offset + np.arange(query.shape[2])
        columns = key_offset + np.arange(key.shape[2])
        distance = np.abs(rows[:, None] - columns[None, :])
        slopes = alibi_slopes(options.position.alibi, query.shape[1])
        scores = scores - slopes[:, None, None] * distance
    return scores


def softmax(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights and log-sum-exps; a row of -inf gives zeros and -inf."""
    largest = scores.max(axis=-1, keepdims=True)
    empty = np.isneginf(largest)
    exponentials = np.exp(scores - np.where(empty, 0.0, largest))
    sums = exponentials.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore"):
        log_sum_exp = np.where(empty, -np.inf, largest + np.log(sums))
    return exponentials / np.where(empty, 1.0, sums), log_sum_exp[..., 0]


def blend(weights: np.ndarray, value: np.ndarray) -> np.ndarray:
    """P V, where what has no weight is not even multiplied: it may be no number."""
    seen = np.where(np.isfinite(value), value, 0.0)
    return weights @ seen


class Attention:
    """One request's computation, step by step."""

    def __init__(self, request):
        self.request = request
        self.options = request.options
        self.kind = np.dtype(F32)
        self.layer = None
        self.projection_flops = 0

    def run(self) -> Expected:
        query, key, value = self.heads()
        own_keys = self.layer is not None and not self.request.self_attention.HasField("context")
        position = self.options.position
        key_offset = position.query_offset if own_keys else position.key_offset
        if position.WhichOneof("scheme") == "rotary":
            query = turn(query, position.query_offset + np.arange(query.shape[2]), position.rotary)
            key = turn(key, key_offset + np.arange(key.shape[2]), position.rotary)
        groups = query.shape[1] // key.shape[1]
        key, value = np.repeat(key, groups, axis=1), np.repeat(value, groups, axis=1)
        scores = scores_of(query, key, self.options, key_offset)
        rules = visible_by_rules(self.options.mask, scores.shape)
        weights, log_sum_exp = softmax(self.masked(scores, rules))
        heads = blend(weights, value)
        pairs = int(rules.sum()) * query.shape[1]
        flops = 2 * pairs * (query.shape[3] + value.shape[3]) + self.projection_flops
        scale = self.options.scale if self.options.HasField("scale") else query.shape[-1] ** -0.5
        return Expected(self.output(heads), log_sum_exp, heads, weights, self.kind, scale, flops)

    def masked(self, scores: np.ndarray, rules: np.ndarray) -> np.ndarray:
        scores = np.where(rules, scores, -np.inf)
        if not self.options.mask.HasField("tensor"):
            return scores
        bias = mask_bias(self.options.mask, scores.shape)
        return np.where(np.isneginf(bias), -np.inf, scores + np.where(np.isneginf(bias), 0.0, bias))

    def heads(self) -> list[np.ndarray]:
        if self.request.WhichOneof("input") == "query_key_value":
            return self.given_heads()
        return self.projected_heads()

    def given_heads(self) -> list[np.ndarray]:
        message = self.request.query_key_value
        self.kind = array(message.query).dtype
        query, key, value = wide(message.query), wide(message.key), wide(message.value)
        if query.ndim == 4:
            return [query, key, value]
        count = self.options.query_heads or query.shape[-1] // self.options.head_size
        key_count = self.options.key_value_heads or count
        rows = [x if x.ndim == 3 else x[None] for x in (query, key, value)]
        return [split_heads(x, n) for x, n in zip(rows, (count, key_count, key_count), strict=True)]

    def embeddings(self) -> np.ndarray:
        message = self.request.self_attention
        if message.WhichOneof("source") == "embeddings":
            self.kind = array(message.embeddings).dtype
            given = wide(message.embeddings)
        else:
            source = message.seeded_embeddings
            given = seeded_embeddings(source.seed, source.tokens, source.width).astype(np.float64)
        return given if given.ndim == 3 else given[None]

    def projected_heads(self) -> list[np.ndarray]:
        message = self.request.self_attention
        x = add_positions(self.embeddings(), self.options.position)
        context = x
        if message.HasField("context"):
            context = wide(message.context)
            context = context if context.ndim == 3 else context[None]
        if message.WhichOneof("weights") == "layer_weights":
            self.layer = explicit_layer(message.layer_weights)
        else:
            widths = (x.shape[2], context.shape[2])
            self.layer = seeded_layer(message.seeded_weights.seed, widths, self.options, self.kind)
        layer = self.layer
        self.count_projections(x, context)
        rows = x @ layer.query + layer.query_bias
        heads = self.options.query_heads or rows.shape[2] // self.options.head_size
        key_heads = self.options.key_value_heads or heads
        keys, values = context @ layer.key + layer.key_bias, context @ layer.value + layer.value_bias
        return [split_heads(rows, heads), split_heads(keys, key_heads), split_heads(values, key_heads)]

    def count_projections(self, x: np.ndarray, context: np.ndarray) -> None:
        rows, context_rows = x.shape[0] * x.shape[1], context.shape[0] * context.shape[1]
        layer = self.layer
        flops = rows * layer.query.size + context_rows * (layer.key.size + layer.value.size)
        flops += rows * layer.output.size if layer.output is not None else 0
        self.projection_flops = 2 * flops

    def output(self, heads: np.ndarray) -> np.ndarray:
        """In the form of the input."""
        if self.layer is None:
            rank = len(self.request.query_key_value.query.shape)
            result = heads if rank == 4 else merge_heads(heads)
            return result[0] if rank == 2 else result
        result = merge_heads(heads)
        if self.layer.output is not None:
            result = result @ self.layer.output + self.layer.output_bias
        message = self.request.self_attention
        flat = message.WhichOneof("source") == "seeded_embeddings" or len(message.embeddings.shape) == 2
        return result[0] if flat else result


def attend(request) -> Expected:
    """What the server should answer to an AttendRequest (not for named layers: their weights are the server's)."""
    return Attention(request).run()


def rounding(want: np.ndarray, kind: np.dtype) -> np.ndarray:
    """Half a unit in the last place of each number in a 16-bit kind; nothing for others."""
    if kind.itemsize != 2:
        return np.zeros_like(want)
    bits = {"float16": 11, "bfloat16": 8}[kind.name]
    _, exponent = np.frexp(np.abs(np.where(np.isfinite(want), want, 0.0)))
    return np.ldexp(0.5, exponent - bits)


def assert_close(got: np.ndarray, want: np.ndarray, what: str = "output", times: float = 1.0) -> None:
    """The promise: 1e-5 + 5e-6 |want|, beside half a unit in the last place of the kind that came."""
    assert got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}"
    exact = np.isneginf(want)
    wide_got = got.astype(np.float64)
    assert np.array_equal(np.isneginf(wide_got), exact), f"{what}: -inf at other places than expected"
    finite = np.where(exact, 0.0, want)
    error = np.abs(np.where(exact, 0.0, wide_got) - finite)
    bound = times * (1e-5 + 5e-6 * np.abs(finite)) + rounding(finite, got.dtype)
    worst = np.unravel_index(np.argmax(error - bound), error.shape) if error.size else ()
    assert np.all(error <= bound), f"{what}{list(map(int, worst))}: got {wide_got[worst]}, expected {want[worst]}"
