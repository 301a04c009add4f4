"""GPT-2's way to write any bytes as visible characters, for its JSON files.

A vocabulary in JSON needs strings, but a token may be half a character. GPT-2
(Radford et al. 2019) gives each of the 256 bytes a printable character: the 188 that
are printable in Latin-1 stand for themselves, the others for U+0100 and on, in order.
The space (32) is the 33rd of those others, hence the famous "Ġ" (U+0120).
"""

from __future__ import annotations

from folio.config import UserError


def _alphabet() -> list[str]:
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    shown = {byte: chr(byte) for byte in printable}
    shown |= {byte: chr(0x100 + i) for i, byte in enumerate(others)}
    return [shown[byte] for byte in range(256)]


BYTE_TO_CHARACTER: list[str] = _alphabet()
CHARACTER_TO_BYTE = {char: byte for byte, char in enumerate(BYTE_TO_CHARACTER)}

# The same table as a pre-tokenizer and decoder of Hugging Face's `tokenizers`.
BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}


def show_bytes(piece: bytes) -> str:
    """Bytes as visible characters.

    >>> show_bytes(b" the")
    'Ġthe'
    """
    return "".join([BYTE_TO_CHARACTER[byte] for byte in piece])


def read_bytes(shown: str) -> bytes:
    """The way back.

    >>> read_bytes('Ġthe')
    b' the'
    """
    try:
        return bytes([CHARACTER_TO_BYTE[character] for character in shown])
    except KeyError as error:
        raise UserError(
            f"vocabulary entry {shown!r}: {error.args[0]!r} stands for no byte; "
            f"this is not a byte-level vocabulary"
        ) from None
