"""The engine: many requests at once, each as if it were alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from folio.config import UserError
from folio.infer.admission import most_new_tokens
from folio.infer.batch import Batch, Seats, choose_tokens, make_batch
from folio.infer.paged import PagedStore, page_bytes, shortest_reach
from folio.infer.pages import PagePool, PageTable, page_names
from folio.infer.reader import Reader
from folio.infer.request import Completion, Event, Handle, Request, Token
from folio.infer.scheduler import Plan, Scheduler
from folio.infer.sequence import Sequence as Sample
from folio.model.decoder import Decoder
from folio.text.chat import Message
from folio.text.tokenizer import Tokenizer

MOST_MEMORY = 1 << 30  # bytes, unless told otherwise


class Engine:
    """Generates for many requests with one model, in steps of one batch each.

        for piece in Engine(model, tokenizer).chat([{"role": "user", ...}]): ...
        engine.generate(prompts, max_new_tokens=64, sampling=Sampling(1.0), n=8)

    `submit` and `cancel` may be called from any thread; one thread at a time is in
    `step`, and no lock is held while the model runs. Pages of prompts are shared
    and remembered by their content. An exception in a step fails the requests of that
    batch and nothing else. On a CPU with numba, decoding reads pages where they lie;
    without it, it copies them first, which takes longer.

    What a request gets depends on its prompt, options and seed alone: not on its
    neighbors, the order of arrival, chunks, preemption or what is remembered. For dense
    models on a CPU in fp32 and fp64 that holds to the last bit (measured with one and
    two threads; `tests/infer/test_engine_alone.py`), for each row goes through the same
    arithmetic in any batch: products have no fewer than 4 rows, prompts are as wide as
    a power of two, keys fill lanes of 16 or whole blocks of 512, and what was read as a
    prompt is never read as an answer nor the other way round. Elsewhere it holds up to
    rounding, so that two candidates which are all but equal may change places: in bf16
    (one last digit in some 500 requests), with experts, whose batches are made of all
    rows, and on GPUs.
    """

    def __init__(
        self,
        model: Decoder,
        tokenizer: Tokenizer | None = None,
        *,
        memory: int | None = None,
        max_batch: int = 32,
        chunk: int = 256,
        page_size: int = 16,
    ):
        """memory: bytes for keys and values; none: what `max_batch` full contexts
        take, but at most a GiB. The copies that are read from while decoding take as
        much again at most. chunk: tokens of prompts read in one step."""
        for name, value in (("max_batch", max_batch), ("chunk", chunk)):
            if value < 1:
                raise UserError(f"{name} = {value}: must be at least 1")
        if page_size < 1:
            raise UserError(f"page_size = {page_size}: must be at least 1")
        self.model, self.tokenizer, config = model, tokenizer, model.config
        self.vocab_size = config.vocab_size
        if tokenizer is not None:
            if tokenizer.vocab_size > config.vocab_size:
                raise UserError(
                    f"the tokenizer has {tokenizer.vocab_size} tokens, the model only "
                    f"{config.vocab_size}; they don't belong together"
                )
            self.vocab_size = tokenizer.vocab_size
        weight = model.embedding.weight
        self.device, self.max_batch = weight.device, max_batch
        self.page_bytes = page_bytes(config, page_size, weight.dtype)
        if memory is None:
            full = max_batch * -(-config.max_seq_len // page_size) * self.page_bytes
            memory = max(min(full, MOST_MEMORY), 2 * self.page_bytes)
        pages = memory // self.page_bytes
        if pages < 2:
            raise UserError(
                f"memory = {memory} bytes: two pages of {page_size} tokens take "
                f"{2 * self.page_bytes}"
            )
        pool = PagePool(pages)
        # one row more than requests: the empty one, which padding points to
        table = PageTable(pool, max_batch + 1, page_size, shortest_reach(config))
        self.scheduler, self.seats = Scheduler(table, max_batch, chunk), Seats()
        store = PagedStore(config, pages, page_size, self.device, weight.dtype)
        self.reader = Reader(model, store)
        self._lock = threading.RLock()  # of the bookkeeping
        self._arrived = threading.Condition(self._lock)
        self._stepping = threading.Lock()
        self._stepped = threading.Condition()  # for those who wait while others step
        self.owner: threading.Event | None = None  # wakes the one thread that steps
        self.closed = False

    # asking

    def submit(
        self, request: Request, notify: Callable[[Handle], None] | None = None
    ) -> Handle:
        """Put a request in the queue; a UserError if it could never be served.

        `notify(handle)` is called when events have come, by the thread that steps or
        cancels; it should pass the news on and not wait for the engine.
        """
        prompt = request.ids(self.tokenizer)
        most = most_new_tokens(
            request, prompt, self.model.config, self.scheduler, self.page_bytes
        )
        handle = Handle(self, request, prompt, notify)
        names = page_names(prompt, self.scheduler.table.page_size)
        ends = request.ends(self.tokenizer)
        handle.sequences = [
            Sample(handle, i, names, most, ends, self.tokenizer)
            for i in range(request.n)
        ]
        with self._lock:
            if self.closed:
                raise UserError("the engine is closed")
            for sequence in handle.sequences:
                if most == 0:
                    handle.put(sequence.end("length"))
                else:
                    self.scheduler.waiting.append(sequence)
            self._arrived.notify_all()
        if self.owner is not None:
            self.owner.set()
        return handle

    def cancel(self, handle: Handle) -> None:
        """End what hasn't ended of a request; all its memory is free at once."""
        with self._lock:
            ended = [s for s in handle.sequences if not s.finished]
            for sequence in ended:
                self._finish(sequence, sequence.end("cancelled"))
        if ended:
            self._notify([handle])

    def fail(self, error: Exception) -> None:
        """End everybody with this error: for one that `step` could not contain."""
        touched: list[Handle] = []
        with self._lock:
            self._fail(
                [*self.scheduler.running, *self.scheduler.waiting], error, touched
            )
        self._notify(list(dict.fromkeys(touched)))

    def close(self) -> None:
        """Cancel everything and take no more."""
        with self._lock:
            self.closed = True
            left = [*self.scheduler.running, *self.scheduler.waiting]
            self._arrived.notify_all()
        for handle in dict.fromkeys(sequence.handle for sequence in left):
            self.cancel(handle)

    def forget(self) -> None:
        """Remember no prompt: for when weights changed in a way that torch can't see.

        Changes in place, as by a learner or `load_state_dict`, are seen by `step`;
        those of torch's fused optimizers, called without a learner, are not.
        """
        with self._lock:
            self.scheduler.forget()

    # working

    def step(self) -> bool:
        """One token for everybody who is decoding, and a chunk of prompts.

        Returns whether there was anything to do.
        """
        with self._stepping:
            return self._step()

    def run(self) -> None:
        """Step until nobody is left."""
        while self.step():
            pass

    def drive(self) -> None:
        """Step, or let the thread that is in `step` do it: for those who wait.

        Where a worker owns the engine (`infer/worker.py`), only its thread steps.
        """
        if self.owner is not None:
            with self._stepped:
                self._stepped.wait(timeout=0.01)
        elif self._stepping.acquire(timeout=0.01):
            try:
                self._step()
            finally:
                self._stepping.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until there is work or it is closed, for a thread that only steps.

        False if neither happened in `timeout` seconds.
        """
        scheduler = self.scheduler
        with self._arrived:
            return bool(
                self._arrived.wait_for(
                    lambda: self.closed or scheduler.waiting or scheduler.running,
                    timeout,
                )
            )

    def status(self) -> dict[str, int]:
        """How full it is: pages and requests by what they are at."""
        with self._lock:
            pool = self.scheduler.pool
            return {
                "pages": pool.count,
                "pages_free": len(pool.free),
                "pages_used": pool.used,
                "pages_remembered": len(pool.idle),
                "running": len(self.scheduler.running),
                "waiting": len(self.scheduler.waiting),
                "preemptions": self.scheduler.preemptions,
            }

    def _step(self) -> bool:
        with self._lock:
            if self.reader.weights_changed():
                self.scheduler.forget()
            plan = self.scheduler.plan()
            batches = self._batches(plan)
        if not plan:
            return False
        touched: list[Handle] = []
        with self.reader.reading():
            self._work(batches, touched)
        self._notify(list(dict.fromkeys(touched)))
        with self._stepped:
            self._stepped.notify_all()
        return True

    def _batches(self, plan: Plan) -> list[Batch]:
        """What the model is to read: those who decode, and chunks of prompts."""
        table, batches = self.scheduler.table, []
        if plan.decoding:
            # a GPU takes as long for few rows as for all, and then has one shape
            fixed = self.max_batch if self.device.type == "cuda" else 0
            parts = [(sequence, sequence.computed + 1) for sequence in plan.decoding]
            seats = self.seats.of([sequence.row for sequence in plan.decoding])
            batches.append(make_batch(parts, table, seats, rows=fixed))
        if plan.reading:
            batches.append(make_batch(plan.reading, table))
        return batches

    def _work(self, batches: list[Batch], touched: list[Handle]) -> None:
        """Run the model, choose tokens and hand them out; what fails, fails alone.

        Nothing counts as done before the end: a step that is interrupted is repeated.
        """
        read: list[Batch] = []
        hidden: list[Tensor] = []
        for batch in batches:
            try:
                self.reader.store.clear(self.scheduler.fresh)
                self.scheduler.fresh.clear()
                hidden.append(self.reader.read(batch))
                read.append(batch)
            except Exception as error:
                self._fail(batch.sequences, error, touched)
        asking = [sequence for batch in read for sequence in batch.asking]
        tokens: list[Token] = []
        try:
            if asking:
                rows = torch.cat(hidden)
                tokens = choose_tokens(self.model, rows, asking, self.vocab_size)
        except Exception as error:
            self._fail(asking, error, touched)
            asking = []
        with self._lock:
            for batch in read:
                for sequence, end in zip(batch.sequences, batch.ends, strict=True):
                    if not sequence.finished:
                        self.scheduler.advance(sequence, end)
            for sequence, token in zip(asking, tokens, strict=True):
                if not sequence.finished:  # else cancelled while the model ran
                    self._hand_out(sequence, token)
                    touched.append(sequence.handle)

    def _hand_out(self, sequence: Sample, token: Token) -> None:
        try:
            event = sequence.accept(token)
        except Exception as error:  # a tokenizer that can't say what the token is
            event = sequence.fail(error)
        self._finish(sequence, event)

    def _finish(self, sequence: Sample, event: Event) -> None:
        """Pass an event on; if it is the last one, free the memory first."""
        if sequence.finished:
            self.scheduler.remove(sequence)
        sequence.handle.put(event)

    def _fail(
        self, sequences: list[Sample], error: Exception, touched: list[Handle]
    ) -> None:
        """End these with the error; the engine goes on with the others."""
        with self._lock:
            for sequence in sequences:
                if not sequence.finished:
                    self._finish(sequence, sequence.fail(error))
                    touched.append(sequence.handle)

    def _notify(self, handles: list[Handle]) -> None:
        for handle in handles:
            if handle.notify is None:
                continue
            try:
                handle.notify(handle)
            except Exception:  # whoever can't listen gets nothing more
                handle.notify = None
                self.cancel(handle)

    # conveniences

    def chat(self, messages: Sequence[Message], **options: Any) -> Iterator[str]:
        """The assistant's next turn, in pieces as they come; options of `Request`."""
        yield from self.submit(Request(messages, **options)).pieces()

    def generate(
        self,
        prompts: Sequence[Any],
        *,
        seed: int = 0,
        n: int = 1,
        **options: Any,
    ) -> list[Completion]:
        """Samples of many prompts, `n` each, in the order of the prompts.

        Each has its own chances, drawn from `seed`. Their `logprobs` are those of the
        distribution that was really sampled from, temperature and cuts included. An
        error in any of them is raised, after the others are cancelled.
        """
        handles: list[Handle] = []
        try:
            for i, prompt in enumerate(prompts):
                request = Request(prompt, seed=(seed << 32) + i, n=n, **options)
                handles.append(self.submit(request))
            for handle in handles:
                for completion in handle.result():
                    if completion.error is not None:
                        raise RuntimeError(f"prompts: {completion.error}")
        finally:
            for handle in handles:
                self.cancel(handle)
        return [sample for handle in handles for sample in handle.completions]
