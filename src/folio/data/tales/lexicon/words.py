"""The form of the tables: words with spaces between."""

from __future__ import annotations


def words(text: str) -> tuple[str, ...]:
    """
    >>> words("Mara Tom")
    ('Mara', 'Tom')
    """
    return tuple(text.split())
