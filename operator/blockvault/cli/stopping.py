"""Being asked to stop: SIGINT and SIGTERM end a run with words, at once where they can be and soon where not.

Python runs a handler between two steps of the main thread. A request to a store that does not answer is one such
step, and may last for minutes. So another thread sees the signal too, and ends the process when the main thread does
not come to it: nothing is lost by that, as a run may die at any moment.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from types import FrameType

from blockvault.cli import output
from blockvault.engine import Interrupted, exit_code

# Seconds that a run is given to end by itself; a second signal ends it at once.
GRACE = 5.0

_SHOW_CURSOR = "\x1b[?25h\n"


def install() -> None:
    """Let both signals stop the run."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _raise)
    try:
        seen, written = os.pipe()
    except OSError:
        return  # no descriptors left: the run will not get far, and still stops between two steps
    os.set_blocking(written, False)
    signal.set_wakeup_fd(written, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(seen,), name="stopping", daemon=True).start()


def _raise(number: int, _: FrameType | None) -> None:
    raise _interrupted(number)


def _interrupted(number: int) -> Interrupted:
    return Interrupted(f"stopped by {signal.Signals(number).name}")


def _watch(seen: int) -> None:
    error = _interrupted(os.read(seen, 1)[0])
    select.select([seen], [], [], GRACE)
    if sys.stderr.isatty():
        sys.stderr.write(_SHOW_CURSOR)  # a progress bar has hidden it
    output.complain(error.message, error.remedy)
    sys.stderr.flush()
    os._exit(exit_code(error))
