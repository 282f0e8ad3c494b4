"""ONNX's Attention as AttendRequests, and the answers as its outputs."""

import numpy as np
from cases import Case
from make import BOTTOM_RIGHT, EXPLICIT, TOP_LEFT, full_map
from wire import array, options_pb, outputs_pb, service_pb, tensor

# qk_matmul_output_mode to the stage that holds the same numbers.
STAGES = [
    outputs_pb.MAP_STAGE_SCALED,
    outputs_pb.MAP_STAGE_SOFTCAPPED,
    outputs_pb.MAP_STAGE_BIASED,
    outputs_pb.MAP_STAGE_WEIGHTS,
]


def _split(joined: np.ndarray, heads: int) -> np.ndarray:
    """[B, T, H x D] to [B, H, T, D]."""
    batch, tokens, width = joined.shape
    return joined.reshape(batch, tokens, heads, width // heads).swapaxes(1, 2)


def _join(heads: np.ndarray) -> np.ndarray:
    batch, count, tokens, size = heads.shape
    return heads.swapaxes(1, 2).reshape(batch, tokens, count * size)


def present(case: Case, name: str) -> np.ndarray:
    """The past and the new keys, or values, one after the other: the client keeps the cache. [B, H, T, D]."""
    new = case.inputs["K" if name == "key" else "V"]
    if new.ndim == 3:
        new = _split(new, case.attributes["kv_num_heads"])
    past = case.inputs.get(f"past_{name}")
    return new if past is None else np.concatenate([past, new], axis=2)


def _in_rank_of_query(case: Case, heads: np.ndarray) -> np.ndarray:
    return heads if case.inputs["Q"].ndim == 4 else _join(heads)


def _diagonal(case: Case) -> dict[str, int]:
    """Where ONNX puts row 0: behind the past, at length - queries in a cache that has lengths, else at key 0."""
    if "nonpad_kv_seqlen" in case.inputs:
        return {"alignment": BOTTOM_RIGHT}
    if "past_key" in case.inputs:
        return {"alignment": EXPLICIT, "offset": case.inputs["past_key"].shape[2]}
    return {"alignment": TOP_LEFT}


def _mask(case: Case) -> options_pb.Mask:
    mask = options_pb.Mask()
    causal = bool(case.attributes.get("is_causal"))
    if causal:
        mask.causal.CopyFrom(options_pb.CausalMask(**_diagonal(case)))
    sides = {side: case.attributes.get(f"{side}_window_size", -1) for side in ("left", "right")}
    sides = {side: size for side, size in sides.items() if size >= 0}  # -1 means unbounded
    if sides:
        mask.window.CopyFrom(options_pb.WindowMask(**sides, **({} if causal else _diagonal(case))))
    if "attn_mask" in case.inputs:
        mask.tensor.CopyFrom(tensor(case.inputs["attn_mask"]))
    mask.key_lengths.extend(case.inputs.get("nonpad_kv_seqlen", np.array([], dtype=np.int64)).tolist())
    return mask


def request_of(case: Case, algorithm: int) -> service_pb.AttendRequest:
    """The case's call. softmax_precision needs no field: the softmax is in float32 at least."""
    request = service_pb.AttendRequest()
    request.query_key_value.query.CopyFrom(tensor(case.inputs["Q"]))
    for name in ("key", "value"):
        whole = _in_rank_of_query(case, present(case, name))
        getattr(request.query_key_value, name).CopyFrom(tensor(whole))
    options = request.options
    options.query_heads = case.attributes.get("q_num_heads", 0)
    options.key_value_heads = case.attributes.get("kv_num_heads", 0)
    options.algorithm = algorithm
    options.mask.CopyFrom(_mask(case))
    for name in ("scale", "softcap"):
        if case.attributes.get(name):
            setattr(options, name, case.attributes[name])
    if "qk_matmul_output" in case.outputs:
        stage = STAGES[case.attributes.get("qk_matmul_output_mode", 0)]
        request.outputs.maps.append(full_map(stage=stage))
    return request


def outputs_of(case: Case, answer: service_pb.AttendResponse) -> dict[str, np.ndarray]:
    """The node's outputs, as far as the case has them."""
    outputs = {"Y": array(answer.output)}
    for name in ("key", "value"):
        if f"present_{name}" in case.outputs:
            outputs[f"present_{name}"] = present(case, name)
    if "qk_matmul_output" in case.outputs:
        batch, heads = case.outputs["qk_matmul_output"].shape[:2]
        maps = [array(m.weights) for m in answer.maps]
        outputs["qk_matmul_output"] = np.stack(maps).reshape(batch, heads, *maps[0].shape)
    return outputs


def exact_outputs(case: Case, expected) -> dict[str, np.ndarray]:
    """The same in float64, from the reference's answer to the case's call."""
    outputs = {"Y": expected.output}
    if "qk_matmul_output" in case.outputs:
        outputs["qk_matmul_output"] = expected.stage(STAGES[case.attributes.get("qk_matmul_output_mode", 0)])
    return outputs
