"""Arrays of every kind and origin to messages and back."""

import importlib
import sys

import headlight
import ml_dtypes
import numpy as np
import pytest
from headlight import tensors
from headlight.v1 import tensor_pb2


class OnlyDlpack:
    """An array that numpy can only read through DLPack."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class OnlyArray:
    """An array-like with __array__ alone."""

    def __array__(self, dtype=None, copy=None):
        return np.arange(6, dtype=np.float16).reshape(2, 3)


@pytest.mark.parametrize("kind", [np.float32, np.float16, ml_dtypes.bfloat16, np.bool_])
def test_round_trip(kind) -> None:
    array = (np.arange(24).reshape(2, 3, 4) % 5).astype(kind)
    message = headlight.to_tensor(array)
    back = headlight.to_array(message)
    assert back.dtype == array.dtype and np.array_equal(back, array)
    assert headlight.to_spec(array).kind == headlight.to_spec(message).kind == tensors.kind_of(message)
    assert not back.flags.writeable and not back.flags.owndata


def test_origins() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    for value in (array.astype(">f4"), OnlyDlpack(array), array.tolist(), array.astype(np.float64), array.astype(int)):
        back = headlight.to_array(headlight.to_tensor(value))
        assert back.dtype == np.float32 and np.array_equal(back, array)
    assert headlight.to_array(headlight.to_tensor(OnlyArray())).dtype == np.float16
    assert np.array_equal(headlight.to_array(headlight.to_tensor(array.T)), array.T)
    message = headlight.to_tensor(array)
    assert headlight.to_tensor(message) is message
    values = tensor_pb2.Tensor(shape=[2], f32_values=tensor_pb2.FloatValues(values=[1, 2]))
    assert np.array_equal(headlight.to_array(values), [1, 2])


def test_answers_are_views(client) -> None:
    """Read-only views of bytes that are read from the message once; nothing of numpy's own."""
    query = np.ones((1, 2, 5, 4), np.float32)
    answer = client.attend(query, query, query, maps=True)
    root = answer.output
    while isinstance(root, np.ndarray):
        assert not root.flags.owndata and not root.flags.writeable
        root = root.base
    assert isinstance(root, bytes) and root == answer.message.output.f32_le
    assert np.shares_memory(answer.output, np.frombuffer(root, np.uint8))
    assert answer.output is answer.output and answer.maps[0].weights is answer.maps[0].weights
    with pytest.raises(ValueError, match="read-only"):
        answer.output[0] = 1


def test_bfloat16_without_ml_dtypes(monkeypatch) -> None:
    """The numbers are widened exactly."""
    array = np.array([1.5, -3.0, 1e30, np.inf], np.float32).astype(ml_dtypes.bfloat16)
    message = headlight.to_tensor(array)
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    importlib.reload(tensors)
    try:
        back = tensors.to_array(message)
    finally:
        monkeypatch.undo()
        importlib.reload(tensors)
    assert back.dtype == np.float32 and np.array_equal(back, array.astype(np.float32)) and not back.flags.writeable


@pytest.mark.parametrize(
    "message", [tensor_pb2.Tensor(shape=[1]), tensor_pb2.Tensor(shape=[3], f32_le=b"1234"),
                tensor_pb2.Tensor(shape=[1], f16_le=b"123")]
)  # fmt: skip
def test_broken_messages(message) -> None:
    with pytest.raises(ValueError):
        headlight.to_array(message)


@pytest.mark.parametrize(("short", "long"), [("f32", "float32"), ("f16", "float16"), ("bf16", "bfloat16"), ("bool", "bool")])
def test_specs_know_short_names(short, long) -> None:
    assert tensors.to_spec(tensors.Spec((2, 3), short)) == tensors.to_spec(tensors.Spec((2, 3), long))


@pytest.mark.parametrize("kind", ["nonsense", "F16", "float64"])
def test_specs_of_no_kind(kind) -> None:
    with pytest.raises(ValueError, match=kind):
        tensors.to_spec(tensors.Spec((2, 3), kind))


class OnlyDlpack:
    """What has neither a dtype nor __array__."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **keywords: object) -> object:
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self) -> object:
        return self.array.__dlpack_device__()


def test_specs_of_what_tensors_take() -> None:
    assert tensors.to_spec(OnlyDlpack(np.ones((2, 3), np.float16))) == tensors.to_spec(tensors.Spec((2, 3), "f16"))
    for value in (np.ones(2, complex), np.array(["a"])):
        for convert in (tensors.to_spec, tensors.to_tensor):
            with pytest.raises(TypeError, match="cannot hold"):
                convert(value)
