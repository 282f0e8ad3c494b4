"""Attention in numpy float64, for judging answers: reads the request, shares nothing with the server.

Letters: B batch, H query heads, K key/value heads, T query tokens, S key tokens, D head size, V value head size.
"""

from dataclasses import dataclass

import numpy as np
from wire import BF16, F32, array, options_pb, outputs_pb, wide

GOLDEN = 0x9E3779B97F4A7C15


@dataclass
class Expected:
    """What an answer should hold."""

    output: np.ndarray  # in the request's form
    log_sum_exp: np.ndarray  # [B, H, T]
    head_outputs: np.ndarray  # [B, H, T, V]
    scaled: np.ndarray  # [B, H, T, S], like all stages of the map
    softcapped: np.ndarray
    biased: np.ndarray
    weights: np.ndarray
    visible: np.ndarray  # [B, H, T, S]: no rule and no mask forbids the pair
    query_positions: np.ndarray  # [B, T]
    key_positions: np.ndarray  # [B, S]
    key_lengths: np.ndarray  # [B]
    kind: np.dtype  # of the numbers that came in
    scale: float
    flops: int

    def stage(self, stage: int) -> np.ndarray:
        """The map at a stage."""
        return {
            outputs_pb.MAP_STAGE_WEIGHTS: self.weights,
            outputs_pb.MAP_STAGE_SCALED: self.scaled,
            outputs_pb.MAP_STAGE_SOFTCAPPED: self.softcapped,
            outputs_pb.MAP_STAGE_BIASED: self.biased,
        }[stage]

    def statistics(self, batch: int, head: int) -> dict[str, float]:
        """The numbers of HeadStatistics; all 0 and a largest score of -inf where no row sees a key."""
        weights, biased = self.weights[batch, head], self.biased[batch, head]
        seeing = self.visible[batch, head].any(axis=-1)
        distance = self.query_positions[batch][:, None] - self.key_positions[batch][None, :]
        previous = (distance == 1) & (np.arange(weights.shape[-1]) < self.key_lengths[batch])
        surprise = -np.log(np.where(weights > 0, weights, 1.0))
        per_row = {
            "mean_entropy": (weights * surprise).sum(axis=-1),
            "mean_largest_weight": weights.max(axis=-1),
            "mean_distance": (weights * np.abs(distance)).sum(axis=-1),
            "share_on_same": (weights * (distance == 0)).sum(axis=-1),
            "share_on_first": weights[:, 0],
        }
        means = {name: mean(values[seeing]) for name, values in per_row.items()}
        share = (weights * previous).sum(axis=-1)
        means["share_on_previous"] = mean(share[seeing & previous.any(axis=-1)])
        return means | {"largest_score": float(biased.max())}


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


def mean(values: np.ndarray) -> float:
    """0 of nothing."""
    return float(values.mean()) if values.size else 0.0


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
    angles = positions[..., None] * base ** (-2.0 * np.arange(width // 2) / width)
    table = np.empty((*positions.shape, width))
    if scheme.layout == options_pb.CHANNEL_LAYOUT_INTERLEAVED:
        table[..., 0::2], table[..., 1::2] = np.sin(angles), np.cos(angles)
    else:
        table[..., : width // 2], table[..., width // 2 :] = np.sin(angles), np.cos(angles)
    return table


def standing(given: list[int], offset: int, batch: int, tokens: int) -> np.ndarray:
    """Where tokens stand, from explicit positions or an offset: [B, T]."""
    rows = np.array(given, dtype=np.int64).reshape(-1, tokens) if given else offset + np.arange(tokens)
    return np.broadcast_to(rows, (batch, tokens))


def add_positions(embeddings: np.ndarray, position) -> np.ndarray:
    """Sinusoidal and learned positions; embeddings [B, T, E]."""
    positions = standing(position.query_positions, position.query_offset, *embeddings.shape[:2])
    scheme = position.WhichOneof("scheme")
    if scheme == "sinusoidal":
        return embeddings + sinusoids(positions, embeddings.shape[2], position.sinusoidal)
    if scheme == "learned":
        return embeddings + wide(position.learned.table)[positions]
    return embeddings


def llama3(plain: np.ndarray, scaling) -> np.ndarray:
    """Llama 3.1: long waves are divided by the factor, short ones kept, those between blended."""
    turns = scaling.original_context * plain / (2 * np.pi)
    kept = (turns - scaling.low_frequency_factor) / (scaling.high_frequency_factor - scaling.low_frequency_factor)
    kept = np.clip(kept, 0.0, 1.0)
    return kept * plain + (1 - kept) * plain / scaling.factor


def yarn(plain: np.ndarray, scaling, base: float) -> np.ndarray:
    """YaRN (arXiv 2309.00071) with whole channels as the ramp's ends, as in Transformers."""
    size = 2 * len(plain)

    def channel(turns: float) -> float:
        return size * np.log(scaling.original_context / (turns * 2 * np.pi)) / (2 * np.log(base))

    fast = scaling.beta_fast if scaling.HasField("beta_fast") else 32.0
    slow = scaling.beta_slow if scaling.HasField("beta_slow") else 1.0
    low, high = max(np.floor(channel(fast)), 0), min(np.ceil(channel(slow)), size - 1)
    high = high if high != low else high + 0.001
    interpolated = np.clip((np.arange(len(plain)) - low) / (high - low), 0.0, 1.0)
    return interpolated * plain / scaling.factor + (1 - interpolated) * plain


def frequencies(scheme, size: int) -> np.ndarray:
    """The angle per position of each of the size / 2 channel pairs."""
    base = scheme.base if scheme.HasField("base") else 10000.0
    scaling = scheme.WhichOneof("scaling")
    if scaling == "ntk_aware" and size > 2:  # one pair alone turns by its position, whatever the base
        base *= scheme.ntk_aware.factor ** (size / (size - 2))
    plain = base ** (-2.0 * np.arange(size // 2) / size)
    if scaling == "linear":
        return plain / scheme.linear.factor
    if scaling == "llama3":
        return llama3(plain, scheme.llama3)
    if scaling == "yarn":
        return yarn(plain, scheme.yarn, base)
    return plain


def turned_length(scheme) -> float:
    """What cosines and sines are multiplied with: 1, but for YaRN."""
    if scheme.WhichOneof("scaling") != "yarn":
        return 1.0
    given = scheme.yarn.HasField("attention_factor")
    return scheme.yarn.attention_factor if given else 0.1 * np.log(max(scheme.yarn.factor, 1.0)) + 1


def turn(x: np.ndarray, positions: np.ndarray, scheme) -> np.ndarray:
    """Rotary positions; x [B, heads, T, D], positions [B, T]."""
    size = scheme.rotary_size or x.shape[-1]
    angles = positions[:, None, :, None] * frequencies(scheme, size)
    cosines, sines = turned_length(scheme) * np.cos(angles), turned_length(scheme) * np.sin(angles)
    if scheme.layout == options_pb.CHANNEL_LAYOUT_HALVES:
        first, second = slice(0, size // 2), slice(size // 2, size)
    else:
        first, second = slice(0, size, 2), slice(1, size, 2)
    turned = x.copy()
    with np.errstate(invalid="ignore"):  # x may hold anything where that is allowed, or not read
        turned[..., first] = x[..., first] * cosines - x[..., second] * sines
        turned[..., second] = x[..., second] * cosines + x[..., first] * sines
    return turned


def alibi_slopes(scheme, heads: int) -> np.ndarray:
    if scheme.slopes:
        return np.array(scheme.slopes, dtype=np.float64)
    power = 2 ** int(np.log2(heads))
    slopes = [2.0 ** (-8.0 * (h + 1) / power) for h in range(power)]
    between = [2.0 ** (-8.0 * (h + 1) / (2 * power)) for h in range(0, 2 * power, 2)]
    return np.array(slopes + between[: heads - power])


def diagonal(message, lengths: np.ndarray, queries: int) -> np.ndarray:
    """The offset of a causal or window mask in each batch: [B, 1, 1, 1]."""
    offsets = {
        options_pb.CAUSAL_ALIGNMENT_UNSPECIFIED: 0 * lengths,
        options_pb.CAUSAL_ALIGNMENT_TOP_LEFT: 0 * lengths,
        options_pb.CAUSAL_ALIGNMENT_BOTTOM_RIGHT: lengths - queries,
        options_pb.CAUSAL_ALIGNMENT_EXPLICIT: 0 * lengths + message.offset,
    }
    return offsets[message.alignment][:, None, None, None]


def in_window(window, middle: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Whether a row whose diagonal is at `middle` has the key in its window."""
    near = np.full(np.broadcast_shapes(middle.shape, key.shape), True)
    if window.HasField("left"):
        near &= middle - key <= window.left
    if window.HasField("right"):
        near &= key - middle <= window.right
    return near


def in_one_segment(segments, shape: tuple[int, int, int, int]) -> np.ndarray:
    """Whether query and key have the same id: [B or 1, 1, T, S]."""
    _, _, queries, keys = shape
    query_ids = np.array(segments.query_ids).reshape(-1, 1, queries, 1)
    return query_ids == np.array(segments.key_ids).reshape(-1, 1, 1, keys)


def visible_by_rules(mask, shape: tuple[int, int, int, int]) -> np.ndarray:
    """What causal and window mask, key lengths, segments and the mask's last axis let be seen: [B, 1, T, S]."""
    batch, _, queries, keys = shape
    lengths = np.array(mask.key_lengths or [keys] * batch)
    row, key = np.arange(queries)[:, None], np.arange(keys)
    visible = np.broadcast_to(key < lengths[:, None, None, None], (batch, 1, queries, keys))
    if mask.HasField("causal"):
        visible = visible & (key <= row + diagonal(mask.causal, lengths, queries))
    if mask.HasField("window"):
        offset = diagonal(mask.causal if mask.HasField("causal") else mask.window, lengths, queries)
        visible = visible & in_window(mask.window, row + offset, key)
    if mask.HasField("segments"):
        visible = visible & in_one_segment(mask.segments, shape)
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


def softmax(scores: np.ndarray, sinks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numerators, denominators and the keys' log-sum-exps; a row of -inf gives zeros, 1 and -inf."""
    largest = scores.max(axis=-1, keepdims=True)
    empty = np.isneginf(largest)
    shift = np.where(empty, 0.0, largest)
    with np.errstate(invalid="ignore", divide="ignore"):  # NaN and +inf may be seen where that is allowed
        numerators = np.where(np.isneginf(scores), 0.0, np.exp(scores - shift))
        sums = numerators.sum(axis=-1, keepdims=True)
        log_sum_exp = np.where(empty, -np.inf, largest + np.log(sums))
        denominators = sums + np.where(empty, 1.0, np.exp(sinks - shift))
    return numerators, denominators, log_sum_exp[..., 0]


def blend(weights: np.ndarray, value: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """P V, where what a row may not see is not even multiplied: it may be no number."""
    if np.isfinite(value).all() and np.isfinite(weights).all():
        return weights @ value
    with np.errstate(invalid="ignore"):
        products = weights[..., None] * value[:, :, None]
        return np.where(visible[..., None], products, 0.0).sum(axis=-2)


def in_bfloat16(x: np.ndarray) -> np.ndarray:
    return x.astype(BF16).astype(np.float64)


class Attention:
    """One request's computation, step by step; `rounded` is the plain algorithm with operands in bfloat16."""

    def __init__(self, request, rounded: bool = False):
        self.request = request
        self.options = request.options
        self.operand = in_bfloat16 if rounded else np.asarray
        self.kind = np.dtype(F32)
        self.layer = None
        self.projection_flops = 0

    def run(self) -> Expected:
        query, key, value = self.heads()
        query_positions, key_positions = self.positions(query, key)
        if self.options.position.WhichOneof("scheme") == "rotary":
            query = turn(query, query_positions, self.options.position.rotary)
            key = turn(key, key_positions, self.options.position.rotary)
        query, key, value = self.operand(query), self.operand(key), self.operand(value)
        groups = query.shape[1] // key.shape[1]
        key, value = np.repeat(key, groups, axis=1), np.repeat(value, groups, axis=1)
        scale = self.options.scale if self.options.HasField("scale") else query.shape[-1] ** -0.5
        with np.errstate(invalid="ignore"):  # keys beyond the key lengths may hold anything
            scaled = scale * (query @ key.swapaxes(-1, -2))
        softcapped = self.softcapped(scaled)
        rules = visible_by_rules(self.options.mask, scaled.shape)
        biased, visible = self.biased(softcapped, rules, query_positions, key_positions)
        sinks = np.array(self.options.sinks or [-np.inf], dtype=np.float64)[:, None, None]
        numerators, denominators, log_sum_exp = softmax(biased, sinks)
        heads = blend(self.operand(numerators), value, visible) / denominators * self.gains()
        flops = 2 * int(rules.sum()) * query.shape[1] * (query.shape[3] + value.shape[3]) + self.projection_flops
        return Expected(
            output=self.output(heads),
            log_sum_exp=log_sum_exp,
            head_outputs=heads,
            scaled=scaled,
            softcapped=softcapped,
            biased=biased,
            weights=np.where(visible, numerators / denominators, 0.0),
            visible=visible,
            query_positions=query_positions,
            key_positions=key_positions,
            key_lengths=np.array(self.options.mask.key_lengths or [key.shape[2]] * key.shape[0]),
            kind=self.kind,
            scale=scale,
            flops=flops,
        )

    def positions(self, query: np.ndarray, key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where queries and keys stand: [B, T] and [B, S]."""
        position = self.options.position
        batch, _, queries, _ = query.shape
        rows = standing(position.query_positions, position.query_offset, batch, queries)
        if self.layer is not None and not self.request.self_attention.HasField("context"):
            return rows, rows
        return rows, standing(position.key_positions, position.key_offset, batch, key.shape[2])

    def softcapped(self, scaled: np.ndarray) -> np.ndarray:
        cap = self.options.softcap
        return cap * np.tanh(scaled / cap) if self.options.HasField("softcap") else scaled

    def biased(self, scores: np.ndarray, rules: np.ndarray, *positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores after ALiBi and masks, -inf where forbidden, and what is not: both [B, H, T, S]."""
        if self.options.position.WhichOneof("scheme") == "alibi":
            rows, columns = positions
            distance = np.abs(rows[:, None, :, None] - columns[:, None, None, :])
            slopes = alibi_slopes(self.options.position.alibi, scores.shape[1])
            scores = scores - slopes[:, None, None] * distance
        visible = np.broadcast_to(rules, scores.shape)
        if self.options.mask.HasField("tensor"):
            bias = mask_bias(self.options.mask, scores.shape)
            visible = visible & ~np.isneginf(bias)
            scores = scores + np.where(np.isneginf(bias), 0.0, bias)
        return np.where(visible, scores, -np.inf), visible

    def gains(self) -> np.ndarray:
        """[H or 1, 1, 1]."""
        return np.array(self.options.head_gains or [1.0], dtype=np.float64)[:, None, None]

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


def attend_in_bfloat16(request) -> Expected:
    """What the plain algorithm answers when it rounds Q, K, V and the softmax's numerators to bfloat16."""
    return Attention(request, rounded=True).run()


def pooled(cells: np.ndarray, rows: int, columns: int, reducer: int) -> np.ndarray:
    """A map shrunk to rows x columns."""
    reduce = {
        outputs_pb.POOL_REDUCER_MAX: np.max,
        outputs_pb.POOL_REDUCER_MEAN: np.mean,
        outputs_pb.POOL_REDUCER_SUM: np.sum,
    }[reducer]
    row_cuts = np.arange(rows + 1) * cells.shape[0] // rows
    column_cuts = np.arange(columns + 1) * cells.shape[1] // columns
    strips = [cells[begin:end] for begin, end in zip(row_cuts, row_cuts[1:], strict=False)]
    blocks = [[s[:, b:e] for b, e in zip(column_cuts, column_cuts[1:], strict=False)] for s in strips]
    return np.array([[reduce(block) for block in row] for row in blocks])


def rounding(want: np.ndarray, kind: np.dtype) -> np.ndarray:
    """Half a unit in the last place of each number in a 16-bit kind; nothing for others."""
    if kind.itemsize != 2:
        return np.zeros_like(want)
    bits = {"float16": 11, "bfloat16": 8}[kind.name]
    _, exponent = np.frexp(np.abs(np.where(np.isfinite(want), want, 0.0)))
    return np.ldexp(0.5, exponent - bits)


def bound_of(want: np.ndarray, times: float = 1.0) -> np.ndarray:
    """The promise for each number: 1e-5 + 5e-6 |want|; 0 where it must be met exactly."""
    finite = np.isfinite(want)
    return np.where(finite, times * (1e-5 + 5e-6 * np.abs(np.where(finite, want, 0.0))), 0.0)


def assert_within(got: np.ndarray, want: np.ndarray, bound: np.ndarray, what: str) -> None:
    """Errors within a bound, beside half a unit in the last place of the kind that came; NaN and infinities equal."""
    assert got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}"
    exact = ~np.isfinite(want)
    wide_got = got.astype(np.float64)
    assert np.array_equal(np.isfinite(wide_got), ~exact), f"{what}: not finite at other places than expected"
    assert np.array_equal(wide_got[exact], want[exact], equal_nan=True), f"{what}: another NaN or infinity"
    finite = np.where(exact, 0.0, want)
    excess = np.abs(np.where(exact, 0.0, wide_got) - finite) - bound - rounding(finite, got.dtype)
    worst = np.unravel_index(np.argmax(excess), excess.shape) if excess.size else ()
    assert np.all(excess <= 0), f"{what}{list(map(int, worst))}: got {wide_got[worst]}, expected {want[worst]}"


def assert_close(got: np.ndarray, want: np.ndarray, what: str = "output", times: float = 1.0) -> None:
    """What semantics promise of float32 arithmetic."""
    assert_within(got, want, bound_of(want, times), what)
