"""The entry point of the ``fray`` command.

It imports next to nothing: what a command needs is imported once it is known which command it is.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fray.version import __version__
from fray_start import quiet_interrupts


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
    from fray.cli.app import execute

    sys.exit(execute(given))


if __name__ == "__main__":
    main()
