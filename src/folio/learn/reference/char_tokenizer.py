"""A tokenizer of characters: nothing but two tables."""

from __future__ import annotations


class CharTokenizer:
    """One id for each distinct character of a text, in the order of the alphabet.

    >>> tokenizer = CharTokenizer("hello")
    >>> tokenizer.vocab_size, tokenizer.encode("hole"), tokenizer.decode([1, 0])
    (4, [1, 3, 2, 0], 'he')
    """

    def __init__(self, text: str):
        self.characters = sorted(set(text))
        self.ids = {character: i for i, character in enumerate(self.characters)}

    @property
    def vocab_size(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> list[int]:
        """Text to ids; KeyError for a character that the first text didn't have."""
        return [self.ids[character] for character in text]

    def decode(self, ids: list[int]) -> str:
        """Ids to text: the inverse of `encode`."""
        return "".join(self.characters[i] for i in ids)
