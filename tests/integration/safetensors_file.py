"""Safetensors files of numpy arrays, written by hand."""

import json
import struct

import numpy as np
from wire import BF16, F16, F32

DTYPES = {F32: "F32", F16: "F16", BF16: "BF16"}


def file_of(tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> bytes:
    """Tensors in the order in which they are given."""
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name, array in tensors.items():
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": DTYPES[array.dtype], "shape": list(array.shape), "data_offsets": offsets}
        data += np.ascontiguousarray(array).tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data
