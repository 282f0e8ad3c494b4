"""PyTorch's own attention in float64 as a second peer, where it is installed: `pip install torch` into build/venv."""

import dataclasses

import make
import numpy as np
import pytest
from make import TOP_LEFT, Sizes
from reference import assert_close
from wire import FLASH, NAIVE, array, service_pb, tensor

torch = pytest.importorskip("torch", reason="torch is not installed: an optional second peer")

SEED = 5
COUNT = 40

every_algorithm = pytest.mark.parametrize("algorithm", [NAIVE, FLASH], ids=["naive", "flash"])


def random_sizes(rng: np.random.Generator) -> Sizes:
    key_heads = int(rng.integers(1, 4))
    return Sizes(
        heads=key_heads * int(rng.integers(1, 4)),
        key_heads=key_heads,
        tokens=int(rng.integers(1, 150)),
        keys=int(rng.integers(1, 200)),
        size=int(rng.choice([4, 16, 33, 64])),
        value_size=int(rng.choice([4, 16, 33])),
        batch=int(rng.integers(1, 4)),
    )


def inputs(request: service_pb.AttendRequest) -> list:
    """Q, K and V in float64, K and V repeated to as many heads as Q has."""
    message = request.query_key_value
    arrays = [array(t).astype(np.float64) for t in (message.query, message.key, message.value)]
    query, key, value = map(torch.from_numpy, arrays)
    groups = query.shape[1] // key.shape[1]
    return [query, key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)]


def check(server, request: service_pb.AttendRequest, want) -> None:
    assert_close(array(server.attend(request).output), want.numpy())


@every_algorithm
@pytest.mark.parametrize("number", range(COUNT))
def test_scaled_dot_product_attention(server, number: int, algorithm: int) -> None:
    rng = np.random.default_rng([SEED, number])
    request = make.with_algorithm(make.qkv(rng, random_sizes(rng)), algorithm)
    query, key, value = inputs(request)
    options: dict[str, object] = {}
    shape = (query.shape[0], query.shape[1], query.shape[2], key.shape[2])
    masking = rng.choice(["none", "causal", "boolean", "additive"])
    if masking == "causal":
        options["is_causal"] = True
        request.options.mask.causal.alignment = TOP_LEFT
    elif masking == "boolean":
        mask = rng.random(shape) < 0.7
        mask[..., 0] = True  # torch has no word on rows without a key
        options["attn_mask"] = torch.from_numpy(mask)
        request.options.mask.tensor.CopyFrom(tensor(mask))
    elif masking == "additive":
        bias = make.normal(rng, shape)
        options["attn_mask"] = torch.from_numpy(bias.astype(np.float64))
        request.options.mask.tensor.CopyFrom(tensor(bias))
    if rng.random() < 0.5:
        options["scale"] = request.options.scale = float(rng.uniform(-0.5, 0.5))
    check(server, request, torch.nn.functional.scaled_dot_product_attention(query, key, value, **options))


def score_changes(request: service_pb.AttendRequest, rng: np.random.Generator, heads: int) -> list:
    """Some of FlexAttention's examples, and the fields that mean the same: functions of score, b, h, i, j."""
    changes = []
    if rng.random() < 0.6:
        cap = request.options.softcap = float(rng.uniform(0.5, 3))
        changes.append(lambda score, b, h, i, j: cap * torch.tanh(score / cap))
    if rng.random() < 0.6:
        slopes = torch.from_numpy(rng.uniform(0, 0.5, heads).astype(np.float32)).double()
        request.options.position.alibi.slopes.extend(slopes.tolist())
        changes.append(lambda score, b, h, i, j: score - slopes[h] * (i - j).abs())
    left, right = (int(size) for size in rng.integers(0, 40, 2))
    request.options.mask.window.left, request.options.mask.window.right = left, right
    changes.append(lambda score, b, h, i, j: torch.where((i - j <= left) & (j - i <= right), score, -torch.inf))
    return changes


@pytest.mark.filterwarnings("ignore")  # it warns that it was not compiled
@every_algorithm
@pytest.mark.parametrize("number", range(COUNT // 2))
def test_flex_attention(server, number: int, algorithm: int) -> None:
    flex = pytest.importorskip("torch.nn.attention.flex_attention", reason="this torch has no FlexAttention")
    torch._dynamo.reset()  # what it traced for other sizes and closures would be made general, and fail
    rng = np.random.default_rng([SEED, 1000 + number])
    sizes = random_sizes(rng)
    square = dataclasses.replace(sizes, keys=sizes.tokens)
    request = make.with_algorithm(make.qkv(rng, square), algorithm)
    changes = score_changes(request, rng, square.heads)

    def change(score, b, h, i, j):
        for one in changes:
            score = one(score, b, h, i, j)
        return score

    check(server, request, flex.flex_attention(*inputs(request), score_mod=change))
