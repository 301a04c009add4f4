"""What people may type, and what becomes of it."""

from __future__ import annotations

from folio.config import UserError
from folio.data.rows import encode
from folio.studio.models import Loaded
from folio.text.chat import ChatTemplate
from folio.text.tokenizer import to_bytes

MOST_CHARACTERS = 4_000  # of a text, a message, a system prompt


def checked(text: str | None, name: str = "text", filled: bool = False) -> str:
    """The text, if it can be taken; else a UserError that says why not.

    >>> checked("a hen"), checked(None)
    ('a hen', '')
    """
    text = text or ""
    if not isinstance(text, str):
        raise UserError(f"{name}: expected text, not {type(text).__name__}")
    if len(text) > MOST_CHARACTERS:
        raise UserError(
            f"{name}: {len(text):,} characters, but the studio takes "
            f"{MOST_CHARACTERS:,}; shorten it"
        )
    to_bytes(text)  # half a surrogate pair is refused with its place
    if filled and not text.strip():
        raise UserError(f"{name}: empty; write something first")
    return text


def ids_of(loaded: Loaded, text: str, chat: bool = False) -> list[int]:
    """A text as the model reads it, its start of text first if it is used to one.

    With `chat`, as a user's message, before the reply. A UserError if it is longer
    than the model can read.
    """
    if chat:
        ChatTemplate.of(loaded.tokenizer)  # says it if nobody knows how it chats
        asked = [{"role": "user", "content": checked(text, filled=True)}]
        ids, _ = encode(asked, loaded.tokenizer, "", True)
    else:
        ids = loaded.tokenizer.prompt_ids(checked(text))
    if len(ids) > loaded.limit:
        raise UserError(
            f"the text has {len(ids):,} tokens, but this model reads {loaded.limit:,}; "
            "shorten it"
        )
    return list(ids)
