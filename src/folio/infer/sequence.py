"""One sample of one request, as the engine sees it."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import torch
from torch import Tensor

from folio.config import UserError
from folio.infer.request import Event, Finish, Handle, Token
from folio.infer.steering import Steer
from folio.infer.stopping import StopStrings
from folio.text.tokenizer import Tokenizer


class Sequence:
    """Ids so far, how many of them are read, and what of the text is out.

    The first `computed` ids have their keys and values in pages. The prompt is read in
    chunks, every later token by itself; after a preemption tokens that were chosen
    before are read again in the same two ways, so that the same numbers come out.
    """

    def __init__(
        self,
        handle: Handle,
        index: int,
        names: list[bytes],
        most: int,
        ends: frozenset[int],
        tokenizer: Tokenizer | None,
    ):
        """`names` are those of the prompt's full pages, `most` ids may be added."""
        request = handle.request
        self.handle, self.index, self.names, self.ends = handle, index, names, ends
        self.sampling, self.top = request.sampling, request.top
        self.ids = list(handle.prompt)
        self.prompt_length, self.length_limit = len(self.ids), len(self.ids) + most
        self.computed = 0
        self.row: int | None = None  # of the page table, while it runs
        self.finished = self.preempted = False
        # Chances of its own, whatever its neighbors; text makes seeds 1, 2, .. unlike
        self.chances = random.Random(f"{request.seed} {index}")
        self.chance: float | None = None
        self.steer = Steer(request.steering) if request.steering else None
        self.trouble: Exception | None = None  # of its own steering, not the batch's
        self.stop = StopStrings(request.stop)
        self.decoder = None
        if tokenizer is not None:
            self.decoder = tokenizer.stream_decoder(special=False, continued=True)
        self.seen: Tensor | None = None  # (V,) bool, for a repetition penalty

    @property
    def reading_prompt(self) -> bool:
        return self.computed < self.prompt_length

    @property
    def wants_token(self) -> bool:
        """Whether all that was said is read, so that a choice is due."""
        return self.computed == len(self.ids)

    def next_chance(self) -> float:
        """A number in [0, 1) for the next choice: the same until that is made."""
        if self.chance is None:
            self.chance = self.chances.random()
        return self.chance

    def seen_ids(self, vocab_size: int, device: torch.device) -> Tensor:
        """Which tokens its text has so far: (V,) bool."""
        if self.seen is None:
            self.seen = torch.zeros(vocab_size, dtype=torch.bool, device=device)
            self.seen[[i for i in self.ids if i < vocab_size]] = True
        return self.seen

    def steered(self, scores: Tensor) -> Tensor:
        """The scores as this sample wants them. What goes wrong is its own affair."""
        try:
            return self.steer(scores)
        except Exception as error:
            self.trouble = error
            return scores

    def accept(self, token: Token) -> Event:
        """Add a chosen token; what it means for the text, and whether it ends here."""
        if self.trouble is not None:
            return self.fail(self.trouble)
        if math.isnan(token.logprob):
            return self.end("error", "the model's scores are not numbers")
        self.ids.append(token.id)
        self.chance = None
        if self.seen is not None:
            self.seen[token.id] = True
        if self.steer is not None:
            self.steer.accept(token.id)
        if token.id in self.ends:
            return self.end("stop", token=token)
        text = self.stop.push(self.decoder.push(token.id)) if self.decoder else ""
        if self.stop.found:
            self.finished = True
            return Event(self.index, text, token, "stop")
        if len(self.ids) == self.length_limit:
            return self.end("length", token=token, text=text)
        return Event(self.index, text, token)

    def fail(self, error: Exception) -> Event:
        """Ended by what went wrong in a step."""
        if isinstance(error, UserError):
            return replace(self.end("error", str(error)), refused=True)
        return self.end("error", f"{type(error).__name__}: {error}")

    def end(
        self,
        finish: Finish,
        error: str | None = None,
        token: Token | None = None,
        text: str = "",
    ) -> Event:
        """The last event, with the text that was held back."""
        self.finished = True
        if self.decoder is not None:
            text += self.stop.push(self.decoder.flush())
        text += self.stop.flush()
        if self.stop.found and finish == "length":
            finish = "stop"
        return Event(self.index, text, token, finish, error)
