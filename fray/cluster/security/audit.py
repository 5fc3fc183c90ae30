"""Who was refused what: JSON lines in files of bounded size, readable by their owner only."""

from __future__ import annotations

import logging
import os
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from fray.cluster.security.api import AuditLine
from fray.errors import PayloadError
from fray.runtime.jsoncodec import json_dumps, json_loads

if TYPE_CHECKING:
    from fray.runtime.clock import Clock

FILE_BYTES_MAX = 1 << 20
FILES = 4
"""The present one, and how many before it are kept, with it: together some 20,000 lines."""

TEXT_MAX = 200
"""Of what the refused have chosen themselves."""

_log = logging.getLogger("fray.audit")


class Audit:
    """Keeps the audit file, ``audit.jsonl``, and those before it (``audit.jsonl.1`` …).

    Nothing waits for a disk: lines go to the kernel, so they survive the process, not the machine.

    Args:
        path: The file; None keeps the last lines in memory only.
        clock: Dates the lines.
        file_bytes_max: After so many bytes another file is begun.
    """

    def __init__(
        self, path: Path | None, clock: Clock, *, file_bytes_max: int = FILE_BYTES_MAX
    ) -> None:
        self._path = path
        self._clock = clock
        self._file_bytes_max = file_bytes_max
        self._lines: deque[AuditLine] = deque(maxlen=1000)

    def refused(
        self, what: str, why: str, *, who: str = "", role: str = "", origin: str = ""
    ) -> None:
        """Notes a refused request.

        Args:
            what: What was asked for.
            why: Why it was refused; never holds a token.
            who: Whose token was shown; empty where there was no good one.
            role: Their role.
            origin: From where, as ``host:port``.
        """
        texts = (text[:TEXT_MAX] for text in (who, role, origin, what, why))
        line = AuditLine(self._clock.time(), *texts)
        self._lines.append(line)
        _log.warning("refused %s %s at %s: %s: %s", role, who, origin, what, why)
        if self._path is not None:
            try:
                self._write(self._path, json_dumps(line) + b"\n")
            except OSError as exc:  # a full disk; the refusal itself stands
                _log.error("the audit file %s cannot be written: %s", self._path, exc.strerror)

    def _write(self, path: Path, data: bytes) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with open(descriptor, "ab", buffering=0) as file:
            file.write(data)
            full = file.tell() >= self._file_bytes_max
        if full:
            for number in range(FILES - 1, 0, -1):
                older = _numbered(path, number - 1)
                if older.exists():
                    older.replace(_numbered(path, number))

    def last(self, lines_max: int) -> list[AuditLine]:
        """The last lines, oldest first.

        Args:
            lines_max: At most so many.
        """
        if self._path is None:
            return list(self._lines)[-lines_max:] if lines_max > 0 else []
        found: list[AuditLine] = []
        for number in range(FILES):
            path = _numbered(self._path, number)
            if len(found) >= lines_max or not path.exists():
                break
            lines = path.read_bytes().splitlines()[-(lines_max - len(found)) :]
            found[:0] = [line for raw in lines if (line := _read(raw)) is not None]
        return found


def _numbered(path: Path, number: int) -> Path:
    return path if number == 0 else path.with_name(f"{path.name}.{number}")


def _read(raw: bytes) -> AuditLine | None:
    try:
        return json_loads(raw, AuditLine)
    except PayloadError:  # half a line, of a machine that lost its power
        return None


__all__ = ["FILES", "FILE_BYTES_MAX", "Audit"]
