"""Attention of ONNX Runtime as a model of Triton's Python backend. `threads` is a parameter of the model's config."""

import json
import os
import sys
from pathlib import Path

# The backend's interpreter does not heed it by itself, and all that follows is found by it.
sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)
import onnxruntime  # noqa: E402
import triton_python_backend_utils as triton  # noqa: E402

INPUTS = ("query", "key", "value")


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(config["parameters"]["threads"]["string_value"])
        model = Path(args["model_repository"]) / args["model_version"] / "attention.onnx"
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def execute(self, requests: list) -> list:
        answers = []
        for request in requests:
            given = {name: triton.get_input_tensor_by_name(request, name).as_numpy() for name in INPUTS}
            (output,) = self.session.run(["output"], given)
            answers.append(triton.InferenceResponse([triton.Tensor("output", output)]))
        return answers
