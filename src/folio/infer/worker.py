"""One thread that owns the models: others only leave word with it.

A server has many threads, or none but an event loop; both put requests in the queue and
are told when something has come. Between two steps the thread does other work that
needs the models, one piece at a time: scores of a text, embeddings, a heat map.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import torch

from folio.config import UserError
from folio.infer.engine import Engine
from folio.infer.request import Handle, Request

Result = TypeVar("Result")
Say = Callable[[str], None]


class Worker:
    """Steps some engines in turn, and runs what is handed to `call` between steps.

        with Worker(engine) as worker:
            handle = worker.submit(Request("Once"))
            width = worker.call(lambda: engine.model.config.d_model).result()

    Everything may be called from any thread. An error in a step that the engine can't
    contain ends the requests of that engine; the thread goes on, and `faults` counts.
    """

    def __init__(self, *engines: Engine, say: Say = print):
        self.engines, self.say = engines, say
        self.faults = self.steps = 0
        self._jobs: queue.SimpleQueue[tuple[Future, Callable]] = queue.SimpleQueue()
        self._woken = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        for engine in engines:
            engine.owner = self._woken
        self._thread.start()

    def submit(
        self,
        request: Request,
        notify: Callable[[Handle], None] | None = None,
        engine: Engine | None = None,
    ) -> Handle:
        """As `Engine.submit`; without a name, it goes to the first engine."""
        return (engine or self.engines[0]).submit(request, notify)

    def call(self, job: Callable[[], Result]) -> Future[Result]:
        """Run `job` on the thread that owns the models, without gradients."""
        if self._closing:
            raise UserError("the engine is closed")
        future: Future[Result] = Future()
        self._jobs.put((future, job))
        self._woken.set()
        if self._closing:  # since we asked: nobody may be there to do it
            self._refuse_jobs()
        return future

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        """Cancel all that is left, and end the thread."""
        self._closing = True
        for engine in self.engines:
            engine.close()
        self._woken.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self._refuse_jobs()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _run(self) -> None:
        while not self._closing:
            self._woken.clear()  # before looking, so that no news is missed
            worked = self._do_job()
            for engine in self.engines:
                worked |= self._step(engine)
            if not worked:
                self._woken.wait()

    def _step(self, engine: Engine) -> bool:
        try:
            worked = engine.step()
            self.steps += worked
            return worked
        except Exception as error:
            self.faults += 1
            self.say(traceback.format_exc())
            engine.fail(error)
            return False  # nobody is left: if it goes wrong again, not before news

    def _do_job(self) -> bool:
        try:
            future, job = self._jobs.get_nowait()
        except queue.Empty:
            return False
        if future.set_running_or_notify_cancel():
            try:
                with torch.no_grad():
                    future.set_result(job())
            except BaseException as error:
                future.set_exception(error)
        return True

    def _refuse_jobs(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                future, _ = self._jobs.get_nowait()
                future.cancel()
