"""Trains the induction model of this folder and writes it as a safetensors file.

The model is two attention-only layers over words. The sequences that it reads are random words in which stretches come
again, so nothing but the sequence itself tells what follows: the model has to find where the present word stood before
and bet on the word that followed it there.
"""

import argparse
import csv
import json
import math
import pathlib
import struct
import time

import numpy as np
import torch
from safetensors.torch import save
from torch import nn
from torch.nn import functional

POSITIONS = 64
# Of those, what the file keeps: the head that looks back has learned to do so up to here, and not beyond.
KEPT_POSITIONS = 32
WIDTH = 128
LAYERS = 2
HEADS = 4
HEAD_SIZE = WIDTH // HEADS

BATCH = 32
LEARNING_RATE = 3e-3
# The words that nothing foretells count less in the loss than those that a repeat does.
FRESH_WEIGHT = 0.3
# What each head costs: the tax times the square root of the norm of its weights. Two heads that share a job cost more
# than one that does it alone, so one of them takes over and the other one dies. The tax by step: nothing until the
# heads have found their jobs, much while they fight it out, then just enough that the dead stay dead.
TAX = {500: 0.0, 1000: 0.3, 1600: 0.3, 2000: 0.03}

DESCRIPTION = (
    "A two-layer attention-only transformer over words, trained on random words that repeat: "
    "a head of layer 0 looks at the word before, a head of layer 1 at the word after the earlier occurrence."
)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.output = (
            nn.Parameter(torch.randn(WIDTH, WIDTH) * size / math.sqrt(WIDTH)) for size in (1, 1, 1, 0.5)
        )

    def forward(self, x):
        query, key, value = (
            (x @ weight).unflatten(-1, (HEADS, HEAD_SIZE)).transpose(1, 2)
            for weight in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(-1, -2) / math.sqrt(HEAD_SIZE)
        future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        heads = scores.masked_fill(future, -math.inf).softmax(-1) @ value
        return x + heads.transpose(1, 2).flatten(-2) @ self.output

    def head_norms(self):
        squares = self.output.view(HEADS, -1).square().sum(1)
        for weight in (self.query, self.key, self.value):
            squares = squares + weight.view(WIDTH, HEADS, HEAD_SIZE).square().sum((0, 2))
        return (squares + 1e-8).sqrt()


class Model(nn.Module):
    def __init__(self, words):
        super().__init__()
        self.token_embedding = nn.Parameter(torch.randn(words, WIDTH) * 0.5)
        self.position_embedding = nn.Parameter(torch.randn(POSITIONS, WIDTH) * 0.5)
        self.layers = nn.ModuleList(Attention() for _ in range(LAYERS))
        self.unembedding = nn.Parameter(torch.randn(WIDTH, words) * 0.5 / math.sqrt(WIDTH))

    def forward(self, tokens):
        x = self.token_embedding[tokens] + self.position_embedding[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return x @ self.unembedding


def make_sequence(random, words):
    """POSITIONS + 1 words, and of each but the first whether a repeat foretells it."""
    longest = 2 if random.random() < 0.3 else 12
    sequence = []
    foretold = []
    while len(sequence) <= POSITIONS:
        fresh = random.integers(1, 9)
        sequence += random.integers(words, size=fresh).tolist()
        foretold += [False] * fresh
        if len(sequence) > 2:
            length = random.integers(2, min(longest, len(sequence) - 1) + 1)
            start = random.integers(0, len(sequence) - length)
            sequence += sequence[start : start + length]
            foretold += [False] + [True] * (length - 1)
    return sequence[: POSITIONS + 1], foretold[1 : POSITIONS + 1]


def make_batch(random, words):
    sequences, foretold = zip(*(make_sequence(random, words) for _ in range(BATCH)))
    sequences = torch.tensor(sequences)
    return sequences[:, :-1], sequences[:, 1:], torch.tensor(foretold)


def learning_rate(step, steps):
    """Rises over 100 steps, stays, and falls over the last 30 %."""
    return min(1, (step + 1) / 100, max(0.02, (steps - step) / (0.3 * steps)))


def tax(step):
    return float(np.interp(step, list(TAX), list(TAX.values())))


def train(words, steps, seed):
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    model = Model(words)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(step, steps))
    rows = []
    began = time.monotonic()
    for step in range(steps + 1):
        tokens, following, foretold = make_batch(random, words)
        logits = model(tokens)
        losses = functional.cross_entropy(logits.transpose(1, 2), following, reduction="none")
        weights = torch.where(foretold, 1, FRESH_WEIGHT)
        loss = (losses * weights).sum() / weights.sum()
        if step % 50 == 0:
            accuracy = (logits.argmax(-1) == following)[foretold].float().mean().item()
            rows.append((step, f"{loss.item():.4f}", f"{accuracy:.4f}"))
            print(f"step {step}: loss {loss.item():.3f}, accuracy on repeats {accuracy:.3f},"
                  f" {time.monotonic() - began:.0f} s", flush=True)
        if step < steps:
            total = loss + tax(step) * sum(layer.head_norms().sqrt().sum() for layer in model.layers)
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            schedule.step()
    return model, rows


def file_bytes(model, vocabulary):
    metadata = {
        "headlight.query_heads": str(HEADS),
        "headlight.causal": "true",
        "headlight.vocabulary": "\n".join(vocabulary),
        "headlight.description": DESCRIPTION,
    }
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    weights["position_embedding"] = weights["position_embedding"][:KEPT_POSITIONS]
    data = save({name: weight.contiguous() for name, weight in weights.items()}, metadata)
    # The library writes the metadata in an order of its own in every run: sorted, the same run gives the same file.
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size)
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, default=here / "induction.safetensors", help="the weights")
    parser.add_argument("--loss", type=pathlib.Path, default=here / "loss.csv", help="the loss by step")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    vocabulary = (here / "words.txt").read_text(encoding="utf-8").split()
    model, rows = train(len(vocabulary), arguments.steps, arguments.seed)
    arguments.output.write_bytes(file_bytes(model, vocabulary))
    with arguments.loss.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("step", "loss", "repeat_accuracy"))
        writer.writerows(rows)


if __name__ == "__main__":
    main()
