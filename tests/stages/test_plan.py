"""`folio plan`: a table, a conclusion, and one line for what can't be."""

import pytest

from folio.model.config import ModelConfig
from folio.model.lora import LoRA
from folio.planning.cost import Machine
from folio.stages.plan import notes
from folio.stages.recipe import PretrainRecipe, StageRecipe
from helpers import run_cli

RECIPE = """
name = "seven"
[tokenizer]
kind = "bpe"
vocab_size = 32000
[model]
max_seq_len = 2048
d_model = 4096
n_layers = 32
n_heads = 32
d_ff = 11008
tie_embeddings = false
[train]
steps = 1000
batch = 1
precision = "bf16"
checkpoint_layers = true
"""
MACHINE = ["--devices", 64, "--memory", 80, "--tflops", 312]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seven.toml").write_text(RECIPE)


def planned(capsys, *flags):
    return run_cli(capsys, "plan", "seven.toml", *MACHINE, *flags)


def columns(out):
    """{"DDP": ["27", ...]}: the table's rows."""
    names = ("DDP", "ZeRO-1", "ZeRO-2", "FSDP", "tensor 8 x FSDP 8")
    found = {}
    for line in out.splitlines():
        for name in names:
            if line.startswith(name + "  "):
                found[name] = line[len(name) :].split()
    return found


def test_what_fits_and_what_it_takes(capsys):
    status, out, err = planned(capsys, "--price", 2, "--bandwidth", 100)
    assert status == 0, err
    rows = columns(out)
    assert rows["DDP"][5] == "no"
    assert rows["FSDP"][5] == "yes"
    assert float(rows["DDP"][0]) == pytest.approx(4 * 6.738, rel=0.01)
    assert "seven: 6.74 B parameters; bf16, layers checkpointed" in out
    assert "131 M tokens in 1,000 steps" in out
    assert "device hours" in out
    assert "at 2.00 an hour" in out


def test_flags_of_recipe_and_machine_may_be_mixed(capsys):
    status, out, err = planned(capsys, "--train.batch", 2, "--tokens", "1e12")
    assert status == 0, err
    assert "1 x 2 sequences of 2,048 tokens" in out
    assert "1 T tokens" in out


def test_the_remedy_of_a_plan_can_be_typed(capsys):
    flags = ["--train.checkpoint_layers", "false", "--train.batch", 8]
    status, out, _ = planned(capsys, *flags)
    assert status == 0
    (line,) = [line for line in out.splitlines() if line.startswith("FSDP:")]
    remedy = line.split("try ")[1].split()
    status, out, _ = planned(capsys, *flags, *remedy)
    assert columns(out)["FSDP"][5] == "yes"


def test_what_our_own_fsdp_gathers_is_said(capsys):
    assert "holds all weights, 27 GB" not in planned(capsys)[1]
    out = planned(capsys, "--memory", 40)[1]
    assert "the first device holds all weights, 27 GB" in out


def test_what_is_left_out_is_said():
    config = ModelConfig(vocab_size=100)
    machine = Machine(80e9, 1e12)
    assert notes(PretrainRecipe(), config, machine, []) == []
    (note,) = notes(StageRecipe(), config, machine, [])
    assert "critics and sampling come on top" in note
    (note,) = notes(PretrainRecipe(parent="x", lora=LoRA()), config, machine, [])
    assert "as if all weights were trained" in note


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--devices", 0], "--devices = 0: must be at least 1"),
        (["--memory", 0], "--memory = 0: must be above 0"),
        (["--mfu", 2], "--mfu = 2"),
        (["--tokens", -1], "--tokens = -1"),
        (["--train.batsh", 1], "did you mean 'batch'"),
        (["--devices", "many"], "invalid int value"),
    ],
)
def test_mistakes_are_one_line(capsys, flags, words):
    status, _, err = planned(capsys, *flags)
    assert status == 2
    assert words in err
    assert err.count("\n") == 1


def test_a_machine_must_be_described(capsys):
    status, _, err = run_cli(capsys, "plan", "seven.toml")
    assert status == 2
    assert "--memory" in err
    assert "--tflops" in err
