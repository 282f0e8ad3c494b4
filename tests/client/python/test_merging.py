"""Parts of the keys, joined by the package alone: what the server's MergePartials answers."""

import asyncio

import headlight
import ml_dtypes
import numpy as np
import pytest
import reference
from conftest import Server
from headlight import requests
from headlight.v1 import attention_service_pb2 as attention_pb

SINKS, GAINS = [0.5, -3, 80, 1], [1, 0, 2, -1]
ENDS = (5, 6, 30, 40)


def heads(rng: np.random.Generator, rank: int) -> list[np.ndarray]:
    """Q, K and V of 4 and 2 heads: 7 queries, 40 keys."""
    shapes = [(1, 4, 7, 8), (1, 2, 40, 8), (1, 2, 40, 8)]
    given = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    if rank == 4:
        return given
    joined = [np.moveaxis(one, 1, 2).reshape(one.shape[0], one.shape[2], -1) for one in given]
    return joined if rank == 3 else [one[0] for one in joined]


def parts_of(client: headlight.Client, given: list[np.ndarray], **options) -> list[headlight.Attention]:
    query, key, value = given
    return [
        client.attend(
            query, key[..., begin:end, :], value[..., begin:end, :],
            part=(begin, end, ENDS[-1]), log_sum_exp=True, causal="bottom_right", **options,
        )
        for begin, end in zip((0, *ENDS), ENDS, strict=False)
    ]  # fmt: skip


@pytest.mark.parametrize("rank", [2, 3, 4])
def test_parts_are_joined(client, rng, rank) -> None:
    """By the package and by the server, to what the oracle has for the whole."""
    given = heads(rng, rank)
    names = {} if rank == 4 else {"query_heads": 4, "key_value_heads": 2}
    request = attention_pb.AttendRequest()
    keywords = {"causal": "bottom_right", "sinks": SINKS, "head_gains": GAINS, **names}
    want = reference.attend(requests.fill_request(request, requests.QueryKeyValue(*given), keywords))
    parts = parts_of(client, given, **names)
    for joined in (
        headlight.merge_partials(parts, sinks=SINKS, head_gains=GAINS),
        client.merge_partials(parts, sinks=SINKS, head_gains=GAINS),
    ):
        reference.assert_close(joined.output, want.output)
        reference.assert_close(joined.log_sum_exp, want.log_sum_exp)


@pytest.mark.parametrize("rank", [2, 3, 4])
def test_output_weights(client, rng, rank) -> None:
    names = {} if rank == 4 else {"query_heads": 4, "key_value_heads": 2}
    parts = parts_of(client, heads(rng, rank), **names)
    weights, bias = rng.standard_normal((32, 5)).astype(np.float32), rng.standard_normal(5).astype(np.float32)
    mine = headlight.merge_partials(parts, output_weights=weights, output_bias=bias)
    theirs = client.merge_partials(parts, output_weights=weights, output_bias=bias)
    assert mine.output.shape == theirs.output.shape == ((7, 5) if rank == 2 else (1, 7, 5))
    np.testing.assert_allclose(mine.output, theirs.output, atol=1e-4)


def test_rows_that_see_nothing(client) -> None:
    empty = (np.zeros((1, 1, 2, 3), np.float32), np.full((1, 1, 2), -np.inf, np.float32))
    for joined in (headlight.merge_partials([empty, empty], sinks=[1]), client.merge_partials([empty, empty], sinks=[1])):
        assert not joined.output.any() and np.isneginf(joined.log_sum_exp).all()


def test_a_sink_beyond_all_keys(client) -> None:
    part = (np.ones((1, 1, 2, 3), np.float32), np.full((1, 1, 2), -900, np.float32))
    for joined in (headlight.merge_partials([part], sinks=[900]), client.merge_partials([part], sinks=[900])):
        assert not joined.output.any() and (joined.log_sum_exp == -900).all()


def test_merged_parts_are_parts(client, rng) -> None:
    parts = parts_of(client, heads(rng, 4))
    twice = headlight.merge_partials([headlight.merge_partials(parts[:2]), headlight.merge_partials(parts[2:])])
    np.testing.assert_allclose(twice.output, headlight.merge_partials(parts).output, atol=1e-6)


def test_what_does_not_fit(client, rng) -> None:
    part = (np.ones((1, 1, 2, 3), np.float32), np.zeros((1, 1, 2), np.float32))
    with pytest.raises(ValueError, match="no part"):
        headlight.merge_partials([])
    with pytest.raises(ValueError, match="differ"):
        headlight.merge_partials([part, (part[0][..., :2], part[1])])
    given = heads(rng, 4)
    with pytest.raises(ValueError, match="log_sum_exp=True"):
        headlight.merge_partials([client.attend(*given)])


def test_in_asyncio(server: Server) -> None:
    part = (np.ones((1, 1, 2, 3), np.float32), np.zeros((1, 1, 2), np.float32))

    async def merge() -> headlight.Answer:
        async with headlight.AsyncClient(server.address) as client:
            return await client.merge_partials([part, part])

    joined = asyncio.run(merge())
    np.testing.assert_allclose(joined.log_sum_exp, np.log(2))
    assert (joined.output == 1).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"output_bias": [1, 2, 3]}, "output_weights"),
        ({"sinks": [1, 2]}, "sinks"),
        ({"head_gains": [1, 2]}, "head_gains"),
        ({"partials": [(np.ones((2, 1, 2, 3)), np.zeros((1, 1, 2)))]}, "does not go with"),
        ({"partials": [(np.ones((2, 3)), np.zeros((1, 2, 2)))]}, "does not go with"),
        ({"partials": [(np.ones((1, 1, 2, 3)), np.zeros((1, 2)))]}, "log_sum_exp"),
        ({"partials": [(np.ones((1, 1, 2, 3)), np.full((1, 1, 2), np.nan))]}, "NaN"),
        ({"partials": [(np.ones((1, 1, 2, 3)), np.full((1, 1, 2), np.inf))]}, "NaN or infinite"),
    ],
)
def test_what_the_server_refuses_is_refused(client, change, words) -> None:
    part = (np.ones((1, 1, 2, 3)), np.zeros((1, 1, 2)))
    asked = {"partials": [part], **change}
    with pytest.raises(ValueError, match=words):
        headlight.merge_partials(**asked)
    with pytest.raises(headlight.InvalidArgumentError):
        client.merge_partials(**asked)


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_comes_back_in_the_parts_kind(client, kind) -> None:
    part = (np.ones((1, 1, 2, 3)).astype(np.dtype(getattr(ml_dtypes, kind, kind))), np.zeros((1, 1, 2)))
    for joined in (headlight.merge_partials([part]), client.merge_partials([part])):
        assert joined.output.dtype.name == kind and (joined.output == 1).all()
