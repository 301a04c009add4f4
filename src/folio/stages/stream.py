"""`folio stream`: write on without end, in memory that doesn't grow."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator

from folio.infer.generate import generate
from folio.infer.sampling import Sampling
from folio.infer.stream import streaming
from folio.model.decoder import Decoder
from folio.stages.use import load_run, sampling_of
from folio.text.tokenizer import Tokenizer


def stream_run(options: argparse.Namespace) -> None:
    """Print the prompt and what follows until Ctrl-C, or `max_new_tokens`.

    How much, how fast and in how much memory is said on standard error at the end.
    """
    sampling = sampling_of(options)
    model, tokenizer = load_run(options.run, options.device)
    model = streaming(model, options.window, options.sinks)
    print(options.prompt, end="", flush=True)
    tokens, start = 0, time.perf_counter()
    try:
        for piece in endless_text(
            model,
            tokenizer,
            options.prompt,
            options.max_new_tokens,
            sampling=sampling,
            seed=options.seed,
        ):
            print(piece, end="", flush=True)
            tokens += 1
    except KeyboardInterrupt:  # the way to end what has no end
        pass
    finally:  # a closed pipe, too, is a reason to say how far it came
        report(model, tokens, time.perf_counter() - start)
    print()


def endless_text(
    model: Decoder,
    tokenizer: Tokenizer,
    prompt: str,
    max_new_tokens: int | None = None,
    *,
    sampling: Sampling,
    seed: int = 0,
) -> Iterator[str]:
    """The continuation, one piece for each token, in whole characters, maybe none.

    Where one text ends, the next begins after an empty line.
    """
    end = tokenizer.end_of_text
    decoder = tokenizer.stream_decoder(special=False, continued=True)
    for token in generate(
        model,
        tokenizer.prompt_ids(prompt),
        max_new_tokens,
        sampling=sampling,
        seed=seed,
        vocab_size=tokenizer.vocab_size,
    ):
        yield decoder.flush() + "\n\n" if token == end else decoder.push(token)


def report(model: Decoder, tokens: int, seconds: float) -> None:
    """One line on standard error."""
    window, sinks = model.config.window, model.config.sinks
    print(
        f"\n{tokens:,} tokens, {tokens / seconds:,.1f} tokens/s, at most "
        f"{peak_memory() / 2**20:,.0f} MiB of memory (window {window}, sinks {sinks})",
        file=sys.stderr,
    )


def peak_memory() -> int:
    """The most bytes of memory that this process has ever held."""
    import resource  # Windows has none

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
