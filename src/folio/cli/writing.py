"""Verbs that let a run's model write, here in the terminal."""

from __future__ import annotations

import argparse
from pathlib import Path

from folio.cli.parser import Verbs, add_run, add_sampling, add_verb, given


def add_writing(verbs: Verbs) -> None:
    """generate, chat, stream, samples."""
    _add_generate(verbs)
    talk = add_verb(verbs, "chat", "talk with a model in the terminal", _chat)
    add_run(talk)
    talk.add_argument("--system", default="", help="who the model is to be")
    talk.add_argument("--max-new-tokens", type=int, default=512)
    add_sampling(talk, temperature=0.7)
    text = "write on without end, in constant memory, until Ctrl-C"
    stream = add_verb(verbs, "stream", text, _stream)
    add_run(stream)
    stream.add_argument("--prompt", default="")
    stream.add_argument("--window", type=int, help="(default: the model's reach)")
    stream.add_argument("--sinks", type=int, help="first tokens kept (default: 4)")
    stream.add_argument("--max-new-tokens", type=int, help="(default: no end)")
    add_sampling(stream, temperature=0.8)
    text = "the same prompts through several runs, side by side"
    samples = add_verb(verbs, "samples", text, _samples)
    samples.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    samples.add_argument("--prompt", action="append", default=[], dest="prompts")
    samples.add_argument("--plain", action="store_true", help="write on, don't answer")
    samples.add_argument("--out", type=Path, help="a Markdown page as well")
    samples.add_argument("--max-new-tokens", type=int, default=64)
    samples.add_argument("--temperature", type=float, default=1.0)
    samples.add_argument("--seed", type=int, default=0)
    samples.add_argument("--device", default="auto")


def _add_generate(verbs: Verbs) -> None:
    generate = add_verb(verbs, "generate", "write on from a prompt", _generate)
    add_run(generate)
    generate.add_argument("prompt", nargs="?", default="", help="empty: a new text")
    generate.add_argument("--max-new-tokens", type=int, default=200)
    add_sampling(generate, temperature=0.8)
    generate.add_argument("--samples", type=int, default=1, help="seeds SEED, SEED+1..")
    guess = generate.add_mutually_exclusive_group()
    guess.add_argument(
        "--draft",
        type=Path,
        help="a smaller run that guesses ahead: same texts, faster",
    )
    guess.add_argument(
        "--lookup", type=int, metavar="N", help="guess from the last N tokens' repeats"
    )
    generate.add_argument("--ahead", type=int, default=4, help="tokens guessed at once")


def _generate(options: argparse.Namespace) -> None:
    from folio.stages.use import write_on

    write_on(options)


def _chat(options: argparse.Namespace) -> None:
    from folio.stages.chat import chat

    chat(options)


def _stream(options: argparse.Namespace) -> None:
    from folio.stages.stream import stream_run

    stream_run(options)


def _samples(options: argparse.Namespace) -> None:
    from folio.stages.samples import show_samples

    names = ("prompts", "out", "plain", "max_new_tokens")
    names += ("temperature", "seed", "device")
    show_samples(options.runs, **given(options, names))
