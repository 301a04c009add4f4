"""Texts that break tokenizers, made from a seed."""

import random
import sysconfig
from pathlib import Path

# What the split patterns, byte fallback, "</w>" and "##" could stumble over.
ATOMS = [
    *("'s", "'S", "'ſ", "'ll", "'LL", "'vE", "'re", "'", '"', "a", "B", "é", "Ω", "字"),
    *("1", "23", "456", "٣", "²", "Ⅷ", "ſ", "!", "?!", "…", "😀", "_", "-", "#", "##"),
    *("the", "ing", "low", "w", "</w>", "<", "/w>", "><", "</", "<|", "|>", "end"),
    *("<|end|>", "<|endoftext|>", " ", "  ", "\n", "\r\n", "\r", "\t", "\x00", "\x1c"),
    *("\x85", "\xa0", "\u2003", "\u2028", "\u200d", "\u0301", "\u3000", "\ufeff"),
    *("\ufffd", "\U0010ffff"),
]


def fuzzed(number: int, seed: int, longest: int = 14) -> list[str]:
    """Random strings of awkward atoms and of any Unicode characters."""
    rng = random.Random(seed)
    texts = []
    for i in range(number):
        size = rng.randrange(1, longest)
        if i % 3:
            texts.append("".join(rng.choices(ATOMS, k=size)))
        else:
            codes = [rng.choice((rng.randrange(0x250), rng.randrange(0x110000)))] * 2
            codes += [rng.randrange(0x110000) for _ in range(size)]
            texts.append("".join(chr(c) for c in codes if not 0xD800 <= c < 0xE000))
    return texts


def library_files(number: int | None = None) -> list[Path]:
    """Sources of Python's standard library: real text that is always there."""
    folder = Path(sysconfig.get_path("stdlib"))
    files = [p for p in sorted(folder.glob("*.py")) if p.stat().st_size < 100_000]
    return files[:number]
