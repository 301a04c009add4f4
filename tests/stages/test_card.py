"""A model card says what its run and the runs before it have written down."""

import json
import shlex

import pytest
import yaml
from huggingface_hub import ModelCard

from folio.model.config import llama_like
from folio.model.decoder import Decoder
from folio.model.store import save_model
from folio.stages.card import command_of, lineage, model_card
from folio.text import ByteTokenizer
from folio.training.run import Run

SIZES = {"vocab_size": 263, "max_seq_len": 16, "d_model": 8, "n_layers": 1}
CONFIG = llama_like(**SIZES, n_heads=1)
VALUES = {"model_type": "llama"}


def make(folder, stage, parent=None, **info) -> Run:
    """As much of a run as a card reads."""
    run = Run(folder)
    folder.mkdir(parents=True)
    run.recipe.write_text(f'name = "{stage}"\nparent = "{parent}"\n[optim]\nlr = 0.5\n')
    recorded = parent and {"path": str(parent), "fingerprint": "0"}
    run.update_info(
        stage=stage,
        status="finished",
        step=70,
        seed=4,
        parent=recorded,
        command=f"folio {stage} recipes/{stage}.toml --run {shlex.quote(str(folder))}",
        **info,
    )
    return run


@pytest.fixture
def runs(tmp_path):
    home = tmp_path / "home of somebody"
    first = make(
        home / "base",
        "pretrain",
        data={"name": str(home / "letters.txt"), "train_tokens": 12_345},
        results={"seconds": 75.0, "tokens": 98_765.0, "val_loss": 1.0},
    )
    second = make(
        home / "talker",
        "sft",
        first.folder,
        data={"name": "tales"},
        results={
            "val_loss": 0.54321,
            "greedy_exact": 0.25,
            "greedy_accuracy.weather": 0.125,
            "best_step": 60,
            "seconds": 5.0,
        },
    )
    return first, second


def card_of(run: Run) -> str:
    return model_card(run, VALUES, CONFIG, ByteTokenizer())


def test_a_card_tells_the_whole_way(runs):
    card = card_of(runs[1])
    total = sum(p.numel() for p in Decoder(CONFIG).parameters())
    assert f"{total:,} parameters" in card
    assert "made by `folio sft`" in card
    first = "| base | pretrain | text | letters.txt, 12,345 tokens | 70 | 98,765 tokens"
    second = "| talker | sft | conversations | tales | 70 |"
    assert card.index(first) < card.index(second)
    assert "folio pretrain recipes/pretrain.toml --run base\nfolio sft" in card
    assert "Recipe of base" in card
    assert "Recipe of talker" in card
    assert "lr = 0.5" in card
    assert "| Held-out loss | 0.5432 |" in card
    assert "At step 60:" in card
    assert "weather" not in card
    assert "one seed\n(4)" in card
    assert "the data above and nothing else" in card
    assert "apply_chat_template" in card


def test_no_path_of_the_machine_gets_out(runs, tmp_path):
    card = card_of(runs[1])
    assert str(tmp_path) not in card
    assert "home of somebody" not in card
    assert 'parent = "base"' in card


def test_the_hub_can_read_it(runs):
    card = ModelCard(card_of(runs[1]))
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "text-generation"
    assert card.data.tags == ["folio", "pretrain", "sft"]
    matter = card_of(runs[1]).split("---\n")[1]
    assert set(yaml.safe_load(matter)) == {"library_name", "pipeline_tag", "tags"}


def test_results_of_an_evaluation_are_on_it(runs):
    measure = {"mean": 0.5, "low": 0.41, "high": 0.59, "count": 90}
    found = {"greedy": {"all": {"f1": measure}}, "sampled": {"all": {"f1": measure}}}
    kept = {"parts": {"seen wordings": {"prompts": "0", "results": found}}}
    (runs[1].folder / "answers.json").write_text(json.dumps(kept))
    card = card_of(runs[1])
    assert "90 prompts, seen wordings" in card
    assert "| 0.5 (0.41 to 0.59) | 0.5 (0.41 to 0.59) |" in card


def test_parents_that_moved_or_are_gone(runs, tmp_path):
    first, _ = runs
    moved = tmp_path / "elsewhere"
    first.folder.parent.rename(moved)
    names = [run.folder.name for run in lineage(Run(moved / "talker"))]
    assert names == ["base", "talker"]
    (moved / "base" / "run.json").unlink()
    card = card_of(Run(moved / "talker"))
    assert "were not at hand" in card
    assert "| base |" not in card


def test_runs_that_say_little(tmp_path):
    """Unfinished ones, and folders with nothing but a model."""
    run = make(tmp_path / "a", "pretrain")
    run.update_info(status="interrupted")
    assert "not finished" in card_of(run)
    assert "None were recorded." in card_of(run)
    bare = Run(tmp_path / "b")
    save_model(Decoder(CONFIG), bare.model)
    assert "# b\n" in card_of(bare)
    run.update_info(
        stage=None, command="import", source={"folder": "Qwen", "dtype": "bfloat16"}
    )
    card = card_of(run)
    assert "imported from Qwen (bfloat16)" in card
    assert "is not known here" in card


def test_commands_that_are_none_are_left_out():
    assert command_of({}) == ""
    assert command_of({"command": "import"}) == ""
    assert command_of({"command": "folio sft 'torn"}) == ""
    quoted = "folio sft r.toml --data.path '/home/me/my talk.jsonl'"
    expected = "folio sft r.toml --data.path 'my talk.jsonl'"
    assert command_of({"command": quoted}) == expected
