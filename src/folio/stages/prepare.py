"""From the recipe's text to a tokenizer and two lists of token ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from folio.config import UserError
from folio.data.corpora import Corpus, open_corpus
from folio.data.prepare import prepare
from folio.data.shard_parts import merge_parts, prepare_part
from folio.data.shards import open_shards
from folio.data.tokens import Tokens
from folio.runtime import cores, data_world
from folio.stages.recipe import DataRecipe, PretrainRecipe, TokenizerRecipe
from folio.text.bpe import BPETokenizer
from folio.text.byte import ByteTokenizer
from folio.text.char import CharTokenizer
from folio.text.tokenizer import Tokenizer
from folio.text.word_bpe import WordBPETokenizer
from folio.text.wordpiece import WordPieceTokenizer
from folio.training.run import Run

Say = Callable[[str], None]
FIXED = ("char", "byte")  # kinds whose vocabulary nobody chooses


def recipe_corpus(data: DataRecipe, seed: int) -> Corpus:
    """The text that a recipe names; a path wins over a corpus."""
    return open_corpus(
        data.path or data.corpus,
        separator=data.separator,
        field=data.field,
        seed=seed,
        megabytes=data.megabytes,
    )


def load_tokenizer(path: str | Path) -> Tokenizer:
    """A tokenizer.json, a run or model folder, or GPT-2's vocab.json and merges.txt."""
    path = Path(path)
    for folder in (path, path / "model"):
        if (folder / "tokenizer.json").is_file():
            return Tokenizer.load(folder / "tokenizer.json")
    if (path / "merges.txt").is_file():
        return BPETokenizer.from_gpt2(path).with_special_tokens()
    return Tokenizer.load(path)


def train_tokenizer(options: TokenizerRecipe, texts: Iterator[str]) -> Tokenizer:
    """Learn the tokenizer that the recipe describes from `texts`."""
    match options.kind:
        case "byte":
            return ByteTokenizer()
        case "char":
            return CharTokenizer.train(texts)
        case "word_bpe":
            return WordBPETokenizer.train(texts, options.vocab_size)
        case "wordpiece":
            return WordPieceTokenizer.train(texts, options.vocab_size)
        case "bpe":
            return BPETokenizer.train(
                texts,
                options.vocab_size,
                pattern=options.pattern,
                processes=cores(),
            )


def texts_to_learn_from(corpus: Corpus, recipe: PretrainRecipe) -> Iterator[str]:
    """What a tokenizer is trained on: the training part, up to so many megabytes.

    A tokenizer of characters looks at all of the text: one that it has never seen
    couldn't be encoded later.
    """
    if recipe.tokenizer.kind == "char":
        yield from corpus.documents()
        return
    left = recipe.tokenizer.sample_megabytes * 1e6
    for text in corpus.training_texts(recipe.data.val_fraction):
        yield text
        left -= len(text)
        if left <= 0:
            return


def prepare_tokenizer(
    recipe: PretrainRecipe, run: Run, resume: bool, say: Say
) -> Tokenizer:
    """The run's tokenizer: the one it has, the one named, or one learned now."""
    path = run.model / "tokenizer.json"
    if resume and path.is_file():
        return Tokenizer.load(path)
    options = recipe.tokenizer
    if options.path is not None:
        tokenizer = load_tokenizer(options.path)
    else:
        say(f"learning a {options.kind} tokenizer")
        corpus = recipe_corpus(recipe.data, recipe.seed)
        tokenizer = train_tokenizer(options, texts_to_learn_from(corpus, recipe))
        if tokenizer.vocab_size < options.vocab_size and options.kind not in FIXED:
            run.note(
                f"the text supports only {tokenizer.vocab_size} tokens, not "
                f"tokenizer.vocab_size = {options.vocab_size}"
            )
    tokenizer.save(path)
    return tokenizer


def shard_folder(recipe: PretrainRecipe, run: Run) -> Path:
    """Where the run's token files lie."""
    return Path(recipe.data.shards) if recipe.data.shards else run.shards


def prepare_tokens(
    recipe: PretrainRecipe, tokenizer: Tokenizer, run: Run, say: Say
) -> None:
    """Make sure that the run's token files are there and fit recipe and tokenizer."""
    if recipe.data.val_fraction == 0:
        raise UserError("data.val_fraction = 0: hold some text out, such as 0.1")
    folder = shard_folder(recipe, run)
    index = prepare(
        recipe_corpus(recipe.data, recipe.seed),
        tokenizer,
        folder,
        val_fraction=recipe.data.val_fraction,
        dedup=recipe.data.dedup,
        processes=cores(),
    )
    say(f"{'found' if index['reused'] else 'wrote'} token files in {folder}")


def prepare_in_parts(
    recipe: PretrainRecipe,
    *,
    parts: int,
    part: int | None = None,
    merge: bool = False,
    say: Say = print,
) -> None:
    """`folio prepare`: one part of a recipe's token files, or what joins the parts.

    Any number of processes may prepare different parts at the same time. With neither
    `part` nor `merge`, all of it happens here, one part after another; the files are
    the same. They lie in data.shards, and are found there by `folio pretrain`.
    """
    folder, path = recipe.data.shards, recipe.tokenizer.path
    if folder is None:
        raise UserError("data.shards: name the folder that all parts are to share")
    if path is None:
        raise UserError(
            "tokenizer.path: name the tokenizer that all parts are to share; "
            "`folio tokenizer` makes one"
        )
    if part is not None and merge:
        raise UserError(f"part = {part}: parts are joined when all of them are there")
    if not merge:
        corpus = recipe_corpus(recipe.data, recipe.seed)
        tokenizer = load_tokenizer(path)
        for number in range(parts) if part is None else [part]:
            index = prepare_part(
                corpus,
                tokenizer,
                folder,
                number,
                parts,
                val_fraction=recipe.data.val_fraction,
                dedup=recipe.data.dedup,
                processes=cores(),
            )
            done = "found" if index["reused"] else "wrote"
            say(f"{done} part {number} of {parts} in {folder}")
    if part is None:
        index = merge_parts(folder, parts)
        tokens = sum(entry["tokens"] for entry in index["shards"])
        say(f"{tokens:,} tokens in {len(index['shards'])} shards in {folder}")


def open_tokens(
    recipe: PretrainRecipe, tokenizer: Tokenizer, run: Run
) -> tuple[Tokens, Tokens]:
    """Training and held-out ids."""
    folder = shard_folder(recipe, run)
    train = open_shards(folder, "train", tokenizer)
    return train, open_shards(folder, "validation", tokenizer)


def check_enough(count: int, what: str) -> None:
    """UserError for more ranks than there is to read: some would only repeat others."""
    if count < data_world():
        raise UserError(
            f"{data_world()} processes are to share {count} {what}; start at most "
            f"{count} of them, or bring more data"
        )
