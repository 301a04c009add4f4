"""What people liked better, in the form that `folio dpo` and `folio sft` read."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from folio.config import UserError
from folio.data.record_files import Record, read_records
from folio.data.records import conversation_of, pair_of
from folio.files import make_folder, write_atomically
from folio.text.chat import Message


class Preferences:
    """A file of pairs, one JSON object a line: prompt, chosen, rejected.

    Whoever changes their mind about two answers has the last word: the pair is turned
    around, not written twice.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.Lock()

    def keep(self, prompt: Sequence[Message], chosen: str, rejected: str) -> int:
        """Add a preference between two answers; returns how many the file holds.

        UserError for what nothing can be learned from, or a file that isn't ours.
        """
        if chosen == rejected:
            raise UserError("both answers are the same text: nothing to prefer")
        record = {"prompt": _plain(prompt), "chosen": chosen, "rejected": rejected}
        pair_of(Record(str(self.path), record))  # what can't be read isn't written
        with self._lock:
            records = [old for old in self._read() if not _same_question(old, record)]
            records.append(record)
            _write_lines(self.path, records)
        return len(records)

    def count(self) -> int:
        """How many pairs are kept."""
        with self._lock:
            return len(self._read())

    def _read(self) -> list[dict[str, Any]]:
        if not self.path.is_file() or not self.path.stat().st_size:
            return []
        return [dict(record.fields) for record in read_records(self.path)]


def _same_question(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Are these the same two answers to the same prompt, in either order?"""
    answers = {"chosen", "rejected"}
    return old.get("prompt") == new["prompt"] and (
        {old.get(name) for name in answers} == {new[name] for name in answers}
    )


def export_conversation(path: Path, messages: Sequence[Message]) -> int:
    """Add a conversation to a file for `folio sft`; returns how many it then holds."""
    record = {"messages": _plain(messages)}
    conversation_of(Record(str(path), record))
    records = []
    if path.is_file() and path.stat().st_size:
        records = [dict(old.fields) for old in read_records(path)]
    if record not in records:
        records.append(record)
    _write_lines(path, records)
    return len(records)


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": m["role"], "content": m["content"]} for m in messages]


def _write_lines(path: Path, records: Sequence[dict[str, Any]]) -> None:
    make_folder(path.resolve().parent)
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    write_atomically(path, "".join(lines))
