"""Attention to parts of the keys, joined to attention to all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from headlight.answers import Attention
from headlight.requests import enum_number
from headlight.tensors import ArrayLike, to_tensor
from headlight.v1 import attention_service_pb2 as attention_pb
from headlight.v1 import tensor_pb2 as tensor_pb

Partial = Attention | tuple[ArrayLike, ArrayLike]  # an answer with its log-sum-exp, or both as arrays


class Merged(NamedTuple):
    """Attention to all keys."""

    output: np.ndarray
    log_sum_exp: np.ndarray  # [B, H, T], of the keys alone; may be joined again


def _pair(partial: Partial) -> tuple[Any, Any]:
    pair = (partial.output, partial.log_sum_exp) if isinstance(partial, Attention) else partial
    if any(one is None for one in pair):
        raise ValueError("a part needs its output and its log-sum-exp: attend(..., log_sum_exp=True)")
    return pair


def merge_request(
    partials: Iterable[Partial],
    sinks: Sequence[float],
    head_gains: Sequence[float],
    output_weights: ArrayLike | None,
    output_bias: ArrayLike | None,
    **keywords: Any,
) -> attention_pb.MergePartialsRequest:
    """A MergePartialsRequest."""
    request = attention_pb.MergePartialsRequest(sinks=sinks, head_gains=head_gains)
    for output, log_sum_exp in map(_pair, partials):
        request.partials.add(output=to_tensor(output), log_sum_exp=to_tensor(log_sum_exp))
    if output_weights is not None:
        request.output_weights.CopyFrom(to_tensor(output_weights))
    if output_bias is not None:
        request.output_bias.CopyFrom(to_tensor(output_bias))
    request.tensor_kind = enum_number(tensor_pb.TensorKind, keywords.get("tensor_kind") or 0)
    request.priority = enum_number(attention_pb.Priority, keywords.get("priority") or 0)
    return request


def merge_partials(
    partials: Iterable[Partial],
    *,
    sinks: Sequence[float] = (),
    head_gains: Sequence[float] = (),
    output_weights: ArrayLike | None = None,
    output_bias: ArrayLike | None = None,
) -> Merged:
    """What Client.merge_partials() answers, without a server.

    With m the largest log-sum-exp of a row's parts and s the head's sink, part p weighs
    exp(lse_p - m) / (sum of exp(lse - m) + exp(s - m)).
    ValueError: no part, shapes that do not fit each other, a log-sum-exp of NaN or infinity, a bias without weights.
    """
    pairs = [(np.asarray(output), np.asarray(lse, np.float64)) for output, lse in map(_pair, partials)]
    _check(pairs, sinks, head_gains)
    if output_bias is not None and output_weights is None:
        raise ValueError("output_bias goes with output_weights only")
    form, lse_form = pairs[0][0].shape, pairs[0][1].shape
    batch, heads, tokens = lse_form
    lse = np.stack([lse for _, lse in pairs])
    largest = lse.max(axis=0)
    shift = np.where(np.isneginf(largest), 0, largest)
    shares = np.exp(lse - shift)
    total = shares.sum(axis=0)
    with np.errstate(divide="ignore"):
        joined = shift + np.log(total)
    if len(sinks):
        with np.errstate(over="ignore"):  # beside a sink beyond all bounds the keys weigh nothing
            total = total + np.exp(np.reshape(sinks, (heads, 1)) - shift)
    weights = shares / np.where(np.isneginf(largest), 1, total)
    if len(head_gains):
        weights = weights * np.reshape(head_gains, (heads, 1))
    output = sum(
        _head_major(part.astype(np.float32), batch, heads, tokens) * weight[..., None].astype(np.float32)
        for (part, _), weight in zip(pairs, weights, strict=True)
    )
    if output_weights is not None:
        flat = output.swapaxes(1, 2).reshape(batch, tokens, -1) @ np.asarray(output_weights, np.float32)
        output = flat if output_bias is None else flat + np.asarray(output_bias, np.float32)
        output = output[0] if len(form) == 2 else output
    elif len(form) < 4:
        output = output.swapaxes(1, 2).reshape(form)
    kind = pairs[0][0].dtype
    return Merged(output.astype(kind if kind.itemsize == 2 else np.float32), joined.astype(np.float32))


def _check(pairs: list[tuple[np.ndarray, np.ndarray]], sinks: Sequence[float], head_gains: Sequence[float]) -> None:
    if not pairs:
        raise ValueError("no part")
    (form, lse_form), kind = (one.shape for one in pairs[0]), pairs[0][0].dtype
    if any((output.shape, output.dtype, lse.shape) != (form, kind, lse_form) for output, lse in pairs):
        raise ValueError("the parts' shapes or kinds differ")
    if len(lse_form) != 3 or 0 in lse_form or 0 in form:
        raise ValueError(f"log_sum_exp is {list(lse_form)}, expected [B, H, T]")
    batch, heads, tokens = lse_form
    rows = (batch, heads, tokens) if len(form) == 4 else (batch, tokens) if len(form) == 3 else (tokens,)
    if form[:-1] != rows or (len(form) == 2 and batch != 1) or (len(form) < 4 and form[-1] % heads):
        raise ValueError(f"output is {list(form)}, which does not go with a log_sum_exp of {list(lse_form)}")
    if any(np.isnan(lse).any() or np.isposinf(lse).any() for _, lse in pairs):
        raise ValueError("a log-sum-exp is NaN or infinite: numbers or -inf are expected")
    for name, given in (("sinks", sinks), ("head_gains", head_gains)):
        if len(given) not in (0, heads):
            raise ValueError(f"{len(given)} {name}, expected {heads} or none")


def _head_major(output: np.ndarray, batch: int, heads: int, tokens: int) -> np.ndarray:
    if output.ndim == 4:
        return output
    return output.reshape(batch, tokens, heads, -1).swapaxes(1, 2)
