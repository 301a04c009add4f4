"""Scores of answers by a reward model, the same whatever else is scored beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from folio.config import UserError
from folio.data.records import Messages
from folio.data.rows import encode, make_row, pad_id
from folio.model.scorer import Scorer, score_rows
from folio.text.tokenizer import Tokenizer

Say = Callable[[str], None]
Answered = tuple[Messages, str]  # what was said before, and the answer

Score = Callable[[Sequence[Answered]], list[float]]


def scores_with(
    model: Scorer, tokenizer: Tokenizer, max_batch: int = 64, say: Say = print
) -> Score:
    """How this model scores answers: its value at the end of each one's turn.

    Batches hold texts of like length. A text that is longer than the context loses
    its beginning; `say` is told how many do. The model is left as it was.
    """
    limit, pad = model.shape.max_seq_len, pad_id(tokenizer)

    def score(answered: Sequence[Answered]) -> list[float]:
        rows = [ids_of(messages, answer, tokenizer) for messages, answer in answered]
        too_long = sum(len(ids) > limit for ids in rows)
        if too_long:
            say(
                f"{too_long} of {len(rows)} texts to be scored lost their beginning: "
                f"they are longer than the context of {limit} tokens"
            )
        rows = [ids[-limit:] for ids in rows]
        scores = [0.0] * len(rows)
        by_length = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        for first in range(0, len(rows), max_batch):
            group = by_length[first : first + max_batch]
            found = score_rows(model, [rows[i] for i in group], pad)
            for i, value in zip(group, found.tolist(), strict=True):
                scores[i] = value
        if not all(map(math.isfinite, scores)):
            raise UserError("this reward model's scores are not finite: it is broken")
        return scores

    return score


def ids_of(messages: Messages, answer: str, tokenizer: Tokenizer) -> list[int]:
    """The conversation with its answer, up to the token that ends the answer's turn."""
    said = [*messages, {"role": "assistant", "content": answer}]
    return make_row(*encode(said, tokenizer)).ids.tolist()
