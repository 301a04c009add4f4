"""Row 19: folders of Hugging Face made by a stranger, and imports that are cut short.

An honest folder, which must be accepted, is altered in one way at a time: names that
lead outside, links, pipes, pickles, headers and configurations that lie, tokenizers
that are no tokenizers, bytes changed at random. Promised is: each is refused with one
line, in less than 2 s of processor time and 200 MB of memory, nothing of it is run, no
connection is made, and no trace of a run is left. (Chat templates are programs, and
allowed to be anything: with those the import goes on without chat.) Besides, an import
and an export that fail at any call leave the whole result or nothing.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import resource
import shutil
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from folio.config import UserError
from folio.hub import folder as folder_module
from folio.stages.exchange import export_run, import_model
from reliability.calls import Call, watched
from reliability.disk import failing
from reliability.row import Row, Tally
from reliability.subject import (
    debris,
    files_below,
    instant_disk,
    replaced,
    silent,
    small_recipe,
    train_small,
)

MOST_SECONDS, MOST_BYTES = 2.0, 200 << 20
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
Craft = Callable[[Path], None]


# ---- crafts: each alters an honest folder --------------------------------------------


def json_with(name: str, change: Callable[[dict], Any]) -> Craft:
    """A JSON file with something changed; `change` may return the whole text."""

    def craft(folder: Path) -> None:
        values = json.loads((folder / name).read_text())
        text = change(values)
        (folder / name).write_text(
            text if isinstance(text, str) else json.dumps(values)
        )

    return craft


def header_with(change: Callable[[dict[str, Any], str], Any]) -> Craft:
    """The header of the weights changed, at its first tensor; the data stay."""

    def craft(folder: Path) -> None:
        raw = (folder / SINGLE).read_bytes()
        length = struct.unpack("<Q", raw[:8])[0]
        header = json.loads(raw[8 : 8 + length])
        first = min(name for name in header if name != "__metadata__")
        text = change(header, first)
        text = text if isinstance(text, bytes) else json.dumps(header).encode()
        start = struct.pack("<Q", len(text))
        (folder / SINGLE).write_bytes(start + text + raw[8 + length :])

    return craft


def file_as(name: str, make: Callable[[Path], None]) -> Craft:
    """`name` is no file, but what `make(path)` makes there."""

    def craft(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return craft


def outside_shard(shard: Any) -> Craft:
    """An index that says the weights are in `shard`; a copy of them is really there."""

    def craft(folder: Path) -> None:
        shutil.copy(folder / SINGLE, folder.parent / "outside.safetensors")
        raw = (folder / SINGLE).read_bytes()
        length = struct.unpack("<Q", raw[:8])[0]
        names = json.loads(raw[8 : 8 + length]).keys() - {"__metadata__"}
        (folder / INDEX).write_text(
            json.dumps({"weight_map": dict.fromkeys(names, shard)})
        )

    return craft


def link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def elsewhere(path: Path) -> None:
    """A link to a good file of the same kind, outside of the folder."""
    path.symlink_to(path.parent.parent / "honest" / path.name)


NAMES = [
    *("../outside.safetensors", "x/../../outside.safetensors", "./outside.safetensors"),
    *("/etc/passwd", "/dev/zero", "..\\outside.safetensors", "C:outside.safetensors"),
    *("~/outside.safetensors", "file:///etc/passwd", "http://a.test/a.safetensors"),
    *("", ".", "..", ".hidden.safetensors", "model.safetensors\n", "a\0.safetensors"),
    *("pytorch_model.bin", "model.pkl", "a b.safetensors", "é.safetensors"),
    *(3, None, ["model.safetensors"], {"a": 1}, True),
]

SIZES = [-1, 0, 2**40, 2**63, 1.5, True, "64", [64], {"a": 1}]
FIELDS = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size"),
    *("num_attention_heads", "num_key_value_heads", "max_position_embeddings"),
)


def first_with(**values: Any) -> Craft:
    return header_with(lambda header, first: header[first].update(values))


HEADERS: list[Craft] = [
    *(first_with(shape=shape) for shape in ([], [1], [2**40, 2**40], [-1, -1], "12")),
    *(first_with(shape=shape) for shape in ([1.0], [True], [1] * 9, [2**63, 2], None)),
    *(
        first_with(dtype=dtype)
        for dtype in ("F8_E4M3", "f32", "F64", "", None, ["F32"])
    ),
    *(first_with(data_offsets=where) for where in ([0], [0, 0], [4, 0], [-4, 0], "0")),
    *(first_with(data_offsets=where) for where in ([2**60, 2**60 + 4], [0, 2**62])),
    first_with(run="me"),
    header_with(lambda header, first: header.update(copy=header[first])),
    header_with(lambda header, first: header.pop(first) and None),
    header_with(lambda header, first: header.update({first: 3})),
    header_with(lambda header, first: header.update(__metadata__={"a": 1})),
    header_with(lambda header, first: b"[]"),
    header_with(lambda header, first: b"\xff\xfe"),
    header_with(lambda header, first: b"{" * 100_000),
    header_with(lambda header, first: json.dumps(header).encode()[:-1] + b',"a":NaN}'),
    header_with(
        lambda header, first: (
            json.dumps(header).encode()[:-1]
            + f', "{first}": {json.dumps(header[first])}}}'.encode()
        )
    ),
]

CONFIGS: list[Craft] = [
    *(
        json_with("config.json", lambda c, f=field, s=size: c.update({f: s}))
        for field in FIELDS
        for size in SIZES
    ),
    *(
        json_with("config.json", lambda c, k=key, v=value: c.update({k: v}))
        for key, value in {
            "auto_map": {"AutoModelForCausalLM": "evil.Model"},
            "model_type": "evil",
            "quantization_config": {"quant_method": "evil"},
            "activation_function": "__import__('os').system('id')",
            "a_key_of_tomorrow": 1,
            "add_cross_attention": True,
            "scale_attn_weights": "no",
            "layer_norm_epsilon": -1.0,
        }.items()
    ),
    json_with("config.json", lambda c: json.dumps(c)[:-1] + ', "n_embd": 16}'),
    json_with("config.json", lambda c: "[" * 100_000),
    json_with("config.json", lambda c: "[]"),
    json_with("config.json", lambda c: json.dumps(c)[:-1] + ', "x": NaN}'),
    json_with("config.json", lambda c: json.dumps(c)[:-1] + f', "x": {"9" * 9999}}}'),
    json_with("config.json", lambda c: " " * (3 << 20) + json.dumps(c)),
    json_with("config.json", lambda c: ""),
]

SPLIT = {"type": "Split", "behavior": "Isolated", "invert": False}


def tokenizer_with(part: str, value: Any) -> Craft:
    return json_with("tokenizer.json", lambda t: t.update({part: value}))


def model_with(part: str, value: Any) -> Craft:
    return json_with("tokenizer.json", lambda t: t["model"].update({part: value}))


TOKENIZERS: list[Craft] = [
    *(
        tokenizer_with("pre_tokenizer", SPLIT | {"pattern": {"Regex": pattern}})
        for pattern in (r"(a+)+$", r"(a|aa)+b", r"(.*)*x", r"\w+\s?(?=.*z)", "(")
    ),
    tokenizer_with("normalizer", {"type": "Replace", "pattern": {"Regex": "(a+)+$"}}),
    tokenizer_with("pre_tokenizer", {"type": "Evil"}),
    tokenizer_with("model", {"type": "Evil"}),
    tokenizer_with("model", None),
    tokenizer_with("added_tokens", 3),
    tokenizer_with("added_tokens", [{"id": -1, "content": "x", "special": True}]),
    tokenizer_with("added_tokens", [{"id": 10**9, "content": "x", "special": True}]),
    *(model_with("vocab", vocab) for vocab in ({}, [], {"a": 0, "b": 0}, {"a": -1})),
    *(model_with("vocab", vocab) for vocab in ({"a": 10**12}, {"a": "0"}, None)),
    *(
        model_with("merges", merges)
        for merges in (3, [1], [["a"]], ["a b c"], [["", ""]])
    ),
    model_with("merges", [["a", "b"]] * 3),
    model_with("merges", [["nothing", "like"]]),
    json_with("tokenizer.json", lambda t: "{"),
    json_with("tokenizer.json", lambda t: "[]"),
    json_with("tokenizer_config.json", lambda t: t.update(auto_map={"a": "evil.T"})),
    json_with("tokenizer_config.json", lambda t: t.update(add_eos_token=True)),
    json_with("tokenizer_config.json", lambda t: "[1"),
]

FILES = ("config.json", SINGLE, "tokenizer.json")
ODD: list[Craft] = [
    *(file_as(name, elsewhere) for name in FILES),
    *(file_as(name, link_to("/dev/zero")) for name in FILES),
    *(file_as(name, link_to(name)) for name in FILES),
    *(file_as(name, link_to("..")) for name in FILES),
    *(file_as(name, os.mkfifo) for name in FILES),
    *(file_as(name, os.mkdir) for name in FILES),
    *(file_as(name, lambda path: None) for name in FILES),
    *(file_as(name, lambda path: path.write_bytes(b"")) for name in FILES),
]


def payload(folder: Path) -> bytes:
    """A pickle that leaves a file beside the folder when it is loaded."""
    return f"cos\nsystem\n(S'touch {folder.parent / 'RAN'}'\ntR.".encode()


def pickled(name: str, polyglot: bool = False) -> Craft:
    """A pickle instead of the weights; or one with the weights behind it."""

    def craft(folder: Path) -> None:
        weights = (folder / SINGLE).read_bytes()
        (folder / SINGLE).unlink()
        (folder / name).write_bytes(payload(folder) + (weights if polyglot else b""))

    return craft


PICKLES: list[Craft] = [
    *(pickled(n) for n in ("pytorch_model.bin", "model.pt", "model.pth", SINGLE)),
    *(pickled(name, polyglot=True) for name in ("pytorch_model.bin", SINGLE)),
    *(
        file_as(name, lambda path: path.write_bytes(payload(path.parent)))
        for name in FILES
    ),
]

TEMPLATES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.system('touch RAN') }}",
    "{{ 'a' * 10**9 }}",
    "{% for i in range(10**9) %}{% for j in range(10**9) %}x{% endfor %}{% endfor %}",
    "{{ 9 ** 9 ** 9 }}",
    "{% set x = namespace(a=1) %}{{ x.__init__.__globals__ }}",
]


def with_template(template: str) -> Craft:
    return lambda folder: (folder / "chat_template.jinja").write_text(template) and None


def mutant(seed: int) -> Craft:
    """Bytes of the header of the weights changed, cut out or doubled."""

    def craft(folder: Path) -> None:
        chance, path = random.Random(seed), folder / SINGLE
        raw = path.read_bytes()
        head = 8 + struct.unpack("<Q", raw[:8])[0]
        data, place = bytearray(raw), chance.randrange(head)
        match seed % 3:
            case 0:
                data[place] = (data[place] + chance.randrange(1, 256)) % 256
            case 1:
                del data[place : place + chance.randrange(1, 30)]
            case 2:
                data[place:place] = data[place : place + chance.randrange(1, 30)]
        path.write_bytes(data)

    return craft


def crafts(mutants: int) -> dict[str, list[Craft]]:
    """All that must be refused, by kind."""
    return {
        "names of shards": [outside_shard(name) for name in NAMES],
        "headers": HEADERS,
        "configurations": CONFIGS,
        "tokenizers": TOKENIZERS,
        "links, pipes, folders": ODD,
        "pickles": PICKLES,
        "random bytes": [mutant(seed) for seed in range(mutants)],
    }


# ---- trials --------------------------------------------------------------------------


def work(home: Path, every: int, mutants: int, faults: int) -> Tally:
    """Each `every`-th craft of each kind, then failures at each `faults`-th call."""
    tally = Tally()
    recipe = small_recipe(
        home,
        tokenizer={"kind": "bpe", "vocab_size": 300},
        train={"steps": 2, "eval_every": 2},
    )
    with instant_disk():
        train_small(recipe, home / "run")
        export_run(home / "run", home / "honest", say=silent)
        before = _peak()
        tally.note(
            "the honest folder", probe(home, lambda folder: None, True), "honest"
        )
        with no_network():
            for kind, each in crafts(mutants).items():
                for number, craft in list(enumerate(each))[::every]:
                    problem = probe(home, craft, False)
                    tally.note(f"{kind}, {number}", problem, kind)
            for number, template in list(enumerate(TEMPLATES))[::every]:
                problem = probe(home, with_template(template), True)
                tally.note(f"template {number}", problem, "chat templates")
        grown = _peak() - before
        problem = f"{grown >> 20} MB more memory" if grown > MOST_BYTES else None
        tally.note("memory", problem)
        tally.counts["MB of memory more"] += grown >> 20
        failures(home, faults, tally)
    return tally


def probe(home: Path, craft: Craft, honest: bool) -> str | None:
    """What is wrong with how an altered folder is met; None: nothing."""
    source, target = home / "source", home / "imported"
    shutil.copytree(home / "honest", source)
    craft(source)
    start, problem, accepted = _seconds(), None, False
    try:
        import_model(source, target, say=silent)
        accepted = True
    except UserError as error:
        if "\n" in str(error) or str(source) not in str(error):
            problem = f"not one line that names the folder: {error}"
    except BaseException as error:
        problem = f"{type(error).__name__}: {str(error)[:200]}"
    took = _seconds() - start
    if accepted != honest:
        problem = problem or ("it was accepted" if accepted else "it was refused")
    if took > MOST_SECONDS:
        problem = problem or f"it took {took:.1f} s"
    if (home / "RAN").exists() or Path("RAN").exists():
        problem = "its code was run"
    if target.exists() and not accepted:
        problem = problem or f"a trace is left: {sorted(os.listdir(target))}"
    for folder in (source, target):
        shutil.rmtree(folder, ignore_errors=True)
    return problem


def _seconds() -> float:
    """Of the processor, for us and for the children that have ended."""
    return sum(os.times()[:4])


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextlib.contextmanager
def no_network() -> Iterator[None]:
    """A connection is an error."""

    def refuse(*arguments: Any) -> None:
        raise AssertionError(f"a connection to {arguments[1:]}")

    with replaced(socket.socket, "connect", refuse):
        yield


# ---- cut short -----------------------------------------------------------------------


def failures(home: Path, every: int, tally: Tally) -> None:
    """An import and an export on a disk that is full from some call on."""

    def importing(target: Path) -> None:
        import_model(home / "honest", target, say=silent)

    def exporting(target: Path) -> None:
        export_run(home / "run", target, say=silent)

    for name, action in (("import", importing), ("export", exporting)):
        calls: list[Call] = []
        place = home / name
        place.mkdir()
        with watched(place, calls.append):
            action(place / "whole")
        whole = files_below(place / "whole").keys()
        for at in range(0, len(calls), every):
            problem = None
            with watched(place, failing(at, errno.ENOSPC, lasting=True)):
                try:
                    action(place / "cut")
                    problem = None if at else "the error was not told"
                except UserError as error:
                    problem = f"two lines: {error}" if "\n" in str(error) else None
                except OSError as error:
                    problem = f"a traceback: {error}"
            left = files_below(place / "cut").keys()
            if debris(place):
                problem = problem or f"half-written: {debris(place)}"
            models = {path for path in left if path.endswith(".safetensors")}
            if models and not left >= {p for p in whole if p != "run.json"}:
                problem = problem or f"half a result: {sorted(left)}"
            where = f"{name}, full from call {at} {calls[at]}"
            tally.note(where, problem, f"{name} on a full disk")
            shutil.rmtree(place / "cut", ignore_errors=True)


# ---- a build that must fail ----------------------------------------------------------


@contextlib.contextmanager
def broken() -> Iterator[None]:
    """Links and names may lead anywhere."""
    anywhere = lambda self: iter([Path("/")])  # noqa: E731
    with replaced(folder_module.ModelFolder, "_allowed", anywhere):
        yield


def parts(quick: bool) -> dict[str, dict[str, Any]]:
    """Every craft and 100 mutants; quick: a twentieth."""
    if quick:
        return {"0": {"every": 12, "mutants": 24, "faults": 12}}
    return {"0": {"every": 1, "mutants": 100, "faults": 1}}


ROW = Row(
    19,
    "folders",
    "a stranger's folder is whole and honest, or refused with one line; nothing of it "
    "is run; an import or export is whole or not there",
    parts,
    work,
    "follows links and names out of the folder",
    broken,
)
