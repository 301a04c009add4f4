"""Nothing in the package may run code that it finds in a file."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "folio"
# What runs code because that is asked for: a learner's answer, in a process of its own;
# the cells of a book that its author builds
RUNS_CODE = {"learn/judge.py: uses exec", "book/cells.py: uses exec"}
PICKLES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def unsafe_calls(source: Path) -> list[str]:
    """Every use of pickle, torch.load, eval or exec below `source`."""
    wrong = []
    for path in sorted(source.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            problem = _unsafe(node)
            if problem:
                where = path.relative_to(source).as_posix()
                wrong.append(f"{where}:{node.lineno}: {problem}")
    return wrong


def _unsafe(node: ast.AST) -> str | None:
    if isinstance(node, ast.Import):
        names = {alias.name.split(".")[0] for alias in node.names}
        return "imports pickle" if names & PICKLES else None
    if isinstance(node, ast.ImportFrom):
        names = {alias.name for alias in node.names}
        if node.module == "torch" and "load" in names:
            return "imports torch.load"
        return (
            "imports pickle" if (node.module or "").split(".")[0] in PICKLES else None
        )
    if isinstance(node, ast.Attribute) and node.attr == "load":
        is_torch = isinstance(node.value, ast.Name) and node.value.id == "torch"
        return "uses torch.load" if is_torch else None
    if isinstance(node, ast.keyword):
        off = isinstance(node.value, ast.Constant) and node.value.value is False
        if node.arg == "weights_only" and off:
            return "weights_only=False"
        truthy = isinstance(node.value, ast.Constant) and node.value.value is True
        return "allow_pickle=True" if node.arg == "allow_pickle" and truthy else None
    if isinstance(node, ast.Name) and node.id in ("eval", "exec"):
        return f"uses {node.id}"
    return None


def without_line(problem: str) -> str:
    """
    >>> without_line("learn/judge.py:55: uses exec")
    'learn/judge.py: uses exec'
    """
    path, _, what = problem.split(":", 2)
    return f"{path}:{what}"


def test_nothing_runs_code_from_a_file():
    found = {without_line(problem) for problem in unsafe_calls(SOURCE)}
    assert found <= RUNS_CODE


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "import numpy, pickle as p",
        "from pickle import loads",
        "import torch\ntorch.load('x')",
        "from torch import load",
        "load = torch.load",
        "read('x', weights_only=False)",
        "np.load('x', allow_pickle=True)",
        "eval('1')",
        "run = exec",
    ],
)
def test_an_unsafe_call_is_found(tmp_path, line):
    (tmp_path / "module.py").write_text(line + "\n")
    assert len(unsafe_calls(tmp_path)) == 1


def test_an_ordinary_eval_method_passes(tmp_path):
    (tmp_path / "module.py").write_text("model.eval()\nload_file('x')\nimport json\n")
    assert unsafe_calls(tmp_path) == []
