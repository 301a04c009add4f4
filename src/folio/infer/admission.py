"""What the engine can serve at all: everything else is refused before it waits."""

from __future__ import annotations

from folio.config import UserError
from folio.infer.generate import check_ids
from folio.infer.request import Request
from folio.infer.scheduler import Scheduler
from folio.infer.stream import is_endless
from folio.model.config import ModelConfig

MIB = 1 << 20


def most_new_tokens(
    request: Request,
    prompt: list[int],
    config: ModelConfig,
    scheduler: Scheduler,
    page_bytes: int,
) -> int:
    """Tokens that may be added; a UserError where prompt or request is too large.

    The last one chosen is never read, so it may be one more than the model reads.
    """
    check_ids(prompt, config)
    room = config.max_seq_len - len(prompt) + 1
    wanted = request.max_new_tokens
    if not is_endless(config) and (room < 1 or (wanted or 0) > room):
        asked = "" if wanted is None else f" and max_new_tokens = {wanted}"
        raise UserError(
            f"a prompt of {len(prompt)} tokens{asked}: the model reads max_seq_len = "
            f"{config.max_seq_len}; shorten the prompt or ask for fewer"
        )
    if wanted is None:
        if room < 1:
            raise UserError("max_new_tokens: say how many, for nothing else ends it")
        wanted = room
    pages = scheduler.most_pages(len(prompt) + max(wanted - 1, 0))
    if pages > scheduler.pool.count:
        raise UserError(
            f"a prompt of {len(prompt)} tokens and max_new_tokens = {wanted} need "
            f"{pages * page_bytes / MIB:.2f} MiB, the engine's memory is "
            f"{scheduler.pool.count * page_bytes / MIB:.2f} MiB; ask for fewer tokens "
            "or give it more memory"
        )
    return wanted
