"""PyTorch's scaled_dot_product_attention, computed by a server. Needs the package torch."""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headlight.channel import DEFAULT_ADDRESS
from headlight.client import Client
from headlight.requests import AttendKeywords, QueryKeyValue, fill_request
from headlight.tensors import stored_array
from headlight.v1 import attention_service_pb2 as attention_pb
from headlight.v1 import tensor_pb2

_KINDS = (torch.float32, torch.float16, torch.bfloat16)
_MOST_BATCHES = 64  # of one call, by the server's defaults; more are sent in several


@functools.cache
def default_client() -> Client:
    """Of the server that HEADLIGHT_ADDRESS names, or the default address; made once."""
    return Client(os.environ.get("HEADLIGHT_ADDRESS", DEFAULT_ADDRESS))


def from_message(message: tensor_pb2.Tensor) -> Tensor:
    """A writable tensor on the CPU, in the message's own kind."""
    array = stored_array(message)
    if message.WhichOneof("data") == "bf16_le":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


def _check(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout_p: float, is_causal: bool) -> None:
    given = [query, key, value] if mask is None else [query, key, value, mask]
    if dropout_p != 0.0:
        raise ValueError("dropout_p must be 0: headlight computes exact attention, which drops nothing")
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given):
        raise RuntimeError("headlight has no gradients: call it under torch.no_grad(), or detach() the tensors")
    if is_causal and mask is not None:
        raise RuntimeError("attn_mask and is_causal=True exclude each other, as in PyTorch")
    if query.dtype not in _KINDS or key.dtype != query.dtype or value.dtype != query.dtype:
        raise TypeError(f"query, key and value must be of one dtype, {', '.join(map(str, _KINDS))}")
    if mask is not None and mask.dtype not in (torch.bool, query.dtype):
        raise TypeError(f"attn_mask must be of dtype bool or {query.dtype}")
    if min(tensor.dim() for tensor in (query, key, value)) < 2:
        raise ValueError("query, key and value need two axes at least, tokens and channels")


def _batches(tensor: Tensor, leading: tuple[int, ...]) -> Tensor:
    # [..., T, D] to [B, H, T, D]; the last of the leading axes are the heads where there are two at least.
    wide = tensor.expand(*leading, *tensor.shape[-2:])
    heads = leading[-1] if len(leading) > 1 else 1
    return wide.reshape(-1, heads, *tensor.shape[-2:])


def _leading(query: Tensor, key: Tensor, value: Tensor, enable_gqa: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The leading axes of the queries, and of keys and values; with grouped heads they differ in the last."""
    if not enable_gqa:
        shape = tuple(torch.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2]))
        return shape, shape
    if min(tensor.dim() for tensor in (query, key, value)) < 4 or key.size(-3) != value.size(-3):
        raise ValueError("enable_gqa needs [..., heads, tokens, channels], and as many heads of values as of keys")
    if query.size(-3) % key.size(-3):
        raise ValueError("enable_gqa: the heads of keys do not divide those of queries")
    outer = tuple(torch.broadcast_shapes(query.shape[:-3], key.shape[:-3], value.shape[:-3]))
    return (*outer, query.size(-3)), (*outer, key.size(-3))


def _attend(client: Client, parts: QueryKeyValue, keywords: AttendKeywords) -> tuple[Tensor, Tensor]:
    request = fill_request(attention_pb.AttendRequest(), parts, keywords)
    answer = client.call(client.attention.Attend, request)
    output = from_message(answer.output)
    weights = torch.empty(0)
    if answer.maps:
        weights = torch.stack([from_message(one.weights) for one in answer.maps])
        weights = weights.reshape(*output.shape[:2], *weights.shape[-2:])
    return output, weights


def _mask(mask: Tensor, leading: tuple[int, ...], keys: int) -> Tensor:
    wide = mask.expand(*mask.shape[:-1], keys)  # the server continues a short last axis with "may not"
    return wide if mask.dim() <= 2 else _batches(wide, leading)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    client: Client | None = None,
    need_weights: bool = False,
    average_attn_weights: bool = True,
) -> Any:
    """torch.nn.functional.scaled_dot_product_attention on a server: the same arguments, the same answer.

    The output has the query's dtype (float32, float16 or bfloat16) and device. A row that may see nothing gives zeros.
    With need_weights: (output, weights), as torch.nn.MultiheadAttention gives them: [..., L, S], the mean over heads, or
    [..., heads, L, S] with average_attn_weights=False. There are no gradients and no dropout.
    ValueError, TypeError, RuntimeError: arguments that PyTorch would refuse, or that headlight has not. HeadlightError:
    the call failed.
    """
    _check(query, key, value, attn_mask, dropout_p, is_causal)
    device = query.device
    query, key, value = (tensor.detach().cpu() for tensor in (query, key, value))
    leading, key_leading = _leading(query, key, value, enable_gqa)
    if 0 in (*leading, query.size(-2), key.size(-2)):  # as PyTorch: zeros, where there is a row at all
        output = query.new_zeros((*leading, query.size(-2), value.size(-1))).to(device)
        shown = leading[:-1] if average_attn_weights and len(leading) > 1 else leading
        weights = query.new_zeros((*shown, query.size(-2), key.size(-2))).to(device)
        return (output, weights) if need_weights else output
    parts = [_batches(query, leading), _batches(key, key_leading), _batches(value, key_leading)]
    mask = None if attn_mask is None else _mask(attn_mask.detach().cpu(), leading, key.size(-2))
    keywords: AttendKeywords = {"maps": need_weights}
    if is_causal:
        keywords["causal"] = "top_left"
    if scale is not None:
        keywords["scale"] = scale
    answers = []
    for begin in range(0, parts[0].size(0), _MOST_BATCHES):
        some = slice(begin, begin + _MOST_BATCHES)
        if mask is not None:
            keywords["mask"] = mask[some] if mask.dim() == 4 else mask
        answers.append(_attend(client or default_client(), QueryKeyValue(*(part[some] for part in parts)), keywords))
    output = torch.cat([output for output, _ in answers])
    output = output.reshape(*leading, *output.shape[-2:]).to(device)
    if not need_weights:
        return output
    weights = torch.cat([weights for _, weights in answers])
    weights = weights.reshape(*leading, *weights.shape[-2:]).to(device)
    return output, weights.mean(-3) if average_attn_weights and len(leading) > 1 else weights
