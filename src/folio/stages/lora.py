"""What one does with a LoRA run: merge it into a plain one, or hand its updates on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from folio.config import UserError, build, read_toml, to_toml
from folio.files import write_atomically
from folio.hub.convert import FAMILIES, config_to_hf
from folio.hub.names import SAME, TRANSPOSE, entries
from folio.model.adapter import save_adapter
from folio.model.config import ModelConfig
from folio.model.lora import lora_layers
from folio.model.store import save_model
from folio.stages.parent import fingerprint, is_lora, load_decoder, load_with_updates
from folio.stages.prepare import shard_folder
from folio.stages.recipe import PretrainRecipe
from folio.training.run import Run


def merge_run(folder: Path, out: Path) -> Run:
    """`folio lora merge`: a run with the updates merged in, that needs no parent."""
    run, merged = lora_run(folder), Run(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty; choose another folder for the merged run")
    model = load_decoder(folder)
    merged.model.mkdir(parents=True, exist_ok=True)
    save_model(model, merged.model)
    tokenizer = "tokenizer.json"
    shutil.copyfile(run.model / tokenizer, merged.model / tokenizer)
    recipe = build(PretrainRecipe, read_toml(run.recipe))
    shards = str(shard_folder(recipe, run).resolve())  # what it is judged on
    data = replace(recipe.data, shards=shards)
    recipe = replace(recipe, parent=None, lora=None, data=data)
    write_atomically(merged.recipe, to_toml(recipe))
    info = run.read_info()
    parent = {"path": str(folder), "fingerprint": fingerprint(folder)}
    notes = [*info.get("notes", []), f"the LoRA updates of {folder} merged in"]
    merged.update_info(**(info | {"parent": parent, "notes": notes}))
    return merged


def export_adapter(folder: Path, out: Path, base: str) -> None:
    """Write the updates of a LoRA run for PEFT, on the exported model `base`.

    `base`: the folder into which the parent was exported for transformers, or a name
    on the hub.
    """
    model = load_with_updates(lora_run(folder))
    names = their_names(model.config)
    for name in lora_layers(model):
        if name not in names:
            raise UserError(
                f"{name} is part of a larger matrix in the Hugging Face family of this "
                "model, so its update can't be handed on alone; `folio lora merge` "
                "first, then export the whole model"
            )
    save_adapter(model, out, rename=names.__getitem__, base=base)


def their_names(config: ModelConfig) -> dict[str, str]:
    """{our layer: its name in transformers}, where both have the same matrix."""
    table = FAMILIES[config_to_hf(config)["model_type"]].table
    return {
        entry.ours[0].removesuffix(".weight"): entry.theirs[0].removesuffix(".weight")
        for entry in entries(table, config)
        if entry.change in (SAME, TRANSPOSE) and entry.ours[0].endswith(".weight")
    }


def lora_run(folder: Path) -> Run:
    """The run in `folder`, which must be one of LoRA."""
    run = Run(folder)
    if not run.model.is_dir():
        raise UserError(f"{folder} holds no run: {run.model} is missing")
    if not is_lora(run):
        raise UserError(f"{folder} is no LoRA run: its weights are whole already")
    return run
