"""The recipes for clusters, shrunken to some thousand weights and a few processes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from folio.config import build, read_toml
from folio.model.count import count_parameters
from folio.stages.recipe import PretrainRecipe
from folio.training.snapshot import newest_snapshot, snapshot_paths
from helpers import rows, tale

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes/large").glob("*.toml"))
SHRUNKEN = {
    "model.d_model": 16,
    "model.n_layers": 2,
    "model.n_heads": 4,
    "model.d_ff": 32,
    "model.max_seq_len": 16,
    "tokenizer.vocab_size": 300,
    "data.val_fraction": 0.2,
    "train.batch": 2,
    "train.eval_every": 2,
    "train.save_every": 2,
    "train.device": "cpu",
    "train.precision": "fp32",
    "log.every": 1,
    "sample.every": 2,
    "sample.max_new_tokens": 4,
}


def read(path: Path) -> PretrainRecipe:
    return build(PretrainRecipe, read_toml(path))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_what_a_recipe_says_of_itself_is_so(path):
    recipe, text = read(path), path.read_text(encoding="utf-8")
    assert recipe.name == path.stem
    config = recipe.model.__class__(
        **{**recipe.model.__dict__, "vocab_size": recipe.tokenizer.vocab_size}
    )
    said = re.search(r"([\d.]+) (b|m)illion parameters", text)
    size = count_parameters(config)["total"] / (1e9 if said[2] == "b" else 1e6)
    assert size == pytest.approx(float(said[1]), rel=0.04)
    product = re.search(
        r"([\d x]+tokens x.+?) = ([\d,]+) tokens", text.replace("\n#", "")
    )
    numbers = [int(x) for x in re.findall(r"\d+", product[1])]
    batch, length, readers, accumulate = numbers
    assert (batch, length) == (recipe.train.batch, recipe.length)
    assert accumulate == recipe.train.accumulate
    tokens = batch * length * readers * accumulate
    assert f"{tokens:,}" == product[2]
    script = path.with_suffix(".sbatch").read_text(encoding="utf-8")
    nodes = int(re.search(r"--nodes=(\d+)", script)[1])
    assert readers * recipe.parallel.tensor == nodes * 8
    whole = float(re.search(r"on (\d+) billion\s+#? ?tokens", text)[1])
    assert recipe.train.steps * tokens / 1e9 == pytest.approx(whole, rel=0.03)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_scripts_are_bash(path):
    script = path.with_suffix(".sbatch")
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"recipes/large/{path.name}" in script.read_text()


@pytest.mark.multi
@pytest.mark.parametrize(
    ("name", "ranks", "flags"),
    [
        ("gpt2_124m", 2, {}),
        ("llama_1b", 2, {"model.n_kv_heads": 2}),
        ("llama_7b", 4, {"model.n_kv_heads": 4, "parallel.tensor": 2}),
    ],
)
def test_torchrun_learns_and_resumes(name, ranks, flags, tmp_path):
    data, run = tmp_path / "texts", tmp_path / "run"
    data.mkdir()
    for number in range(4):
        lines = tale(60 + number).splitlines()
        quoted = (f'{{"text": "{line}"}}\n' for line in lines)
        (data / f"{number}.jsonl").write_text("".join(quoted), encoding="utf-8")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    torchrun += ["--nproc-per-node", str(ranks), "-m", "--"]
    torchrun += ["folio", "pretrain"]
    torchrun += [str(ROOT / f"recipes/large/{name}.toml"), "--run", str(run)]
    torchrun += ["--data.path", str(data), "--resume"]
    for steps in (2, 3):
        fields = SHRUNKEN | flags | {"train.steps": steps}
        words = [w for key, value in fields.items() for w in (f"--{key}", str(value))]
        done = subprocess.run(
            [*torchrun, *words], capture_output=True, text=True, timeout=150
        )
        assert done.returncode == 0, done.stderr
    assert [path.name[-1] for path in snapshot_paths(run / "snapshots")] == ["2", "3"]
    snapshot = newest_snapshot(run / "snapshots")
    assert snapshot.state["learner"]["step"] == 3
    assert [r["step"] for r in rows(run / "metrics.jsonl") if "loss" in r] == [1, 2, 3]
