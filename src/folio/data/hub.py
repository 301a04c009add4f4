"""Datasets of Hugging Face by name, and folders of the same kinds, read row by row.

    hf:OWNER/NAME?config=en&split=train&revision=COMMIT
    hf:FOLDER?split=train          parquet, json, csv, text, or what save_to_disk wrote

`split` is "train" unless given, and `rows=N` stops after so many. Memory holds some
rows at a time. What lies on the Hub may change tomorrow, so a name needs a commit: it
stands in the run's recipe, and is part of what its token files are known by.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from folio.config import UserError, nearest
from folio.data.corpora import Corpus
from folio.data.record_files import kind_of

PREFIX = "hf:"
OPTIONS = ("config", "split", "revision", "rows")
COMMIT = re.compile(r"[0-9a-f]{40}")
SAVED = ("state.json", "dataset_dict.json")  # what save_to_disk leaves in a folder


@dataclass(frozen=True)
class HubDataset:
    """What a source such as `hf:OWNER/NAME?split=train` names."""

    name: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    rows: int | None = None

    @classmethod
    def parse(cls, source: str) -> HubDataset:
        """UserError for an option that there isn't, or a value that can't be.

        >>> HubDataset.parse("hf:me/hens?split=test&rows=9")
        HubDataset(name='me/hens', config=None, split='test', revision=None, rows=9)
        """
        name, _, query = source.removeprefix(PREFIX).partition("?")
        options: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True))
        for option, value in options.items():
            if option not in OPTIONS:
                hint = nearest(option, OPTIONS)
                raise UserError(f"{source}: no option {option!r}{hint}")
            if not value:
                raise UserError(f"{source}: {option} is empty")
        if not name:
            raise UserError(f"{source!r}: give a name, such as hf:OWNER/NAME")
        if "rows" in options:
            if not options["rows"].isdecimal() or int(options["rows"]) < 1:
                raise UserError(f"{source}: rows must be a number from 1 up")
            options["rows"] = int(options["rows"])
        return cls(name, **options)

    def __str__(self) -> str:
        return f"{PREFIX}{self.name}"

    @property
    def is_folder(self) -> bool:
        return Path(self.name).expanduser().is_dir()

    def identity(self) -> dict[str, Any]:
        """What the rows depend on: a commit; of a folder, the sizes of its files."""
        found = {name: getattr(self, name) for name in ("name", *OPTIONS)}
        if not self.is_folder:
            self.check_pinned()
            return found
        if self.revision is not None:
            raise UserError(f"{self}: a folder has no revision; leave it out")
        below = Path(self.name).expanduser().rglob("*")
        stats = [(path, path.stat()) for path in sorted(below) if path.is_file()]
        files = [[str(p.resolve()), s.st_size, s.st_mtime_ns] for p, s in stats]
        return found | {"files": files}

    def check_pinned(self) -> None:
        """Refuse a name without a commit; the newest one is told, to be copied."""
        if self.revision is not None and COMMIT.fullmatch(self.revision):
            return
        _import_datasets(self)
        from huggingface_hub import HfApi

        try:
            newest = HfApi().dataset_info(self.name, revision=self.revision).sha
        except Exception as error:
            raise self._failed(error) from None
        raise UserError(
            f"{self}: add revision={newest}, the commit that "
            f"{self.revision or 'the newest version'} is now, so that the run can be "
            "repeated"
        )

    def open(self, part: int = 0, parts: int = 1) -> Any:
        """The rows of one of `parts` equal runs of files, as `datasets` gives them."""
        datasets = _import_datasets(self)
        if self.rows is not None and parts > 1:
            raise UserError(f"{self}: rows={self.rows} can't be cut into parts")
        try:
            found = self._load(datasets)
            if parts > 1:
                self._check_parts(found, parts)
                found = found.shard(parts, part, contiguous=True)
        except Exception as error:
            raise self._failed(error) from None
        return found

    def _load(self, datasets: Any) -> Any:
        folder = Path(self.name).expanduser()
        if not self.is_folder:
            self.check_pinned()
            return datasets.load_dataset(
                self.name,
                self.config,
                split=self.split,
                revision=self.revision,
                streaming=True,
            )
        if any((folder / name).is_file() for name in SAVED):
            found = datasets.load_from_disk(str(folder))  # memory-mapped
            if isinstance(found, Mapping):
                if self.split not in found:
                    raise ValueError(f"Bad split: {self.split}. It has {list(found)}")
                return found[self.split]
            return found
        return datasets.load_dataset(
            str(folder.resolve()), self.config, split=self.split, streaming=True
        )

    def _check_parts(self, found: Any, parts: int) -> None:
        files = getattr(found, "num_shards", parts)
        if files < parts:
            raise UserError(
                f"{self}: {parts} parts of {files} files; ask for at most {files}"
            )

    def records(
        self, column: str | None = None, part: int = 0, parts: int = 1
    ) -> Iterator[tuple[str, dict]]:
        """(place, row) one after another, of one `column` alone if it is there.

        UserError where reading breaks off.
        """
        found = self.open(part, parts)
        if column in (found.column_names or ()):
            found = found.select_columns([column])
        rows = iter(islice(found, self.rows))
        where = f"{self}, part {part} of {parts}" if parts > 1 else str(self)
        for number in count(1):
            try:
                row = next(rows)
            except StopIteration:
                return
            except Exception as error:
                raise self._failed(error, f", row {number}") from None
            yield f"{where}, row {number}", row

    def _failed(self, error: Exception, where: str = "") -> UserError:
        """One line of whatever a client of the Hub raises: it has dozens of errors."""
        if isinstance(error, UserError):
            return error
        reason = next(iter(str(error).splitlines()), "")
        return UserError(f"{self}{where}: {type(error).__name__}: {reason}")


@dataclass(frozen=True)
class HubCorpus(Corpus):
    """The texts in one column of a dataset, in the order of its files."""

    dataset: HubDataset
    field: str = "text"
    index: int = 0
    parts: int = 1

    @property
    def name(self) -> str:
        return str(self.dataset)

    def documents(self) -> Iterator[str]:
        for where, row in self._records():
            yield _text_of(where, row, self.field)

    def _records(self) -> Iterator[tuple[str, dict]]:
        return self.dataset.records(self.field, self.index, self.parts)

    def identity(self) -> dict[str, Any]:
        return {"dataset": self.dataset.identity(), "field": self.field}

    def part(self, index: int, count: int) -> HubCorpus:
        return HubCorpus(self.dataset, self.field, index, count)


def _text_of(where: str, row: Mapping[str, Any], field: str) -> str:
    if field not in row:
        present = ", ".join(map(repr, row)) or "none"
        raise UserError(f"{where}: no column {field!r}; it has {present}")
    text = row[field]
    if not isinstance(text, str):
        raise UserError(f"{where}: column {field!r} holds {kind_of(text)}, not text")
    return text


def _import_datasets(about: HubDataset) -> Any:
    try:
        import datasets
    except ImportError:
        raise UserError(
            f"{about} needs the package datasets: pip install 'folio-llm[data]'"
        ) from None
    datasets.disable_progress_bars()
    return datasets
