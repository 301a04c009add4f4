"""Read and write without end, in constant memory: a window and a few sinks.

A model trained with full attention falls apart when the first tokens leave its
window: it has learned to park on them the attention that it has no use for. Keep the
keys of these few, let every layer see them and a window, and it goes on for millions
of tokens (Xiao et al. 2023, StreamingLLM). No weight changes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from folio.config import UserError
from folio.infer.cache import RollingCache, make_caches
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.model.heads import token_logprobs
from folio.model.positions import Rotary, rotate

CHUNK = 512  # tokens that are read at once: longer texts in pieces, to save memory
SINKS = 4  # what the paper recommends; more gain nothing


def is_endless(config: ModelConfig) -> bool:
    """Can texts go on beyond max_seq_len, and look like those of the training?

    Distances must be all that counts, and none may grow beyond those trained with.
    """
    return (
        config.positions in ("rotary", "none")
        and None not in config.layer_windows
        and config.window + config.sinks <= config.max_seq_len
    )


def streaming(
    model: Decoder, window: int | None = None, sinks: int | None = None
) -> Decoder:
    """The same weights in a decoder whose every layer sees `window` tokens and `sinks`.

    By default as many as it was trained with: max_seq_len together, `SINKS` of them
    sinks, or the model's own. Raises UserError for a model whose positions count from
    the start of the text, and for a window that it has never seen.
    """
    config = model.config
    if config.positions not in ("rotary", "none"):
        raise UserError(
            f"positions = {config.positions!r} count from the start of a text, and "
            f"were trained up to max_seq_len = {config.max_seq_len}; a stream without "
            "end needs a model with rotary positions, or none"
        )
    if sinks is None:
        sinks = config.sinks if config.window else SINKS
    if window is None:
        window = config.window or max(config.max_seq_len - sinks, 1)
    if config.window is not None and window > config.window:
        raise UserError(
            f"window = {window}: the model's own windowed layers see "
            f"{config.window} tokens; choose at most that"
        )
    config = replace(config, window=window, sinks=sinks, attention_pattern=None)
    if not is_endless(config):
        raise UserError(
            f"window = {window} and sinks = {sinks} are more than the max_seq_len = "
            f"{config.max_seq_len} that the model was trained with; choose less"
        )
    weights = {id(t): t for t in [*model.parameters(), *model.buffers()]}
    windowed = copy.deepcopy(model, weights)  # parts are copied, the weights are not
    windowed.config = config
    for block in windowed.blocks:
        block.attention.window, block.attention.sinks = window, sinks
    return windowed


class Stream:
    """Reads a text as it grows, without end; every layer of the model is windowed.

    Positions are counted anew now and then: at 10,000,000 fp32 rounds angles to whole
    radians. Attention knows distances alone, so the window's keys are turned back
    together; the sinks stay at the start. So each piece begins before position
    sinks + 2 window.
    """

    def __init__(self, model: Decoder, chunk: int = CHUNK):
        config, weight = model.config, model.embedding.weight
        if not is_endless(config):
            raise UserError(
                "to read without end, each layer needs a window, and positions must be "
                "rotary or none; see folio.infer.stream.streaming"
            )
        self.model, self.chunk = model, chunk
        capacity = config.window + config.sinks + 1  # more than that: rolling caches
        self.caches = make_caches(config, 1, capacity, weight.device, weight.dtype)
        self.position = 0  # of the next token

    def read(self, ids: Sequence[int]) -> Tensor:
        """Scores (1, V) of what follows all that was read, `ids` included."""
        for start in range(0, len(ids), self.chunk):
            hidden = self.hidden(ids[start : start + self.chunk])
        return self.model.read(hidden[:, -1])

    def hidden(self, ids: Sequence[int]) -> Tensor:
        """The hidden states (1, T, D) of the next T tokens."""
        self._count_anew()
        device = self.model.embedding.weight.device
        end = self.position + len(ids)
        positions = torch.arange(self.position, end, device=device)[None]
        self.position = end
        tokens = torch.tensor([list(ids)], device=device)
        return self.model.hidden(tokens, positions, self.caches)[0]

    def _count_anew(self) -> None:
        """Bring the next position to sinks + window, or not much more."""
        window, sinks = self.model.config.window, self.model.config.sinks
        windows = (self.position - sinks) // window
        if windows < 2:
            return
        count = (windows - 1) * window  # whole windows: each key stays in its slot
        move_back(self.caches, self.model.rotary, count)
        self.position -= count


def move_back(caches: list[RollingCache], rotary: Rotary | None, count: int) -> None:
    """Subtract `count`, a multiple of the window, from the positions of all but sinks.

    The caches are those of one model: they share one ring.
    """
    ring = caches[0].ring
    ring.positions -= count * (ring.positions >= ring.sinks)
    if rotary is None:
        return
    # In fp64, or a large count would be rounded; and not by `rotary(positions)`, for
    # YaRN's magnitude is in the keys already.
    angle = count * rotary.frequencies.cpu().double()
    cos, sin = angle.cos().repeat(2), torch.cat([angle.sin(), -angle.sin()])
    for cache in caches:
        keys = cache.k[:, :, ring.sinks :]
        exact = torch.promote_types(keys.dtype, torch.float32)
        back = cos.to(keys.device, exact), sin.to(keys.device, exact)
        keys.copy_(rotate(keys.to(exact), back))


@torch.no_grad()
def score(model: Decoder, ids: Sequence[int], chunk: int = CHUNK) -> Tensor:
    """Log-probability of each of N tokens but the first, read as a `Stream`: (N - 1,).

    How a text is judged that is longer than any memory.
    """
    stream, device = Stream(model, chunk), model.embedding.weight.device
    found = []
    for start in range(0, len(ids) - 1, chunk):
        targets = torch.tensor([ids[start + 1 : start + 1 + chunk]], device=device)
        hidden = stream.hidden(ids[start : start + targets.shape[1]])
        found.append(token_logprobs(model.read(hidden), targets)[0].cpu())
    return torch.cat(found)
