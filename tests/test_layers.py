"""The layers: a module imports only from the layers above its own."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "folio"

# From the top down. Packages of one layer do not know one another.
LAYERS = (
    {"scratch"},  # NumPy only: it stands alone
    {"config"},
    {"files", "runtime"},
    {"text", "model", "optim"},
    {"data"},
    {"infer", "objectives"},
    {"training", "rl", "evals", "hub", "viz", "planning"},
    {"stages"},
    {"serve", "studio", "learn", "book"},
    {"cli"},
    {"__main__"},
)
DEPTH = {name: depth for depth, layer in enumerate(LAYERS) for name in layer}


def imported_modules(tree: ast.Module, package: str) -> list[tuple[int, str]]:
    """(line, dotted module) of each folio import in a module of `package`."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                outer = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*outer, *([base] if base else [])])
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return [(line, name) for line, name in found if name.split(".")[0] == "folio"]


def layer_violations(source: Path) -> list[str]:
    """Every import below `source` that points sideways or down, one line each."""
    wrong = []
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        own, where = parts[0], path.relative_to(source).as_posix()
        if own == "__init__":  # the package itself: a lazy map of every public name
            continue
        if own not in DEPTH:
            wrong.append(f"{where}: '{own}' has no layer")
            continue
        package = ".".join(["folio", *parts[:-1]])
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for line, name in imported_modules(tree, package):
            other = name.removeprefix("folio").lstrip(".").split(".")[0]
            if other in (own, "__version__"):
                continue
            if DEPTH.get(other, len(LAYERS)) >= DEPTH[own]:
                wrong.append(f"{where}:{line}: {own} may not import {name}")
    return wrong


def test_imports_point_up():
    assert layer_violations(SOURCE) == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("config.py", "from folio.text import bpe"),
        ("config.py", "import folio.text.bpe"),
        ("config.py", "from folio.runtime import pick_device"),
        ("text/bpe.py", "from folio import model"),
        ("text/bpe.py", "from ..model import decoder"),
        ("text/bpe.py", "from .. import model"),
        ("text/bpe.py", "from folio import Decoder"),
        ("text/bpe.py", "import folio"),
        ("text/bpe.py", "def late():\n    import folio.optim.adamw as optim"),
        ("data/text.py", "from folio.infer.cache import FullCache"),
        ("data/text.py", "if TYPE_CHECKING:\n    from folio.training import loop"),
        ("training/loop.py", "from folio.evals import perplexity"),
        ("stages/demo.py", "import folio.cli"),
        ("scratch/gpt.py", "from folio.config import UserError"),
        ("helpers.py", "import math"),
    ],
)
def test_a_wrong_import_is_found(tmp_path, path, line):
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(line + "\n")
    assert len(layer_violations(tmp_path)) == 1


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("__init__.py", "from folio.cli import main"),
        ("text/bpe.py", "from folio.config import UserError"),
        ("runtime.py", "from folio.config import UserError"),
        ("text/bpe.py", "from .tokenizer import Tokenizer"),
        ("text/__init__.py", "from .bpe import BPETokenizer"),
        ("text/bpe.py", "from ..config import UserError"),
        ("scratch/gpt.py", "from folio.scratch import autograd"),
        ("learn/runner.py", "from folio.scratch import gpt"),
        ("cli/__init__.py", "from folio import __version__, stages"),
        ("__main__.py", "from folio.cli import main"),
        ("data/text.py", "import text, numpy as np"),
    ],
)
def test_a_right_import_passes(tmp_path, path, line):
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(line + "\n")
    assert layer_violations(tmp_path) == []
