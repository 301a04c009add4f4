"""The copy probe: a model that copies scores one, a model that can't scores nothing."""

import torch
from torch import nn

from folio.data.tales import CopyProbe, copy_probes
from folio.evals.copying import copy_accuracy
from folio.model.config import ModelConfig
from folio.model.decoder import Output
from folio.text.byte import ByteTokenizer


class Oracle(nn.Module):
    """Knows, for each prefix, which byte comes next; for all else, says byte 0."""

    def __init__(self, answers: dict[tuple[int, ...], int], limit: int):
        super().__init__()
        self.config = ModelConfig(vocab_size=300, max_seq_len=limit)
        self.embedding = nn.Embedding(300, 4)
        self.answers = answers

    def forward(self, tokens):
        logits = torch.zeros(*tokens.shape, 300)
        for row, ids in enumerate(tokens.tolist()):
            for length in range(1, len(ids) + 1):
                answer = self.answers.get(tuple(ids[:length]))
                if answer is not None:
                    logits[row, length - 1, answer] = 1.0
        return Output(logits=logits)


def test_only_the_right_word_at_the_right_place_counts():
    tokenizer = ByteTokenizer()
    probes = [
        CopyProbe("Mara ran. So", "Mara", "name"),
        CopyProbe("Tom has a kite. The", "kite", "object"),
        CopyProbe("A kite, the", "kite", "object"),
    ]
    space = tokenizer.encode(" ")[0]
    answers = {tuple(tokenizer.encode(probe.prefix)): space for probe in probes[:2]}
    scores = copy_accuracy(Oracle(answers, limit=64), tokenizer, probes, batch=2)
    assert scores == {"copy_name": 1.0, "copy_object": 0.5}


def test_a_long_prefix_keeps_its_end():
    tokenizer = ByteTokenizer()
    probe = CopyProbe("x" * 100 + " end", "end", "object")
    answers = {tuple(tokenizer.encode(probe.prefix)[-16:]): tokenizer.encode(" ")[0]}
    assert copy_accuracy(Oracle(answers, limit=16), tokenizer, [probe]) == {
        "copy_object": 1.0
    }


def test_the_world_gives_probes_of_both_kinds():
    probes = copy_probes(seed=0, count=20)
    assert {probe.kind for probe in probes} == {"name", "object"}
    for probe in probes:
        assert probe.answer in probe.prefix
