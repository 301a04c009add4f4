"""The engine beside its alternatives: requests of mixed lengths that arrive at random.

The same requests, arriving by the same clock (Poisson), are served by `Engine`, by
`generate` one after another, and in static batches: whoever is there when a batch
starts, padded to the longest prompt, until the last of them has ended. All choose
greedily and make as many tokens as asked. The value is the tokens per second of the
engine beside those of one by one.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from folio.infer.cache import make_caches
from folio.infer.engine import Engine
from folio.infer.generate import generate
from folio.infer.request import Request
from folio.infer.sampling import GREEDY
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from record import load, median, parse_arguments, record

GOAL = 2.0  # times the tokens per second of one by one
BATCH = 32
SIZES = {
    "1M": {"d_model": 128, "n_layers": 4, "n_heads": 4, "vocab_size": 1024},
    "10M": {"d_model": 384, "n_layers": 6, "n_heads": 6, "vocab_size": 4096},
}


@dataclass
class Job:
    """One request: when it arrives, and what became of it, in seconds."""

    arrives: float
    prompt: list[int]
    count: int
    first: float | None = None  # when its first token was there
    last: float | None = None


def make_jobs(count: int, rate: float, vocabulary: int) -> list[Job]:
    """Prompts of 4 to 256 tokens, answers of 4 to 128, mostly short ones."""
    chances, now, jobs = random.Random(0), 0.0, []
    for _ in range(count):
        now += chances.expovariate(rate)
        length = int(4 * 64 ** chances.random())
        prompt = [chances.randrange(vocabulary) for _ in range(length)]
        jobs.append(Job(now, prompt, int(4 * 32 ** chances.random())))
    return jobs


def serve_with_engine(model: Decoder, jobs: list[Job]) -> None:
    """Continuous batching: who arrives joins at the next step."""
    engine = Engine(model, max_batch=BATCH)
    start, todo, running = time.perf_counter(), list(jobs), []
    while todo or running:
        now = time.perf_counter() - start
        while todo and todo[0].arrives <= now:
            job = todo.pop(0)
            running.append((job, engine.submit(Request(job.prompt, job.count, GREEDY))))
        if not engine.step():
            time.sleep(max(todo[0].arrives - now, 0))
        now = time.perf_counter() - start
        for job, handle in running:
            if job.first is None and handle.completions[0].ids:
                job.first = now
            if handle.done:
                job.last = now
        running = [pair for pair in running if pair[0].last is None]


def serve_one_by_one(model: Decoder, jobs: list[Job]) -> None:
    """Each in turn, by `generate`."""
    start = time.perf_counter()
    for job in jobs:
        time.sleep(max(job.arrives - (time.perf_counter() - start), 0))
        for _ in generate(model, job.prompt, job.count, sampling=GREEDY):
            job.first = job.first or time.perf_counter() - start
        job.last = time.perf_counter() - start


def serve_in_static_batches(model: Decoder, jobs: list[Job]) -> None:
    """Whoever waits, up to BATCH of them, together to the end of the longest."""
    start, todo = time.perf_counter(), list(jobs)
    while todo:
        time.sleep(max(todo[0].arrives - (time.perf_counter() - start), 0))
        now = time.perf_counter() - start
        batch = [job for job in todo if job.arrives <= now][:BATCH]
        todo = todo[len(batch) :]
        run_static_batch(model, batch, start)


@torch.no_grad()
def run_static_batch(model: Decoder, batch: list[Job], start: float) -> None:
    """Prompts padded on the left to the longest, then a token each until all end."""
    longest = max(len(job.prompt) for job in batch)
    count = max(job.count for job in batch)
    caches = make_caches(model.config, len(batch), longest + count)
    tokens = torch.zeros(len(batch), longest, dtype=torch.long)
    positions = torch.full((len(batch), longest), -1)
    for row, job in enumerate(batch):
        tokens[row, -len(job.prompt) :] = torch.tensor(job.prompt)
        positions[row, -len(job.prompt) :] = torch.arange(len(job.prompt))
    for step in range(1, count + 1):
        hidden, _ = model.hidden(tokens, positions, caches)
        tokens = model.read(hidden[:, -1]).argmax(-1)[:, None]
        positions = positions[:, -1:] + 1
        tokens.tolist()  # a server would send them now
        now = time.perf_counter() - start
        for job in batch:
            job.first = job.first or now
            if job.count == step:
                job.last = now


def measure(
    name: str, serve: Callable[[Decoder, list[Job]], None], model: Decoder, jobs
) -> dict[str, Any]:
    """One way of serving all jobs: what it gave and how long anybody waited."""
    jobs = [Job(job.arrives, job.prompt, job.count) for job in jobs]
    serve(model, jobs)
    seconds = max(job.last for job in jobs) - jobs[0].arrives
    waits = sorted(job.first - job.arrives for job in jobs)
    made = sum(job.count for job in jobs)
    return {
        "name": name,
        "requests": len(jobs),
        "tokens": made,
        "prompt_tokens": sum(len(job.prompt) for job in jobs),
        "seconds": seconds,
        "tokens_per_s": made / seconds,
        "first_token_median_s": median(waits),
        "first_token_p95_s": waits[int(0.95 * (len(waits) - 1))],
        "foreign_cores": round(load(), 2),
    }


WAYS = {
    "engine": serve_with_engine,
    "one by one": serve_one_by_one,
    "static batches": serve_in_static_batches,
}


def overhead(model: Decoder, rows: int = 16, steps: int = 60) -> dict[str, Any]:
    """Milliseconds of a step with `rows` that decode, and of the model's part of it."""
    engine = Engine(model, max_batch=rows)
    for i in range(rows):
        engine.submit(Request([i + 1] * 8, steps + 20, GREEDY))
    reader, inside = engine.reader, []
    read = reader.model.hidden

    def timed(*arguments):
        start = time.perf_counter()
        result = read(*arguments)
        inside.append(time.perf_counter() - start)
        return result

    for _ in range(10):
        engine.step()
    reader.model.hidden = timed
    whole = []
    for _ in range(steps):
        start = time.perf_counter()
        engine.step()
        whole.append(time.perf_counter() - start)
    del reader.model.hidden
    return {
        "name": "step",
        "rows": rows,
        "step_ms": 1e3 * median(whole),
        "hidden_ms": 1e3 * median(inside),
    }


def main() -> None:
    arguments = parse_arguments(
        __doc__, ("--size", {"choices": SIZES, "default": "1M", "help": "of the model"})
    )
    count, rate = (60, 60.0) if arguments.quick else (200, 100.0)
    torch.manual_seed(0)
    model = Decoder(ModelConfig(max_seq_len=512, **SIZES[arguments.size])).eval()
    jobs = make_jobs(count, rate, model.config.vocab_size)
    warm = make_jobs(8, 1e6, model.config.vocab_size)
    rows, rounds = [], 1 if arguments.quick else 3
    for number in range(rounds):
        order = list(WAYS) if number % 2 == 0 else list(reversed(WAYS))
        for name in order:
            WAYS[name](model, warm)
            row = measure(name, WAYS[name], model, jobs)
            rows.append({"round": number, **row})
            print(
                f"{name:15} {row['tokens_per_s']:8.0f} tokens/s, first token after "
                f"{row['first_token_median_s']:.3f} s, 95 % within "
                f"{row['first_token_p95_s']:.3f} s"
            )
    rows.append({"model": arguments.size, "rate": rate, **overhead(model)})
    print(f"a step of 16 rows: {rows[-1]['step_ms']:.2f} ms", end=", ")
    print(f"{rows[-1]['hidden_ms']:.2f} ms of it the layers")

    def speed(name: str) -> float:
        return median([r["tokens_per_s"] for r in rows if r["name"] == name])

    record("engine", speed("engine") / speed("one by one"), GOAL, rows)


if __name__ == "__main__":
    main()
