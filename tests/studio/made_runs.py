"""Runs made in a moment: random weights that read and write bytes."""

from pathlib import Path

import torch

from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.model.store import save_model
from folio.text.byte import ByteTokenizer
from folio.training.run import Run

TOKENIZER = ByteTokenizer()


def make_run(folder: Path, stage: str = "sft", seed: int = 0, **changes) -> Path:
    """A run of random weights that reads and writes bytes, 192 at most."""
    torch.manual_seed(seed)
    config = {"d_model": 16, "n_layers": 2, "n_heads": 2, "max_seq_len": 192}
    config |= {"vocab_size": TOKENIZER.vocab_size} | changes
    run = Run(folder)
    save_model(Decoder(ModelConfig(**config)), run.model)
    TOKENIZER.save(run.model)
    run.update_info(stage=stage, step=7)
    return folder
