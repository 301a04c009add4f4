"""A GPT that learns, in NumPy: every product and every gradient is in this folder.

    python -m folio.scratch.gpt mytext.txt

reads a text, learns its characters for some minutes on one core, and writes on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from folio.scratch.autograd import (
    Tensor,
    cross_entropy,
    gelu,
    layer_norm,
    softmax,
)


@dataclass(frozen=True)
class Shape:
    """V characters, T of them at most, vectors of D numbers, L layers of H heads."""

    vocab_size: int
    max_seq_len: int = 32
    d_model: int = 48
    n_layers: int = 2
    n_heads: int = 4


class GPT:
    """A decoder-only transformer; its weights lie in one table, by name."""

    def __init__(self, shape: Shape, seed: int = 0):
        self.shape = shape
        chance, d = np.random.default_rng(seed), shape.d_model

        def matrix(rows: int, columns: int, std: float = 0.02) -> Tensor:
            return Tensor(chance.normal(0.0, std, (rows, columns)))

        # what writes into the residual stream is smaller the more layers there are
        small = 0.02 / (2 * shape.n_layers) ** 0.5
        self.weights = {
            "embedding": matrix(shape.vocab_size, d),
            "positions": matrix(shape.max_seq_len, d),
            "norm": Tensor(np.ones(d)),
        }
        for i in range(shape.n_layers):
            self.weights |= {
                f"{i}.attention_norm": Tensor(np.ones(d)),
                f"{i}.query": matrix(d, d),
                f"{i}.key": matrix(d, d),
                f"{i}.value": matrix(d, d),
                f"{i}.out": matrix(d, d, small),
                f"{i}.mlp_norm": Tensor(np.ones(d)),
                f"{i}.up": matrix(d, 4 * d),
                f"{i}.down": matrix(4 * d, d, small),
            }

    def __call__(self, tokens: np.ndarray) -> Tensor:
        """Ids (B, T) -> scores (B, T, V) of what comes next at each place."""
        weights, length = self.weights, tokens.shape[1]
        x = weights["embedding"][tokens] + weights["positions"][np.arange(length)]
        for i in range(self.shape.n_layers):
            x = x + self.attention(layer_norm(x, weights[f"{i}.attention_norm"]), i)
            x = x + self.think(layer_norm(x, weights[f"{i}.mlp_norm"]), i)
        x = layer_norm(x, weights["norm"])
        return x @ weights["embedding"].swap(0, 1)  # the head is the embedding, turned

    def attention(self, x: Tensor, layer: int) -> Tensor:
        """All heads at once, side by side in one more dimension."""
        b, t, d = x.shape
        h = self.shape.n_heads

        def heads(name: str) -> Tensor:  # (B, T, D) -> (B, H, T, D / H)
            y = x @ self.weights[f"{layer}.{name}"]
            return y.reshape(b, t, h, d // h).swap(1, 2)

        scores = heads("query") @ heads("key").swap(-1, -2) * (d // h) ** -0.5
        ahead = np.triu(np.full((t, t), -1e9), k=1)  # exp of it is 0
        y = softmax(scores + ahead) @ heads("value")  # (B, H, T, D / H)
        return y.swap(1, 2).reshape(b, t, d) @ self.weights[f"{layer}.out"]

    def think(self, x: Tensor, layer: int) -> Tensor:
        """The feed-forward part: each token by itself."""
        wide = gelu(x @ self.weights[f"{layer}.up"])
        return wide @ self.weights[f"{layer}.down"]


class AdamW:
    """Steps of even size in every number (Loshchilov & Hutter 2019).

    Matrices shrink a little at each step, vectors (the norms' gains) don't.
    """

    def __init__(
        self,
        weights: dict[str, Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.95),
        decay: float = 0.1,
        eps: float = 1e-8,
    ):
        self.weights, self.lr, self.betas = weights, lr, betas
        self.decay, self.eps, self.steps = decay, eps, 0
        self.mean = {name: np.zeros_like(w.data) for name, w in weights.items()}
        self.square = {name: np.zeros_like(w.data) for name, w in weights.items()}

    def step(self) -> None:
        """Move every weight against its gradient, and forget the gradient."""
        self.steps += 1
        first, second = (1 - beta**self.steps for beta in self.betas)
        for name, weight in self.weights.items():
            gradient, weight.grad = weight.grad, None
            mean, square = self.mean[name], self.square[name]
            mean += (1 - self.betas[0]) * (gradient - mean)
            square += (1 - self.betas[1]) * (gradient**2 - square)
            if weight.data.ndim > 1:
                weight.data *= 1 - self.lr * self.decay
            size = np.sqrt(square / second) + self.eps
            weight.data -= self.lr * (mean / first) / size


def batches(
    ids: np.ndarray, rows: int, length: int, seed: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Random pieces of the text, and the same moved on by one: what comes next."""
    chance = np.random.default_rng(seed)
    while True:
        starts = chance.integers(0, len(ids) - length, rows)
        pieces = np.stack([ids[s : s + length + 1] for s in starts])
        yield pieces[:, :-1], pieces[:, 1:]


def train(
    model: GPT, ids: np.ndarray, steps: int, rows: int = 16, lr: float = 3e-3
) -> Iterator[float]:
    """Learn from a text; yields the loss of each step."""
    optimizer = AdamW(model.weights, lr)
    stream = batches(ids, rows, model.shape.max_seq_len)
    for step in range(steps):
        optimizer.lr = lr * min(1.0, (step + 1) / 20) * (1 - step / steps)
        tokens, targets = next(stream)
        loss = cross_entropy(model(tokens), targets)
        loss.backward()
        optimizer.step()
        yield float(loss.data)


def sample(
    model: GPT, ids: list[int], count: int, temperature: float = 0.8, seed: int = 0
) -> list[int]:
    """Write on: choose a next character by its chances, add it, ask again."""
    chance, ids = np.random.default_rng(seed), list(ids)
    for _ in range(count):
        seen = np.array([ids[-model.shape.max_seq_len :]])
        scores = model(seen).data[0, -1] / temperature
        chances = np.exp(scores - scores.max())
        ids.append(int(chance.choice(len(chances), p=chances / chances.sum())))
    return ids


def main(path: str, steps: int = 1000) -> None:
    """Learn a text and write on from its first character."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    characters = sorted(set(text))
    ids = np.array([characters.index(c) for c in text])
    model = GPT(Shape(vocab_size=len(characters)))
    for step, loss in enumerate(train(model, ids, steps), 1):
        if step == 1 or step % 100 == 0:
            written = sample(model, [int(ids[0])], 80)
            print(f"step {step:5}  loss {loss:.3f}")
            print("   ", "".join(characters[i] for i in written).replace("\n", " / "))


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:3]))
