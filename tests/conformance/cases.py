"""The node cases that the onnx package generates for Attention and RotaryEmbedding."""

import warnings
from dataclasses import dataclass

import numpy as np
import onnx
from onnx.backend.test.case.node import collect_testcases

PREFIXES = ("test_attention", "test_rotary_embedding")


@dataclass
class Case:
    """One node with one set of data."""

    name: str
    attributes: dict[str, object]
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    rtol: float
    atol: float


def _case(found) -> Case:
    (node,) = found.model.graph.node
    ((inputs, outputs),) = found.data_sets
    schema = onnx.defs.get_schema(node.op_type, found.model.opset_import[0].version)

    def named(given: list[str], formal, arrays: list) -> dict[str, np.ndarray]:
        names = [parameter.name for name, parameter in zip(given, formal, strict=False) if name]
        return {name: np.asarray(array) for name, array in zip(names, arrays, strict=True)}

    return Case(
        name=found.name,
        attributes={a.name: onnx.helper.get_attribute_value(a) for a in node.attribute},
        inputs=named(node.input, schema.inputs, inputs),
        outputs=named(node.output, schema.outputs, outputs),
        rtol=found.rtol,
        atol=found.atol,
    )


def _collect() -> list[Case]:
    """Without the twins that spell the operator out in smaller ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnx makes cases of all operators, some with a word
        every = collect_testcases(None)
    return [_case(c) for c in every if c.name.startswith(PREFIXES) and "_expanded" not in c.name]


CASES = _collect()
ATTENTION = [case for case in CASES if case.name.startswith("test_attention")]
ROTARY = [case for case in CASES if case.name.startswith("test_rotary_embedding")]
