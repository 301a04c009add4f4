"""What an import may bring: the command line answers at once only without torch."""

import json
import subprocess
import sys

import pytest

# Each of these costs a good part of a second, or belongs to an extra.
LATE = {
    "transformers",
    "tokenizers",
    "tiktoken",
    "numba",
    "pyarrow",
    "pandas",
    "matplotlib",
    "tensorboard",
    "wandb",
    "gradio",
}


def modules_after(statement: str) -> set[str]:
    """Top-level modules loaded in a fresh interpreter that runs `statement`."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return {name.split(".")[0] for name in json.loads(run.stdout.splitlines()[-1])}


@pytest.mark.parametrize("statement", ["import folio", "import folio.cli"])
def test_the_command_line_starts_without_torch(statement):
    assert modules_after(statement) & ({"torch"} | LATE) == set()


def test_every_public_name_comes_without_the_extras():
    everything = "import folio\nfor name in folio.__all__: getattr(folio, name)"
    assert modules_after(everything) & LATE == set()


def test_every_public_name_is_listed():
    listing = "import folio; assert set(folio.__all__) <= set(dir(folio))"
    assert "folio" in modules_after(listing)
