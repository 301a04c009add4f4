"""Does the model copy? Top-1 on a word that has already been said in the text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch

from folio.data.tales import CopyProbe
from folio.model.decoder import Decoder
from folio.text.tokenizer import Tokenizer


@torch.no_grad()
def copy_accuracy(
    model: Decoder,
    tokenizer: Tokenizer,
    probes: Sequence[CopyProbe],
    batch: int = 64,
) -> dict[str, float]:
    """Share of probes, by kind, whose next token is predicted: {"copy_name": 0.4, ..}.

    Only the first token of the repeated word counts. The end of a long prefix is
    what the model sees, at most max_seq_len tokens; a probe counts whether or not the
    word's earlier mention is still among them.
    """
    limit, device = model.config.max_seq_len, model.embedding.weight.device
    was_training = model.training
    model.eval()
    right: dict[str, list[bool]] = defaultdict(list)
    for first in range(0, len(probes), batch):
        group = probes[first : first + batch]
        rows = [tokenizer.encode(probe.prefix)[-limit:] for probe in group]
        width = max(map(len, rows))
        padded = torch.zeros(len(rows), width, dtype=torch.long, device=device)
        for i, row in enumerate(rows):  # padding comes after: nothing can look at it
            padded[i, : len(row)] = torch.tensor(row)
        guesses = model(padded).logits.argmax(-1)  # (B, T)
        for i, (probe, row) in enumerate(zip(group, rows, strict=True)):
            wanted = tokenizer.encode(f" {probe.answer}")[0]
            right[probe.kind].append(guesses[i, len(row) - 1].item() == wanted)
    model.train(was_training)
    return {
        f"copy_{kind}": sum(hits) / len(hits) for kind, hits in sorted(right.items())
    }
