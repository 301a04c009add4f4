"""Using a run: write on from a prompt, measure on held-out text."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from folio.config import UserError, build, read_toml
from folio.data.corpora import open_corpus
from folio.data.shards import open_shards
from folio.data.tokens import Tokens
from folio.evals.perplexity import perplexity
from folio.infer.generate import generate_text
from folio.infer.sampling import Sampling
from folio.infer.speculative import (
    Draft,
    DraftModel,
    LookUp,
    Tally,
    speculative_text,
)
from folio.model import store
from folio.model.decoder import Decoder
from folio.model.scorer import Scorer
from folio.runtime import find_device
from folio.stages.parent import load_decoder
from folio.stages.prepare import shard_folder
from folio.stages.recipe import PretrainRecipe, TrainRecipe
from folio.text.tokenizer import Tokenizer
from folio.training.run import Run
from folio.viz import compare_table, main_columns, write_compare


def load_run(folder: Path, device: str = "auto") -> tuple[Decoder, Tokenizer]:
    """The model and tokenizer that a run made."""
    model_folder = Run(folder).model
    if not model_folder.is_dir():
        raise UserError(f"{folder} holds no run: {model_folder} is missing")
    model = load_decoder(folder, find_device(device))
    tokenizer = Tokenizer.load(model_folder)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise UserError(
            f"{model_folder}: the tokenizer has {tokenizer.vocab_size} tokens, the "
            f"model only {model.config.vocab_size}; they don't belong together"
        )
    return model, tokenizer


def load_scorer(folder: Path, device: str = "auto") -> tuple[Scorer, Tokenizer]:
    """The reward model and tokenizer of a run of `folio reward`."""
    model_folder = Run(folder).model
    if not model_folder.is_dir():
        raise UserError(f"{folder} holds no run: {model_folder} is missing")
    model = store.load_scorer(model_folder, find_device(device))
    return model, Tokenizer.load(model_folder)


def sampling_of(options: argparse.Namespace) -> Sampling:
    """What the flags of a verb that writes ask for."""
    return Sampling(
        options.temperature,
        options.top_k,
        options.top_p,
        options.min_p,
        options.repetition_penalty,
    )


def write_on(options: argparse.Namespace) -> None:
    """`folio generate`: print the prompt and what follows, as it is chosen."""
    sampling = sampling_of(options)
    model, tokenizer = load_run(options.run, options.device)
    draft, tally = make_draft(options, tokenizer), Tally()
    for number in range(options.samples):
        if number:
            print("\n" + "-" * 40)
        print(options.prompt, end="", flush=True)
        common = (model, tokenizer, options.prompt, options.max_new_tokens)
        chances = {"sampling": sampling, "seed": options.seed + number}
        if draft is None:
            pieces = generate_text(*common, **chances)
        else:
            more = {"ahead": options.ahead, "tally": tally}
            pieces = speculative_text(*common, draft, **more, **chances)
        for piece in pieces:
            print(piece, end="", flush=True)
        print()
    if draft is not None:
        print(
            f"{tally.acceptance:.0%} of the guesses were kept: "
            f"{tally.tokens_per_read:.2f} tokens for each reading of the model",
            file=sys.stderr,
        )


def make_draft(options: argparse.Namespace, tokenizer: Tokenizer) -> Draft | None:
    """Who guesses ahead, if `folio generate` was told to let somebody."""
    if options.lookup is not None:
        if options.lookup < 1:
            raise UserError(f"--lookup {options.lookup}: must be at least 1")
        return LookUp(options.lookup)
    if options.draft is None:
        return None
    model, its_tokenizer = load_run(options.draft, options.device)
    if its_tokenizer.fingerprint != tokenizer.fingerprint:
        raise UserError(
            f"--draft {options.draft} has another tokenizer than {options.run}, so its "
            "guesses mean nothing; give a run that was trained with the same one"
        )
    return DraftModel(model)


def evaluate_perplexity(
    folder: Path, data: str | None = None, *, device: str = "auto"
) -> None:
    """`folio eval`: measure a run's model, on its own held-out text or on another."""
    model, tokenizer = load_run(folder, device)
    run = Run(folder)
    length, batch = min(model.config.max_seq_len, 1024), TrainRecipe.eval_batch
    recipe = None
    if run.recipe.is_file():
        recipe = build(PretrainRecipe, read_toml(run.recipe))
        length, batch = recipe.length, recipe.train.eval_batch
    if data is not None:
        tokens = encode_file(data, tokenizer)
    elif recipe is not None:
        tokens = open_shards(shard_folder(recipe, run), "validation", tokenizer)
    else:
        raise UserError(f"{folder} was imported, without a text: give one with --path")
    start = time.perf_counter()
    metrics = perplexity(model, tokens, length, batch)
    seconds = time.perf_counter() - start
    print(f"{len(tokens):,} tokens of {data or 'held-out text'} in {seconds:.1f} s")
    for name, value in metrics.items():
        print(f"{name:20} {value:.4f}")


def encode_file(path: str, tokenizer: Tokenizer) -> Tokens:
    """A text of the user's, encoded in memory."""
    ids: list[int] = []
    text_bytes = documents = 0
    for document in open_corpus(path).documents():
        ids += tokenizer.start_ids + tokenizer.encode(document)
        ids.append(tokenizer.end_of_text)
        text_bytes += len(document.encode())
        documents += 1
    return Tokens.from_ids(
        ids,
        vocab_size=tokenizer.vocab_size,
        documents=documents,
        text_bytes=text_bytes,
    )


def compare_runs(folders: list[Path], out: Path) -> None:
    """`folio compare`: the main numbers here, curves and samples in a page."""
    rows = compare_table(folders)
    columns = main_columns(rows)
    width = max(len(row["run"]) for row in rows)
    print(" ".join(["run".ljust(width), *(f"{name:>18}" for name in columns)]))
    for row in rows:
        shown = [
            " " * 18 if row.get(name) is None else f"{row[name]:>18,.6g}"
            for name in columns
        ]
        print(" ".join([row["run"].ljust(width), *shown]))
    print(write_compare(folders, out))
