"""Runs that start from a run: whole or by LoRA, resumed bit for bit, used and moved."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from folio.config import UserError, build, merge, read_toml
from folio.hub.convert import FAMILIES, config_to_hf, tensors_to_hf
from folio.model.config import gpt2_like, llama_like
from folio.model.store import load_model
from folio.stages.assemble import make_learner, make_model
from folio.stages.lora import export_adapter, merge_run, their_names
from folio.stages.parent import (
    base_of,
    fingerprint,
    load_decoder,
    load_recipe,
    with_parent,
)
from folio.stages.pretrain import pretrain
from folio.stages.recipe import PretrainRecipe
from folio.stages.show import show
from folio.text.tokenizer import Tokenizer
from folio.training.run import Run
from folio.training.snapshot import newest_snapshot, snapshot_paths
from helpers import assert_same, rows, run_cli, tale, tiny_recipe

STEPS = 5
CHILD = {
    "name": "child",
    "data": {"path": "other.txt"},
    "optim": {"lr": 0.02, "warmup": 2},
    "train": {"steps": STEPS, "batch": 2, "eval_every": 2, "save_every": 1, "keep": 99},
    "sample": {"every": 4, "max_new_tokens": 4},
    "log": {"every": 2},
}
LORA = {"rank": 2, "alpha": 8.0, "targets": ["attention.*", "mlp.up"], "dropout": 0.1}
TOKENS = torch.arange(2 * 9).view(2, 9) % 17


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with a trained run `base` and another text in its characters."""
    folder = tmp_path_factory.mktemp("parents")
    recipe = tiny_recipe(folder, train={"steps": 6, "save_every": 0})
    pretrain(recipe, folder / "base", say=silent)
    (folder / "other.txt").write_text(tale()[::-1], encoding="utf-8")
    return folder


@pytest.fixture
def place(trained, tmp_path, monkeypatch) -> Path:
    """A copy of that folder to work in, which is the current one."""
    shutil.copytree(trained, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def silent(text: str) -> None:
    pass


def child(parent: str = "base", **changes) -> PretrainRecipe:
    values = merge(CHILD | {"parent": parent}, changes)
    return build(PretrainRecipe, with_parent(values))


def run(recipe: PretrainRecipe, folder: str, **options) -> Run:
    return pretrain(recipe, Path(folder), say=silent, **options)


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(TOKENS).logits


def left(folder: str) -> tuple[dict, dict]:
    """All of a run that must not depend on whether it was interrupted."""
    snapshot = newest_snapshot(Path(folder) / "snapshots", silent)
    parts = ("model", "optimizer", "rng")
    tensors = {f"{p}.{n}": t for p in parts for n, t in getattr(snapshot, p).items()}
    snapshot.state["progress"].pop("seconds")
    models = {p.name: p.read_bytes() for p in (Path(folder) / "model").iterdir()}
    logs = [rows(Path(folder) / name) for name in ("metrics.jsonl", "samples.jsonl")]
    return tensors, {"state": snapshot.state, "model": models, "logs": logs}


# ---- what comes from the parent ------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"lora": LORA}])
def test_a_child_begins_as_its_parent(place, changes):
    recipe = child(**changes, model={"dropout": 0.0})
    model = make_model(recipe, 0)
    assert torch.equal(logits(model), logits(load_model("base/model")))
    assert recipe.model.dropout == 0.0  # which may change
    assert recipe.model.d_model == 16
    assert model.config.vocab_size == Tokenizer.load(Path("base/model")).vocab_size


def test_a_whole_child_learns_all_and_is_a_run_like_any_other(place):
    made = run(child(), "child")
    one, other = load_model("base/model"), load_model("child/model")
    assert all(
        not torch.equal(t, other.state_dict()[n]) for n, t in one.state_dict().items()
    )
    files = [Path(f, "model/tokenizer.json").read_bytes() for f in ("base", "child")]
    assert files[0] == files[1]
    parent = made.read_info()["parent"]
    assert parent == {"path": "base", "fingerprint": fingerprint(Path("base"))}
    assert (
        made.read_info()["trained_parameters"]
        == (made.read_info()["parameters"]["total"])
    )
    shutil.rmtree("base")  # it stands on its own
    assert torch.isfinite(logits(load_decoder(Path("child")))).all()


def test_the_written_recipe_is_complete_and_makes_the_same_run(place):
    made = run(child(lora=LORA), "one")
    again = load_recipe(PretrainRecipe, made.recipe)
    assert again == child(lora=LORA)
    assert again.model.n_layers == 2
    run(again, "other")
    assert_same(left("one")[0], left("other")[0])


def test_show_still_works(place, capsys):
    show(child(lora=LORA))
    printed = capsys.readouterr().out
    assert 'parent = "base"' in printed
    assert "# r, the width of the thin matrices" in printed


# ---- LoRA ----------------------------------------------------------------------------


def test_a_lora_run_is_small_and_usable(place):
    made = run(child(lora=LORA), "child")
    assert sorted(path.name for path in made.model.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "config.json",
        "tokenizer.json",
    ]
    info = made.read_info()
    trained = sum(
        t.numel() for t in load_file(made.model / "adapter_model.safetensors").values()
    )
    assert info["trained_parameters"] == trained < info["parameters"]["total"] / 3
    snapshot = newest_snapshot(made.snapshots, silent)
    assert all(".lora_" in name for name in snapshot.model)
    best = info["results"]["best_step"]
    learner = make_learner(child(lora=LORA), 0)
    updates = dict(learner.model.named_parameters())
    with torch.no_grad():
        for name, tensor in _model_at(made, best).items():
            updates[name].copy_(tensor)
    found = load_decoder(made.folder)
    assert torch.allclose(logits(found), logits(learner.model), atol=1e-5)
    assert not torch.allclose(logits(found), logits(load_model("base/model")))
    assert found.state_dict().keys() == load_model("base/model").state_dict().keys()


def _model_at(made: Run, step: int) -> dict[str, torch.Tensor]:
    return load_file(made.snapshots / f"step-{step:08d}" / "model.safetensors")


@pytest.mark.parametrize("changes", [{}, {"lora": LORA}])
def test_resumed_at_every_step_equals_never_stopped(place, changes):
    recipe = child(**changes)
    run(recipe, "whole")
    expected = left("whole")
    for step in range(STEPS):
        cut = f"cut-{step}"
        shutil.copytree("whole", cut)
        for path in snapshot_paths(Path(cut, "snapshots")):
            if int(path.name.removeprefix("step-")) > step:
                shutil.rmtree(path)
        torch.manual_seed(step)
        run(recipe, cut, resume=True)
        found = left(cut)
        assert_same(found[0], expected[0])
        assert found[1] == expected[1]


def test_a_parent_that_changed_stops_a_lora_run_but_no_other(place):
    for name, changes in (("whole", {}), ("lora", {"lora": LORA})):
        recipe = child(**changes)
        run(recipe, name)
        shutil.rmtree(snapshot_paths(Path(name, "snapshots"))[-1])
    expected = left("whole")[0]
    longer = merge(read_toml("base/recipe.toml"), {"train": {"steps": 9}})
    run(build(PretrainRecipe, longer), "base", resume=True)
    with pytest.raises(UserError, match=r"'base' has other weights than when lora beg"):
        run(child(lora=LORA), "lora", resume=True)
    with pytest.raises(UserError, match=r"base has other weights now"):
        load_decoder(Path("lora"))
    run(child(), "whole", resume=True)
    assert left("whole")[0].keys() == expected.keys()


def test_folders_of_runs_may_move_together(place):
    run(child(lora=LORA), "child")
    before = logits(load_decoder(Path("child")))
    Path("elsewhere").mkdir()
    for name in ("base", "child"):
        shutil.move(name, f"elsewhere/{name}")
    moved = Run(Path("elsewhere/child"))
    assert base_of(moved) == Path("elsewhere/base")
    assert torch.equal(logits(load_decoder(moved.folder)), before)
    shutil.rmtree("elsewhere/base")
    with pytest.raises(UserError, match="base, but base is not there; bring") as caught:
        load_decoder(moved.folder)
    assert "\n" not in str(caught.value)


def test_a_child_of_a_lora_run_starts_from_the_merged_weights(place):
    run(child(lora=LORA), "child")
    grandchild = child("child", lora=LORA | {"targets": ["value"]})
    assert torch.equal(
        logits(make_model(grandchild, 0)), logits(load_decoder(Path("child")))
    )
    made = run(grandchild, "grandchild")
    assert base_of(made) == Path("child")
    assert torch.isfinite(logits(load_decoder(made.folder))).all()
    (Path("child/model/adapter_model.safetensors")).write_bytes(b"other weights")
    with pytest.raises(UserError, match="has other weights now"):
        load_decoder(made.folder)


# ---- merged, exported ----------------------------------------------------------------


def test_merged_it_needs_no_parent(place):
    made = run(child(lora=LORA), "child")
    before = logits(load_decoder(made.folder))
    merged = merge_run(made.folder, Path("merged"))
    shutil.rmtree("base")
    assert torch.equal(logits(load_model("merged/model")), before)
    assert (
        Tokenizer.load(merged.model).vocab_size
        == load_model("merged/model").config.vocab_size
    )
    recipe = build(PretrainRecipe, read_toml(merged.recipe))
    assert (recipe.parent, recipe.lora) == (None, None)
    assert Path(recipe.data.shards).is_dir()
    info = merged.read_info()
    assert info["parent"]["path"] == "child"
    assert info["results"] == made.read_info()["results"]
    with pytest.raises(UserError, match="merged is not empty"):
        merge_run(made.folder, Path("merged"))
    with pytest.raises(UserError, match="merged is no LoRA run"):
        merge_run(Path("merged"), Path("new"))
    with pytest.raises(UserError, match="nowhere holds no run"):
        merge_run(Path("nowhere"), Path("new"))
    assert not Path("new").exists()


# ---- mistakes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"parent": "nowhere"}, "parent = 'nowhere': no such run"),
        ({"parent": "base/shards"}, "'base/shards' holds no run: no model/config.json"),
        ({"model": {"d_model": 32}}, "model.d_model = 32, but parent = 'base' has 16"),
        ({"model": {"n_layers": 4}}, "model.n_layers = 4, but"),  # the usual default
        ({"model": {"d_modle": 16}}, "unknown key 'model.d_modle'"),
        (
            {"tokenizer": {"kind": "bpe"}},
            "tokenizer.kind = 'bpe', but the tokenizer is",
        ),
        ({"tokenizer": {"path": "other"}}, "tokenizer.path = 'other', but the tok"),
        ({"lora": {"rank": 0}}, "rank = 0: must be at least 1"),
        ({"lora": {"ranks": 1}}, "unknown key 'lora.ranks'; did you mean 'rank'"),
        (
            {"lora": {"targets": ["querry"]}},
            "'querry', which names no linear layer; did",
        ),
        ({"lora": {"targets": ["head"]}}, "the head is tied to the embedding"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(place, changes, words):
    with pytest.raises(UserError) as caught:
        run(child(**changes), "child")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("child").exists()


def test_lora_needs_a_parent():
    with pytest.raises(UserError, match=r"\[lora\] .* set parent = RUN"):
        build(PretrainRecipe, {"lora": {}})


def test_a_shape_given_by_hand_must_fit(place):
    """Recipes that are not read from files or flags know no parent's shape."""
    recipe = build(PretrainRecipe, {"parent": "base"})
    with pytest.raises(UserError, match=r"model\.max_seq_len = 256, but parent"):
        make_model(recipe, load_model("base/model").config.vocab_size)
    with pytest.raises(UserError, match=r"model\.vocab_size = 5, but parent"):
        make_model(recipe, 5)


def test_a_run_whose_record_is_gone_is_named(place):
    made = run(child(lora=LORA), "child")
    info = made.read_info() | {"parent": None}
    made.info.write_text(json.dumps(info))
    with pytest.raises(UserError, match=r"run\.json names no parent"):
        load_decoder(made.folder)


def test_a_text_with_other_characters_is_refused(place):
    Path("other.txt").write_text("Ωmega " * 400, encoding="utf-8")
    with pytest.raises(UserError, match="Ω"):
        run(child(), "child")
    assert not Path("child").exists()


def test_layers_computed_again_make_the_same_run(place):
    for name, again in (("one", False), ("other", True)):
        run(child(train={"checkpoint_layers": again}), name)
    assert make_learner(
        child(train={"checkpoint_layers": True}), 0
    ).model.checkpoint_layers
    assert_same(left("one")[0], left("other")[0])


CHILD_TOML = """\
name = "child"
parent = "base"
[data]
path = "other.txt"
[train]
steps = 2
batch = 2
[sample]
every = 0
"""


def test_from_the_command_line(place, capsys):
    Path("child.toml").write_text(CHILD_TOML)
    status, out, err = run_cli(capsys, "pretrain", "child.toml", "--lora.rank", 2)
    assert status == 0, err
    assert "LoRA of rank 2: 256 parameters are trained" in out
    options = ("On day", "--max-new-tokens", 5)
    assert run_cli(capsys, "generate", "runs/child", *options)[0] == 0
    assert run_cli(capsys, "eval", "runs/child")[0] == 0
    assert run_cli(capsys, "show", "child.toml", "--lora.targets", '["mlp.*"]')[0] == 0
    status, _, err = run_cli(capsys, "show", "child.toml", "--model.d_model", 32)
    assert (status, err.count("\n")) == (2, 1)
    assert "model.d_model = 32, but parent = 'base' has 16" in err
    shutil.rmtree("base")
    status, _, err = run_cli(capsys, "generate", "runs/child", *options)
    assert (status, err.count("\n")) == (2, 1)
    assert "base is not there" in err


# ---- for PEFT ------------------------------------------------------------------------


def test_peft_applies_the_exported_updates_to_the_exported_base(place):
    peft, transformers = (pytest.importorskip(n) for n in ("peft", "transformers"))
    made = run(child(lora=LORA), "child")
    base, ours = load_model("base/model"), load_decoder(made.folder)
    config = config_to_hf(base.config)
    family = FAMILIES[config["model_type"]]
    hf = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**config)
    )
    tensors = tensors_to_hf(family, base)
    assert hf.load_state_dict(tensors, strict=False).unexpected_keys == []
    export_adapter(made.folder, Path("peft"), base="exported/base")
    theirs = peft.PeftModel.from_pretrained(hf, "peft").eval()
    with torch.no_grad():
        assert torch.allclose(theirs(TOKENS).logits, logits(ours), atol=1e-5)
        merged = theirs.merge_and_unload()
        assert torch.allclose(merged(TOKENS).logits, logits(ours), atol=1e-5)
    assert not torch.allclose(logits(ours), logits(base), atol=1e-3)


def test_matrices_that_a_family_joins_are_handed_on_whole_or_not_at_all():
    shape = {"vocab_size": 17, "d_model": 16, "n_layers": 1, "n_heads": 2}
    names = their_names(gpt2_like(**shape))
    assert names["blocks.0.mlp.up"] == "transformer.h.0.mlp.c_fc"
    assert "blocks.0.attention.query" not in names  # part of c_attn
    names = their_names(llama_like(**shape))
    assert names["blocks.0.attention.query"] == "model.layers.0.self_attn.q_proj"


def test_what_cannot_be_exported_is_named(place):
    shape = {"positions": "learned", "norm": "layernorm", "mlp": "gelu_tanh"}
    recipe = tiny_recipe(
        place, name="gpt2", model=shape | {"bias": True}, train={"steps": 1}
    )
    run(recipe, "gpt2")
    made = run(child("gpt2", lora=LORA | {"targets": ["up", "value"]}), "child")
    with pytest.raises(UserError, match=r"blocks\.0\.attention\.value is part of a"):
        export_adapter(made.folder, Path("peft"), base="exported")
    assert not Path("peft").exists()
