"""Measures the induction model of this folder from its file alone."""

import argparse
import pathlib

import numpy as np
from safetensors import safe_open

PROMPT = "Mr and Mrs Potter thanked the driver ; then Mrs"


class Model:
    def __init__(self, path):
        with safe_open(path, "np") as file:
            metadata = file.metadata()
            self.tensors = {name: file.get_tensor(name).astype(np.float64) for name in file.keys()}
        self.vocabulary = metadata["headlight.vocabulary"].split("\n")
        self.ids = {word: index for index, word in enumerate(self.vocabulary)}
        self.heads = int(metadata["headlight.query_heads"])
        self.head_size = self.tensors["layers.0.query"].shape[1] // self.heads

    def head(self, layer, head):
        """W_Q, W_K, W_V [E, D] and W_O [D, E] of one head."""
        columns = slice(head * self.head_size, (head + 1) * self.head_size)
        query, key, value = (self.tensors[f"layers.{layer}.{name}"][:, columns] for name in ("query", "key", "value"))
        return query, key, value, self.tensors[f"layers.{layer}.output"][columns]

    def run(self, tokens, without=()):
        """Logits [length, V] and attention by (layer, head). The heads in `without` add nothing to the residual."""
        x = self.tensors["token_embedding"][tokens] + self.tensors["position_embedding"][: len(tokens)]
        attention = {}
        for layer in range(2):
            added = np.zeros_like(x)
            for head in range(self.heads):
                query, key, value, output = self.head(layer, head)
                scores = (x @ query) @ (x @ key).T / np.sqrt(self.head_size)
                scores[np.triu_indices(len(tokens), 1)] = -np.inf
                weights = np.exp(scores - scores.max(1, keepdims=True))
                weights /= weights.sum(1, keepdims=True)
                attention[layer, head] = weights
                if (layer, head) not in without:
                    added += weights @ (x @ value) @ output
            x = x + added
        return x @ self.tensors["unembedding"], attention

    def composition(self, first, second):
        """How much of what head `first` of layer 0 writes reaches the keys of head `second` of layer 1."""
        _, _, value, output = self.head(0, first)
        query, key, _, _ = self.head(1, second)
        writes, reads = value @ output, query @ key.T
        return np.linalg.norm(writes @ reads.T) / (np.linalg.norm(writes) * np.linalg.norm(reads))


def probabilities(logits):
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def make_repeats(model, count, seed):
    """Random distinct words, of which the last is replaced by one of those before: (tokens, where it stood before)."""
    random = np.random.default_rng(seed)
    repeats = []
    for _ in range(count):
        length = random.integers(10, len(model.tensors["position_embedding"]) + 1)
        tokens = random.permutation(len(model.vocabulary))[:length]
        place = random.integers(0, length - 2)
        tokens[-1] = tokens[place]
        repeats.append((tokens, place))
    return repeats


def success(model, repeats, without=()):
    return np.mean([model.run(tokens, without)[0][-1].argmax() == tokens[place + 1] for tokens, place in repeats])


def success_by_place(model, count, seed):
    """Success where prompts are as long as the model can read, by where the word stood before."""
    random = np.random.default_rng(seed)
    length = len(model.tensors["position_embedding"])
    rates = {}
    for first in range(0, length, 16):
        found = 0
        for _ in range(count):
            tokens = random.permutation(len(model.vocabulary))[:length]
            place = random.integers(first, min(first + 16, length - 2))
            tokens[-1] = tokens[place]
            found += model.run(tokens)[0][-1].argmax() == tokens[place + 1]
        rates[f"{first}-{min(first + 15, length - 3)}"] = round(float(found / count), 2)
    return rates


def bets(model, text, without=(), count=3):
    logits = model.run([model.ids[word] for word in text.split()], without)[0][-1]
    chances = probabilities(logits)
    best = np.argsort(-logits)[:count]
    return ", ".join(f"{model.vocabulary[i]} {chances[i]:.3f} (logit {logits[i]:.2f})" for i in best)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    file = pathlib.Path(__file__).resolve().parent / "induction.safetensors"
    parser.add_argument("file", nargs="?", type=pathlib.Path, default=file)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    model = Model(arguments.file)
    repeats = make_repeats(model, arguments.repeats, arguments.seed)
    heads = range(model.heads)

    previous = np.zeros(model.heads)
    induction = np.zeros(model.heads)
    chances, unfounded = [], []
    for tokens, place in repeats:
        logits, attention = model.run(tokens)
        previous += [np.diagonal(attention[0, head], -1).mean() for head in heads]
        induction += [attention[1, head][-1, place + 1] for head in heads]
        found = probabilities(logits)
        chances.append(found[-1, tokens[place + 1]])
        unfounded.append(found[:-1].max(-1).mean())
    previous /= len(repeats)
    induction /= len(repeats)
    composition = np.array([[model.composition(first, second) for second in heads] for first in heads])
    pair = tuple(int(i) for i in np.unravel_index(composition.argmax(), composition.shape))

    print("previous-token score of layer 0's heads:", previous.round(3))
    print("induction score of layer 1's heads:", induction.round(3))
    print("K-composition, by head of layer 0 (rows) and of layer 1 (columns):")
    print(composition.round(3))
    print(f"the pair with the most K-composition: (0, {pair[0]}) and (1, {pair[1]});"
          f" most previous-token: (0, {previous.argmax()}); most induction: (1, {induction.argmax()})")
    print(f"chance that it gives the right word after a repeat, mean: {np.mean(chances):.3f}")
    print(f"chance that it gives its best bet where nothing repeats, mean: {np.mean(unfounded):.3f}")
    print("success in the longest prompts, by the earlier occurrence's position:",
          success_by_place(model, 200, arguments.seed))
    print(f"success over {len(repeats)} repeats, and the bets after \"{PROMPT}\":")
    for without in [()] + [((layer, head),) for layer in range(2) for head in heads]:
        name = f"without {without[0]}" if without else "all heads"
        print(f"  {name:14} {success(model, repeats, without):6.1%}  {bets(model, PROMPT, without)}")


if __name__ == "__main__":
    main()
