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
    # whoever starts the studio in the background may have it ignore Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_wait_for_the_end, daemon=True).start()
    sys.argv[0] = "folio"
    try:
        runpy.run_module("folio", run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:  # before the command line could deal with it
        sys.exit(130)
