"""Makes requests of every form."""

import functools
import zlib
from dataclasses import dataclass

import numpy as np
from wire import F32, FIELDS, FLASH, KINDS, options_pb, outputs_pb, service_pb, tensor, tensor_pb

TOP_LEFT = options_pb.CAUSAL_ALIGNMENT_TOP_LEFT
BOTTOM_RIGHT = options_pb.CAUSAL_ALIGNMENT_BOTTOM_RIGHT
EXPLICIT = options_pb.CAUSAL_ALIGNMENT_EXPLICIT
HALVES = options_pb.CHANNEL_LAYOUT_HALVES
INTERLEAVED = options_pb.CHANNEL_LAYOUT_INTERLEAVED
MIB = 2**20


@dataclass
class Sizes:
    """How large a problem is; letters as in reference.py. No key heads: as many as query heads; likewise the rest."""

    heads: int = 2
    tokens: int = 7
    size: int = 8
    batch: int = 1
    key_heads: int = 0
    keys: int = 0
    value_size: int = 0
    width: int = 0
    kind: np.dtype = F32

    def __post_init__(self) -> None:
        self.key_heads = self.key_heads or self.heads
        self.keys = self.keys or self.tokens
        self.value_size = self.value_size or self.size
        self.width = self.width or self.heads * self.size


def normal(rng: np.random.Generator, shape: tuple[int, ...], kind: np.dtype = F32, spread: float = 1) -> np.ndarray:
    return (rng.standard_normal(shape) * spread).astype(kind)


def _joined(heads: np.ndarray, rank: int) -> np.ndarray:
    """[B, H, T, D] in the form of the rank."""
    if rank == 4:
        return heads
    batch, count, tokens, size = heads.shape
    rows = heads.swapaxes(1, 2).reshape(batch, tokens, count * size)
    return rows if rank == 3 else rows[0]


def qkv(rng: np.random.Generator, sizes: Sizes | None = None, rank: int = 4) -> service_pb.AttendRequest:
    """A request with Q, K and V of a rank."""
    s = sizes or Sizes()
    shapes = {
        "query": (s.batch, s.heads, s.tokens, s.size),
        "key": (s.batch, s.key_heads, s.keys, s.size),
        "value": (s.batch, s.key_heads, s.keys, s.value_size),
    }
    request = service_pb.AttendRequest()
    for name, shape in shapes.items():
        given = _joined(normal(rng, shape, s.kind), rank)
        getattr(request.query_key_value, name).CopyFrom(tensor(given))
    if rank != 4:
        request.options.query_heads = s.heads
        request.options.key_value_heads = 0 if s.key_heads == s.heads else s.key_heads
    return request


def set_layer(
    request: service_pb.AttendRequest,
    rng: np.random.Generator,
    sizes: Sizes,
    context_width: int = 0,
    output_width: int | None = None,
    biases: bool = True,
) -> None:
    """Explicit weights; an output width of 0 leaves the output matrix out."""
    s = sizes
    key_width = context_width or s.width
    concat = s.heads * s.value_size
    out = s.width if output_width is None else output_width
    shapes = {
        "query": (s.width, s.heads * s.size),
        "key": (key_width, s.key_heads * s.size),
        "value": (key_width, s.key_heads * s.value_size),
        "output": (concat, out),
    }
    for name, (rows, columns) in shapes.items():
        if columns == 0:
            continue
        matrix = normal(rng, (rows, columns), s.kind, rows**-0.5)
        getattr(request.self_attention.layer_weights, name).CopyFrom(tensor(matrix))
        if biases:
            bias = getattr(request.self_attention.layer_weights, f"{name}_bias")
            bias.CopyFrom(tensor(normal(rng, (columns,), s.kind, 0.5)))
    request.options.query_heads = s.heads
    request.options.key_value_heads = s.key_heads


def embeddings(
    rng: np.random.Generator, sizes: Sizes | None = None, rank: int = 3, seed: int | None = None, **layer
) -> service_pb.AttendRequest:
    """A request with embeddings and explicit weights, or seeded ones where a seed is given."""
    s = sizes or Sizes()
    request = service_pb.AttendRequest()
    shape = (s.batch, s.tokens, s.width) if rank == 3 else (s.tokens, s.width)
    request.self_attention.embeddings.CopyFrom(tensor(normal(rng, shape, s.kind)))
    if seed is None:
        set_layer(request, rng, s, **layer)
    else:
        request.self_attention.seeded_weights.seed = seed
        request.options.query_heads = s.heads
    return request


def cross(
    rng: np.random.Generator, sizes: Sizes, context_width: int, rank: int = 3, **layer
) -> service_pb.AttendRequest:
    """Cross-attention: embeddings over a context of another width."""
    request = embeddings(rng, sizes, rank, context_width=context_width, **layer)
    shape = (sizes.batch, sizes.keys, context_width) if rank == 3 else (sizes.keys, context_width)
    request.self_attention.context.CopyFrom(tensor(normal(rng, shape, sizes.kind)))
    return request


def seeded(tokens: int, width: int, heads: int, seed: int = 1) -> service_pb.AttendRequest:
    """Embeddings and weights that the server makes: a small message for a problem of any size."""
    request = service_pb.AttendRequest()
    source = request.self_attention.seeded_embeddings
    source.seed, source.tokens, source.width = seed, tokens, width
    request.self_attention.seeded_weights.seed = seed + 1
    request.options.query_heads = heads
    return request


def full_map(**selection) -> outputs_pb.WeightMaps:
    return outputs_pb.WeightMaps(full=outputs_pb.FullMap(), **selection)


def top_keys(k: int, **selection) -> outputs_pb.WeightMaps:
    return outputs_pb.WeightMaps(top_keys=outputs_pb.TopKeys(k=k), **selection)


def pooled(rows: int, columns: int, reducer: int, /, **selection) -> outputs_pb.WeightMaps:
    form = outputs_pb.PooledMap(rows=rows, columns=columns, reducer=reducer)
    return outputs_pb.WeightMaps(pooled=form, **selection)


def column_sums(**selection) -> outputs_pb.WeightMaps:
    return outputs_pb.WeightMaps(column_sums=outputs_pb.ColumnSums(), **selection)


def everything(request: service_pb.AttendRequest) -> service_pb.AttendRequest:
    """The same request, asking for all that it can give."""
    asking = service_pb.AttendRequest()
    asking.CopyFrom(request)
    asking.outputs.log_sum_exp = True
    asking.outputs.head_outputs = True
    asking.outputs.maps.append(full_map())
    return asking


def with_algorithm(request: service_pb.AttendRequest, algorithm: int) -> service_pb.AttendRequest:
    asking = service_pb.AttendRequest()
    asking.CopyFrom(request)
    asking.options.algorithm = algorithm
    return asking


SPEC_KINDS = {
    **{FIELDS[kind]: number for kind, number in KINDS.items()},
    "f32_values": tensor_pb.TENSOR_KIND_F32,
    "bool_u8": tensor_pb.TENSOR_KIND_BOOL,
}


def spec_of(message: tensor_pb.Tensor) -> tensor_pb.TensorSpec:
    """The tensor without its data."""
    return tensor_pb.TensorSpec(shape=message.shape, kind=SPEC_KINDS.get(message.WhichOneof("data"), 0))


def _copy_without_data(message, twin) -> None:
    """Fields to the fields of the same name, tensors as specs."""
    for field, value in message.ListFields():
        if field.name not in twin.DESCRIPTOR.fields_by_name:
            continue
        if field.message_type is None:
            setattr(twin, field.name, value)
        elif field.message_type == twin.DESCRIPTOR.fields_by_name[field.name].message_type:
            getattr(twin, field.name).CopyFrom(value)
        elif field.message_type == tensor_pb.Tensor.DESCRIPTOR:
            getattr(twin, field.name).CopyFrom(spec_of(value))
        else:
            getattr(twin, field.name).SetInParent()
            _copy_without_data(value, getattr(twin, field.name))


def plan_of(request: service_pb.AttendRequest) -> service_pb.PlanAttentionRequest:
    """The request that plans this one; labels have no place in it."""
    plan = service_pb.PlanAttentionRequest()
    _copy_without_data(request, plan)
    mask, position = plan.options.mask, plan.options.position
    if mask.HasField("tensor"):
        plan.mask_tensor.CopyFrom(spec_of(mask.tensor))
        mask.ClearField("tensor")
    if position.WhichOneof("scheme") == "learned" and position.learned.HasField("table"):
        plan.learned_table.CopyFrom(spec_of(position.learned.table))
        position.learned.ClearField("table")
    return plan


def canary() -> service_pb.AttendRequest:
    """A fixed call of several tiles with tails, causal, with rotary positions."""
    request = seeded(tokens=150, width=48, heads=3, seed=7)
    request.options.algorithm = FLASH
    request.options.position.rotary.layout = INTERLEAVED
    request.options.mask.causal.alignment = TOP_LEFT
    return everything(request)


def bits(answer: service_pb.AttendResponse) -> bytes:
    """All of an answer but how long it took and what it cost."""
    kept = service_pb.AttendResponse()
    kept.CopyFrom(answer)
    kept.ClearField("execution")
    return kept.SerializeToString(deterministic=True)


@functools.cache
def bomb(mebibytes: int, wbits: int) -> bytes:
    """A valid AttendRequest, mostly zeros: Q of this size, compressed a thousandfold."""
    size = mebibytes * MIB
    message = service_pb.AttendRequest.DESCRIPTOR
    tags = []
    for name in ("query_key_value", "query", "f32_le"):
        tags.append(message.fields_by_name[name].number << 3 | 2)
        message = message.fields_by_name[name].message_type
    head = b""
    for tag in reversed(tags):
        head = bytes([tag]) + varint(size + len(head)) + head
    pack = zlib.compressobj(9, zlib.DEFLATED, wbits)
    packed = pack.compress(head) + b"".join(pack.compress(bytes(MIB)) for _ in range(mebibytes)) + pack.flush()
    return packed


def varint(value: int) -> bytes:
    data = b""
    while value >= 0x80:
        data += bytes([value & 0x7F | 0x80])
        value >>= 7
    return data + bytes([value])
