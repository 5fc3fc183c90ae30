"""The entry point of the ``fray`` command.

It imports next to nothing: what a command needs is imported once it is known which command it is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from fray.version import __version__
from fray_start import quiet_interrupts


def open_streams() -> None:
    """Stands in for standard streams that are closed, as after ``fray … >&-``.

    Else their numbers are given to the next sockets, to which output would then go.
    """
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            stream = open(opened, mode, encoding="utf-8", closefd=opened != fd)  # noqa: SIM115
            setattr(sys, name, stream)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits.

    Exit codes: 0; 1 for a failure; 2 for wrong usage; 130 for Ctrl-C; those of `fray run` are its
    job's. Errors are one line on stderr; ``FRAY_DEBUG=1`` shows their tracebacks.

    Args:
        arguments: Without the program's name; those of the process by default.

    Raises:
        SystemExit: Always, with the exit code.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given in (["--version"], ["-V"]):
        print(f"fray {__version__}")
        sys.exit(0)
    quiet_interrupts()
    open_streams()
    from fray.cli.app import execute

    sys.exit(execute(given))


if __name__ == "__main__":
    main()
