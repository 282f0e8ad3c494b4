"""headlight.torch beside PyTorch itself."""

import os

import headlight
import pytest
from headlight.tensors import to_tensor

if os.environ.get("HEADLIGHT_LONG"):
    import torch
else:
    torch = pytest.importorskip("torch", reason="torch is not installed: ./dev test --long installs it")

from headlight.torch import scaled_dot_product_attention
from torch.nn import functional

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# Of the dtype's own rounding; PyTorch computes 16 bits in 16 bits.
TOLERANCES = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(11)


def assert_same(client, query, key, value, **keywords) -> None:
    got = scaled_dot_product_attention(query, key, value, client=client, **keywords)
    want = functional.scaled_dot_product_attention(query, key, value, **keywords)
    assert got.dtype == want.dtype and got.device == want.device and got.shape == want.shape
    torch.testing.assert_close(got, want, atol=TOLERANCES[query.dtype], rtol=TOLERANCES[query.dtype])
    got[...] = 0  # it is the caller's own


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("is_causal", [False, True])
def test_dtypes_and_causal(client, dtype, is_causal) -> None:
    """Causal is aligned top left, with more keys than queries and fewer."""
    for keys in (5, 9):
        query = torch.randn(2, 3, 7, 8).to(dtype)
        key, value = torch.randn(2, 3, keys, 8).to(dtype), torch.randn(2, 3, keys, 6).to(dtype)
        assert_same(client, query, key, value, is_causal=is_causal)


@pytest.mark.parametrize(
    "shapes",
    [
        ((4, 8), (5, 8), (5, 8)),
        ((3, 4, 8), (3, 5, 8), (3, 5, 8)),
        ((2, 3, 4, 8), (1, 3, 5, 8), (2, 1, 5, 8)),
        ((2, 2, 3, 4, 8), (2, 1, 3, 5, 8), (5, 8)),
        ((130, 1, 2, 4), (130, 1, 3, 4), (130, 1, 3, 4)),
    ],
    ids=str,
)
def test_leading_axes(client, shapes) -> None:
    """Any number of them, broadcast; more batches than one call takes."""
    assert_same(client, *(torch.randn(shape) for shape in shapes), scale=0.7)


@pytest.mark.parametrize(
    "shape", [(4, 5), (4, 1), (1, 5), (3, 4, 5), (2, 1, 4, 5), (2, 3, 1, 5), (1, 1, 4, 1)], ids=str
)
@pytest.mark.parametrize("boolean", [True, False], ids=["bool", "float"])
def test_masks(client, shape, boolean) -> None:
    mask = torch.randn(shape)
    mask = (mask > 0) | (torch.arange(shape[-1]) == 0) if boolean else mask
    assert_same(client, torch.randn(2, 3, 4, 8), torch.randn(2, 3, 5, 8), torch.randn(2, 3, 5, 8), attn_mask=mask)


def test_masks_of_more_axes_and_batches(client) -> None:
    query = torch.randn(2, 40, 3, 4, 8)
    mask = torch.randn(2, 40, 1, 4, 4) > -1
    assert_same(client, query, query, query, attn_mask=mask | torch.eye(4, dtype=torch.bool))


def test_forbidden_rows(client) -> None:
    """Zeros, as PyTorch gives since 2.5; -inf forbids like false."""
    query = torch.randn(1, 2, 4, 8)
    mask = torch.tensor([[True, False, True, False]] * 3 + [[False] * 4])
    got = scaled_dot_product_attention(query, query, query, mask, client=client)
    assert torch.equal(got[:, :, 3], torch.zeros(1, 2, 8))
    additive = torch.zeros(4, 4).masked_fill(~mask, -torch.inf)
    assert torch.equal(scaled_dot_product_attention(query, query, query, additive, client=client), got)


def test_grouped_heads(client) -> None:
    query, key, value = torch.randn(2, 6, 4, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 8)
    assert_same(client, query, key, value, enable_gqa=True)
    with pytest.raises(ValueError, match="do not divide"):
        scaled_dot_product_attention(query[:, :5], key, value, enable_gqa=True, client=client)
    with pytest.raises(RuntimeError):
        scaled_dot_product_attention(query, key, value, client=client)


def test_weights_as_multihead_attention_gives_them(client) -> None:
    """The same module's weights, of each head and their mean."""
    module = torch.nn.MultiheadAttention(12, 3, bias=False, batch_first=True).eval()
    x = torch.randn(2, 5, 12)
    with torch.no_grad():
        q, k, v = (
            part.unflatten(-1, (3, 4)).transpose(1, 2)
            for part in functional.linear(x, module.in_proj_weight).chunk(3, -1)
        )
        for average in (True, False):
            output, weights = scaled_dot_product_attention(
                q, k, v, client=client, need_weights=True, average_attn_weights=average
            )
            want, want_weights = module(x, x, x, need_weights=True, average_attn_weights=average)
            torch.testing.assert_close(weights, want_weights, atol=1e-5, rtol=1e-5)
        got = module.out_proj(output.transpose(1, 2).flatten(-2))
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_what_there_is_not(client) -> None:
    query = torch.randn(1, 2, 4, 8)
    with pytest.raises(ValueError, match="dropout_p"):
        scaled_dot_product_attention(query, query, query, dropout_p=0.1, client=client)
    with pytest.raises(RuntimeError, match="exclude each other"):
        scaled_dot_product_attention(query, query, query, torch.ones(4, 4), is_causal=True, client=client)
    with pytest.raises(TypeError, match="dtype"):
        scaled_dot_product_attention(query.double(), query.double(), query.double(), client=client)
    with pytest.raises(TypeError, match="attn_mask"):
        scaled_dot_product_attention(query, query, query, torch.ones(4, 4, dtype=torch.float64), client=client)
    trained = torch.nn.Parameter(query)
    with pytest.raises(RuntimeError, match="no gradients"):
        scaled_dot_product_attention(trained, query, query, client=client)
    with torch.no_grad():
        scaled_dot_product_attention(trained, query, query, client=client)


def test_default_client(server, monkeypatch) -> None:
    """Of HEADLIGHT_ADDRESS."""
    monkeypatch.setenv("HEADLIGHT_ADDRESS", server.address)
    query = torch.randn(2, 3, 4)
    torch.testing.assert_close(
        scaled_dot_product_attention(query, query, query), functional.scaled_dot_product_attention(query, query, query)
    )


def test_tensors_are_arrays(client) -> None:
    """Every method takes them, bfloat16 too."""
    for dtype in (*DTYPES, torch.bool):
        tensor = (torch.arange(6).reshape(2, 3) % 2).to(dtype).T
        back = headlight.to_array(to_tensor(tensor))
        assert back.tolist() == tensor.tolist() and back.dtype.name == str(dtype).removeprefix("torch.")
        assert headlight.to_spec(tensor) == headlight.to_spec(back)


@pytest.mark.parametrize("shapes", [((2, 4, 0, 8), (2, 4, 7, 8)), ((2, 4, 7, 8), (2, 4, 0, 8)), ((0, 4, 7, 8), (0, 4, 7, 8))])
def test_empty_tensors(client, shapes) -> None:
    query, key = (torch.randn(shape) for shape in shapes)
    output, weights = scaled_dot_product_attention(query, key, key, client=client, need_weights=True)
    torch.testing.assert_close(output, functional.scaled_dot_product_attention(query, key, key))
    assert weights.shape == (shapes[0][0], shapes[0][2], shapes[1][2])
