"""Decoding beside transformers: tokens per second, and what low precision costs.

Both have the same weights, of Llama's shape: 10 M (6 layers, 384 wide, 65 tokens) and
124 M (12 layers, 768 wide, 50,304 tokens), random. A prompt of 16 tokens, 64 new ones,
greedy, side by side in one run. In fp32 the tokens must be transformers' own.

Random weights say nothing of low precision, so that is judged on a trained model:
--run RUN, or a small one trained here on the tales.

On a machine with other work set OMP_NUM_THREADS=1: with as many threads as cores each
product waits for the slowest of them. --quick took 36 s with one thread, and 200 s with
two on two cores that two other programs kept busy, both sides being three times slower.
"""

import json
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from folio.config import UserError, build, read_toml
from folio.data.shards import open_shards
from folio.data.tokens import Tokens
from folio.evals.perplexity import perplexity
from folio.hub.convert import config_from_hf, tensors_from_hf
from folio.infer.fast import fast_decoder
from folio.model.decoder import Decoder
from folio.model.store import load_tensors
from folio.stages.demo import demo_recipe
from folio.stages.prepare import shard_folder
from folio.stages.pretrain import pretrain
from folio.stages.recipe import PretrainRecipe
from folio.stages.use import load_run
from folio.training.run import Run
from record import interleave, median, parse_arguments, record, time_once

PROMPT, NEW = 16, 64
SIZES = {
    "10M": {"layers": 6, "width": 384, "vocabulary": 65},
    "124M": {"layers": 12, "width": 768, "vocabulary": 50_304},
}
GOALS = {  # times transformers in fp32, one text
    ("10M", "fp32"): 2.6,
    ("10M", "int8"): 4.5,
    ("124M", "fp32"): 1.35,
    ("124M", "bf16"): 2.0,
    ("124M", "int8"): 3.5,
}
GOAL_MANY = 3.0  # the best precision at 8 and 32 texts
PRECISIONS = ("fp32", "bf16", "int8", "int4")
SLOWEST = 30.0  # seconds of one call


def their_model(layers: int, width: int, vocabulary: int) -> LlamaForCausalLM:
    """Random weights, but rows of the head that differ enough to talk of tokens."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=8 * width // 3 // 32 * 32,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        initializer_range=0.05,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def our_model(theirs: LlamaForCausalLM) -> Decoder:
    """The same weights, by the hub's tables."""
    config, family = config_from_hf(json.loads(theirs.config.to_json_string()))
    source = dict(theirs.state_dict())
    del source["lm_head.weight"]  # tied
    model = Decoder(config)
    load_tensors(model, tensors_from_hf(family, config, source))
    return model.eval()


def their_generate(model: LlamaForCausalLM, prompts: torch.Tensor) -> list[list[int]]:
    """New tokens by transformers, greedy, with its cache."""
    with torch.no_grad():
        tokens = model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=NEW,
            min_new_tokens=NEW,
            do_sample=False,
            use_cache=True,
        )
    return tokens[:, PROMPT:].tolist()


def measure(size: str, batch: int, precisions: tuple, rounds: int) -> list[dict]:
    """One row per contestant: tokens per second, and times transformers in fp32.

    What needs more than `SLOWEST` seconds for one call is timed no further.
    """
    theirs = their_model(**SIZES[size])
    ours = our_model(theirs)
    vocabulary = theirs.config.vocab_size
    prompts = torch.randint(1, vocabulary, (batch, PROMPT))
    expected = their_generate(theirs, prompts)
    functions = {"transformers fp32": partial(their_generate, theirs, prompts)}
    if "bf16" in precisions:
        halved = their_model(**SIZES[size]).bfloat16()
        functions["transformers bf16"] = partial(their_generate, halved, prompts)
    how = {}
    for precision in precisions:
        start = time.perf_counter()
        decoder = fast_decoder(
            ours, batch=batch, capacity=PROMPT + NEW, precision=precision
        )
        texts = prompts.tolist()
        name, how[f"folio {precision}"] = f"folio {precision}", decoder.how
        functions[name] = partial(decoder.generate, texts, NEW)
        made = time.perf_counter() - start
        print(f"{size:>5} x{batch:<3} {name:18} made in {made:.0f} s", flush=True)
        if precision == "fp32" and (found := functions[name]()) != expected:
            raise SystemExit(f"{size}, {batch}: tokens differ: {found} {expected}")
    slow = {name for name, call in functions.items() if time_once(call) > SLOWEST}
    for name in slow - {"transformers fp32"}:
        print(f"{size:>5} x{batch:<3} {name:18} left out: over {SLOWEST} s a call")
        del functions[name]
    seconds = interleave(functions, rounds, warmup=0, foreign=0.3)
    base = median(seconds["transformers fp32"])
    rows = []
    for name, values in seconds.items():
        tokens = batch * NEW / median(values)
        row = {"size": size, "batch": batch, "name": name, "how": how.get(name)}
        row |= {"tokens_per_second": tokens, "ratio": base / median(values)}
        row["threads"] = torch.get_num_threads()
        if name.startswith("folio") and batch == 1:
            row["goal"] = GOALS.get((size, name.split()[1]))
        rows.append(row | {"rounds_s": values})
        print(
            f"{size:>5} x{batch:<3} {name:18} {tokens:9.1f} {row['ratio']:6.2f}x",
            flush=True,
        )
    if batch > 1:
        best = max(row["ratio"] for row in rows if row["name"].startswith("folio"))
        rows[-1]["best_ratio"], rows[-1]["goal"] = best, GOAL_MANY
    return rows


# ---- what low precision costs --------------------------------------------------------


def trained(run: str | None, folder: Path) -> tuple[Decoder, Tokens, int]:
    """A trained model, its held-out text, and the length of its windows."""
    if run is None:
        recipe = demo_recipe(smoke=False, seed=1)
        train = replace(recipe.train, steps=500, eval_every=500, save_every=0)
        data = replace(recipe.data, megabytes=2.0)
        sample = replace(recipe.sample, every=0)
        recipe = replace(recipe, train=train, data=data, sample=sample)
        run = str(pretrain(recipe, folder / "run", say=lambda text: None).folder)
    model, tokenizer = load_run(Path(run), "cpu")
    recipe = build(PretrainRecipe, read_toml(Run(Path(run)).recipe))
    shards = shard_folder(recipe, Run(Path(run)))
    tokens = open_shards(shards, "validation", tokenizer)
    return model, tokens, min(model.config.max_seq_len, 256)


def judge(model: Decoder, tokens: Tokens, length: int) -> list[dict]:
    """Loss, and how long greedy texts stay those of fp32, per precision."""
    count, new = 32, min(NEW, length - PROMPT)
    step = (len(tokens) - PROMPT) // count
    prompts = [list(map(int, tokens[i * step :][:PROMPT])) for i in range(count)]
    rows, expected = [], None
    for precision in PRECISIONS:
        try:
            decoder = fast_decoder(
                model, batch=count, precision=precision, compile=False
            )
        except UserError as error:
            print(f"{precision}: {error}")
            continue
        texts = decoder.generate(prompts, new)
        expected = expected or texts
        pairs = list(zip(texts, expected, strict=True))
        equal = [a == b for one, two in pairs for a, b in zip(one, two, strict=True)]
        loss = perplexity(decoder.model, tokens, length)["val_loss"]
        row = {"precision": precision, "val_loss": loss}
        row["equal_tokens"] = sum(equal) / len(equal)
        row["first_token_equal"] = sum(one[0] == two[0] for one, two in pairs) / count
        row["loss_added"] = loss - rows[0]["val_loss"] if rows else 0.0
        rows.append(row)
        print(row)
    return rows


def main() -> None:
    arguments = parse_arguments(
        __doc__,
        ("--run", {"help": "a trained run, to judge low precision by"}),
        ("--rounds", {"type": int, "default": 7}),
        ("--sizes", {"nargs": "+", "default": list(SIZES), "choices": list(SIZES)}),
        ("--minutes", {"type": float, "default": 60.0, "help": "then begin no more"}),
        ("--batches", {"nargs": "+", "type": int, "default": [1, 8, 32]}),
    )
    end = time.monotonic() + 60 * arguments.minutes
    if arguments.quick:
        rows = measure("10M", 1, ("fp32",), rounds=5)
    else:
        with tempfile.TemporaryDirectory() as folder:
            judged = judge(*trained(arguments.run, Path(folder)))
        rows = []
        for size in arguments.sizes:
            for batch in arguments.batches:
                if time.monotonic() < end:
                    rows += measure(size, batch, PRECISIONS, arguments.rounds)
                else:
                    print(f"{size:>5} x{batch:<3} not begun: out of time")
        rows += judged
    first = [row for row in rows if row.get("name") == "folio fp32"]
    record("decode", first[0]["ratio"], GOALS["10M", "fp32"], rows)


if __name__ == "__main__":
    main()
