"""ONNX's RotaryEmbedding as AttendRequests.

What Attend turns can be seen in a SCALED map: with unit vectors as keys, which stand at position 0 and so are not
turned, S0 = Q K^T is the turned Q. The caches of the cases are random numbers, no sines and cosines of
position x base^(-2c/r): a cosine and a sine of a cache are an angle and a length of their own. Two angles can be given
to one call, as the linear factor and the base; the lengths go into the keys. So a case is taken apart, into one call
for each batch, position and two channel pairs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from cases import Case
from make import HALVES, INTERLEAVED, full_map
from wire import array, outputs_pb, service_pb, tensor

Attend = Callable[[service_pb.AttendRequest], service_pb.AttendResponse]


@dataclass
class Pairs:
    """Two channel pairs of one token."""

    batch: int
    token: int
    channels: list[int]  # the four, in the layout's order
    cosines: np.ndarray  # of the two pairs
    sines: np.ndarray


def _heads(case: Case) -> np.ndarray:
    """The input as [B, H, T, D]."""
    given = case.inputs["X"]
    if given.ndim == 4:
        return given
    batch, tokens, width = given.shape
    heads = case.attributes["num_heads"]
    return given.reshape(batch, tokens, heads, width // heads).swapaxes(1, 2)


def _pairs(case: Case) -> Iterator[Pairs]:
    cosines, sines = case.inputs["cos_cache"], case.inputs["sin_cache"]
    if "position_ids" in case.inputs:
        cosines, sines = cosines[case.inputs["position_ids"]], sines[case.inputs["position_ids"]]
    batches, tokens, count = cosines.shape  # count channel pairs
    for batch in range(batches):
        for token in range(tokens):
            for c in range(0, count, 2):
                halves = [c, c + 1, c + count, c + 1 + count]
                channels = list(range(2 * c, 2 * c + 4)) if case.attributes.get("interleaved") else halves
                two = slice(c, c + 2)
                yield Pairs(batch, token, channels, cosines[batch, token, two], sines[batch, token, two])


def _request(query: np.ndarray, pairs: Pairs, interleaved: bool, algorithm: int) -> service_pb.AttendRequest:
    """All heads' four channels [H, 4] at position 1: the pairs turn by 1 / factor and base^(-1/2) / factor."""
    cosines, sines = pairs.cosines.astype(np.float64), pairs.sines.astype(np.float64)
    first, second = np.arctan2(sines, cosines)
    lengths = np.hypot(cosines, sines)
    basis = np.diag(np.repeat(lengths, 2) if interleaved else np.tile(lengths, 2)).astype(np.float32)
    request = service_pb.AttendRequest()
    request.query_key_value.query.CopyFrom(tensor(query[None, :, None, :]))
    for side in (request.query_key_value.key, request.query_key_value.value):
        side.CopyFrom(tensor(np.broadcast_to(basis, (1, len(query), 4, 4))))
    position = request.options.position
    position.query_positions.append(1)
    position.key_positions.extend([0] * 4)
    position.rotary.layout = INTERLEAVED if interleaved else HALVES
    position.rotary.linear.factor = 1 / first
    position.rotary.base = (first / second) ** 2
    request.options.scale = 1
    request.options.algorithm = algorithm
    request.outputs.omit_output = True
    request.outputs.maps.append(full_map(stage=outputs_pb.MAP_STAGE_SCALED))
    return request


def outputs_of(case: Case, attend: Attend, algorithm: int) -> dict[str, np.ndarray]:
    """The node's output, from as many calls as it takes."""
    heads = _heads(case)
    turned = heads.copy()  # channels beyond rotary_embedding_dim stay
    interleaved = bool(case.attributes.get("interleaved"))
    for pairs in _pairs(case):
        place = (pairs.batch, slice(None), pairs.token)
        query = heads[place][:, pairs.channels]
        answer = attend(_request(query, pairs, interleaved, algorithm))
        rows = np.stack([array(m.weights)[0] for m in answer.maps])
        turned[place][:, pairs.channels] = rows
    if case.inputs["X"].ndim == 3:
        turned = turned.swapaxes(1, 2).reshape(case.inputs["X"].shape)
    return {"Y": turned}
