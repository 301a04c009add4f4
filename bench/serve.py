"""The server beside the engine it stands on, and beside `transformers serve`.

Some clients ask at once, and again as soon as they have their answer, by streams of
/v1/completions; answers are greedy, of one length, and compared: all must write the
same. The engine alone gets the same prompts, as many at a time, in its own process.
Both servers have the same weights (a random 10 M model, exported for transformers) and
one address each; clients and server share the machine.

The value is the server's tokens per second beside those of `transformers serve` with
continuous batching. --peer PYTHON: an interpreter with llama-cpp-python's server
and the package gguf; it serves the same weights as a third.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from folio.data.tales.documents import document
from folio.infer.engine import Engine
from folio.infer.request import Request
from folio.infer.sampling import GREEDY
from folio.infer.worker import Worker
from folio.model import store
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.stages.exchange import export_run
from folio.stages.use import load_run
from folio.text.bpe import BPETokenizer
from folio.training.run import Run
from record import median, parse_arguments, record

GOAL = 3.0
TEXT = "a small hen went to the old barn and found the fox by its river again"
SHAPE = {"d_model": 384, "n_layers": 6, "n_heads": 6, "max_seq_len": 512}
SHAPE |= {"tie_embeddings": False}
TOKENS = 48  # of each answer


@dataclass
class Result:
    """What clients saw of one server, in seconds from their asking."""

    texts: dict[int, str] = field(default_factory=dict)
    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def row(self, name: str, clients: int) -> dict[str, Any]:
        ordered = sorted(self.first)
        return {
            "name": name,
            "clients": clients,
            "tokens_per_s": len(self.texts) * TOKENS / self.seconds,
            "first_token_s": median(ordered),
            "first_token_p95_s": ordered[int(0.95 * (len(ordered) - 1))],
            "answer_s": median(self.whole),
        }


def make_run(folder: Path) -> tuple[Path, Path]:
    """A run with random weights that read words, and its copy for transformers."""
    texts = [document(0, "train", i) for i in range(300)]
    tokenizer = BPETokenizer.train(texts, vocab_size=2048)
    torch.manual_seed(0)
    model = Decoder(ModelConfig(vocab_size=tokenizer.vocab_size, **SHAPE)).eval()
    with torch.no_grad():  # so that texts wander, and do not end by chance
        model.head.weight.normal_(std=0.2)
        model.head.weight[list(tokenizer.special_tokens.values())] = 0
    run = Run(folder / "random")
    store.save_model(model, run.model)
    tokenizer.save(run.model)
    export_run(run.folder, folder / "hf", say=lambda text: None)
    return run.folder, folder / "hf"


def make_prompts(count: int) -> list[str]:
    """Texts of 20 to 120 words, none beginning as another."""
    chances = random.Random(0)
    return [
        f"{i} " + " ".join(chances.choices(TEXT.split(), k=chances.randrange(20, 120)))
        for i in range(count)
    ]


def ask_all(
    prompts: list[str], clients: int, ask: Callable[[str, Callable[[], None]], str]
) -> Result:
    """So many clients share the prompts; `ask(prompt, came)` returns the text."""
    result, todo = Result(), iter(enumerate(prompts))
    lock, failed = threading.Lock(), []

    def client() -> None:
        while True:
            with lock:
                number, prompt = next(todo, (None, ""))
            if number is None or failed:
                return
            start, came = time.perf_counter(), []
            try:
                text = ask(prompt, lambda came=came: came.append(time.perf_counter()))
            except Exception as error:
                failed.append(error)
                return
            with lock:
                result.texts[number] = text
                result.first.append(came[0] - start)
                result.whole.append(time.perf_counter() - start)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result.seconds = time.perf_counter() - start
    if failed:
        raise failed[0]
    return result


def engine_alone(run: Path, prompts: list[str], clients: int) -> Result:
    """Threads that ask the engine's own thread, without a server between them."""
    engine = Engine(*load_run(run, "cpu"))
    with Worker(engine) as worker:

        def ask(prompt: str, came: Callable[[], None]) -> str:
            handle = worker.submit(Request(prompt, TOKENS, GREEDY))
            for event in handle:
                if event.token is not None:
                    came()
            return handle.completions[0].text

        ask_all(prompts[:clients], clients, ask)
        return ask_all(prompts, clients, ask)


def over_http(port: int, model: str) -> Callable[[str, Callable[[], None]], str]:
    """One streamed completion, a connection each."""

    def ask(prompt: str, came: Callable[[], None]) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        body = {"model": model, "prompt": prompt, "max_tokens": TOKENS}
        body |= {"temperature": 0, "stream": True, "seed": 0}
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/completions", json.dumps(body), headers)
        response, text = connection.getresponse(), ""
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {response.read()[:300]!r}")
        for line in response:
            data = line.removeprefix(b"data:").strip()
            if line.startswith(b"data:") and data != b"[DONE]":
                piece = "".join(c["text"] or "" for c in json.loads(data)["choices"])
                if piece:
                    came()
                text += piece
        connection.close()
        return text

    return ask


@contextlib.contextmanager
def server(command: list[str], port: int) -> Iterator[None]:
    """A server in a process of its own, from when it answers to the end."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    tail: list[str] = []
    reader = threading.Thread(target=lambda: tail.extend(process.stderr))
    reader.start()
    try:
        wait_for(process, port, tail)
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
        reader.join()


def wait_for(process: subprocess.Popen, port: int, tail: list[str]) -> None:
    """Until /health answers; the end of its log if it ends instead."""
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError("".join(tail[-20:]))
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status < 500:
                return
        time.sleep(0.2)
    raise RuntimeError("the server did not start in two minutes")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def commands(
    run: Path, exported: Path, peer: str | None
) -> dict[str, tuple[list[str], int, str]]:
    """{name: command, port, model} of each server."""
    ports = [str(free_port()) for _ in range(3)]
    python = sys.executable
    ours = [python, "-m", "folio", "serve", str(run), "--port", ports[0], "--quiet"]
    theirs = [python, "-m", "transformers.cli.transformers", "serve", str(exported)]
    theirs += ["--host", "127.0.0.1", "--port", ports[1], "--device", "cpu"]
    theirs += ["--continuous-batching"]
    found = {
        "folio serve": (ours, int(ports[0]), run.name),
        "transformers serve": (theirs, int(ports[1]), str(exported)),
    }
    if peer is not None:
        path = exported.parent / "model.gguf"
        export_run(run, path, format="gguf", say=lambda text: None)
        llama = [peer, "-m", "llama_cpp.server", "--model", str(path), "--port"]
        llama += [ports[2], "--n_ctx", str(SHAPE["max_seq_len"])]
        llama += ["--interrupt_requests", "False"]  # which it does by default
        llama += ["--n_threads", str(torch.get_num_threads())]
        found["llama-cpp-python"] = (llama, int(ports[2]), "model")
    return found


def main() -> None:
    arguments = parse_arguments(__doc__, ("--peer", {}), ("--requests", {"type": int}))
    clients = 8 if arguments.quick else 16
    prompts = make_prompts(arguments.requests or (16 if arguments.quick else 96))
    rows, texts = [], {}
    with tempfile.TemporaryDirectory(prefix="folio-") as home:
        run, exported = make_run(Path(home))
        found = engine_alone(run, prompts, clients)
        texts["engine"] = found.texts
        rows.append(found.row("engine alone", clients))
        for name, (command, port, model) in commands(
            run, exported, arguments.peer
        ).items():
            with server(command, port):
                ask = over_http(port, model)
                ask_all(prompts[:clients], clients, ask)
                found = ask_all(prompts, clients, ask)
            texts[name] = found.texts
            rows.append(found.row(name, clients))
            print(rows[-1])
    for row in rows:
        mine = texts.get(row["name"], texts["engine"])
        same = sum(mine[i] == text for i, text in texts["engine"].items())
        row["same_texts"] = same / len(prompts)
    speed = {row["name"]: row["tokens_per_s"] for row in rows}
    value = speed["folio serve"] / speed["transformers serve"]
    record("serve", value, GOAL, rows)


if __name__ == "__main__":
    main()
