"""What went wrong, in one line. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fray.errors import FrayError

if TYPE_CHECKING:
    from fray.cli.reports import Table

FAILED = 1
USAGE = 2


class Failure(FrayError):
    """A command cannot go on.

    Attributes:
        exit_code: The process's.
        choices: What the message leaves to choose from; None for nothing.
    """

    def __init__(
        self, message: str, *, exit_code: int = FAILED, choices: Table | None = None
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.choices = choices


class UsageFailure(Failure):
    """The command line, or a file that it names, is wrong in itself."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=USAGE)


def one_line(exc: BaseException) -> str:
    """An exception for somebody who does not want to see where it came from.

    Args:
        exc: The exception.

    Returns:
        One line. An exception that fray does not raise on purpose is named as what it is: a bug.
    """
    text = " ".join(line.strip() for line in str(exc).partition("\n\n")[0].splitlines())
    if isinstance(exc, FrayError):
        return text or type(exc).__name__
    name = type(exc).__name__
    told = f"{name}: {text}" if text else name
    if isinstance(exc, OSError):
        return told
    return f"unexpected {told} (a bug in fray; FRAY_DEBUG=1 shows where)"


def exit_code_of(exc: BaseException) -> int:
    """The exit code of a command that an exception ended.

    Args:
        exc: The exception.
    """
    return exc.exit_code if isinstance(exc, Failure) else FAILED


__all__ = ["FAILED", "USAGE", "Failure", "UsageFailure", "exit_code_of", "one_line"]
