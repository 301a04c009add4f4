"""A training that stops when the studio does: `python -m folio.studio.leash VERB ...`.

The studio holds the other end of this process's standard input. When that end closes,
however the studio came to its end, the training is interrupted as by Ctrl-C: it
finishes its step, saves, and leaves.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def _wait_for_the_end() -> None:
    while os.read(0, 1024):  # the pipe itself: a buffered reader would hold its lock
        pass
    nowhere = os.open(os.devnull, os.O_WRONLY)  # who would have listened is gone, too
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    threading.Thread(target=_wait_for_the_end, daemon=True).start()
    sys.argv[0] = "folio"
    runpy.run_module("folio", run_name="__main__", alter_sys=True)
