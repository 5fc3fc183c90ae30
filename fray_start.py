"""The first lines of the ``fray`` command: Ctrl-C is handled before anything large is imported.

Outside the package, for importing any part of that imports all of `fray`, which takes a while.
"""

from __future__ import annotations

import os

INTERRUPTED = 130

try:  # this takes half of the time until a handler can be set
    import signal
except KeyboardInterrupt:
    os._exit(INTERRUPTED)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType


def leave_at_once(number: int, frame: FrameType | None) -> None:
    """Handles SIGINT while nothing has been done yet: no traceback of an import."""
    os._exit(INTERRUPTED)


def quiet_interrupts() -> None:
    """From here on Ctrl-C ends the process silently, unless somebody handles it already."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave_at_once)


def loud_interrupts() -> None:
    """From here on Ctrl-C raises `KeyboardInterrupt` again, if it was silent before."""
    if signal.getsignal(signal.SIGINT) is leave_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def main() -> None:
    """Runs the command line and exits: see `fray.cli.main`."""
    quiet_interrupts()
    from fray.cli.main import main as run

    run()


__all__ = ["INTERRUPTED", "leave_at_once", "loud_interrupts", "main", "quiet_interrupts"]
