"""Stopping an actor: for how long it works on, and what it is told.

An actor that is to stop has a while from the notice to the kill. Half of that is for the calls that
it has begun; what is left, less a margin, is for those that are cancelled then and for ``on_stop``.
The notice itself is a signal, which carries nothing; so the reason lies in the run directory.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fray.errors import DeathCause, DeathKind
from fray.runtime.cell import CLEAN_UP_S_MIN
from fray.runtime.crew import KILL_MARGIN_S
from fray.runtime.jsoncodec import json_dumps, json_loads

if TYPE_CHECKING:
    from pathlib import Path

NOTE_FILE = "stop.json"

UNTOLD_STOP_S = 10.0
"""From a SIGTERM that is none of fray's, such as that of a host that shuts down, to the kill."""


@dataclass(frozen=True, slots=True)
class StopNote:
    """Why an attempt is to end, and when it is killed.

    Attributes:
        cause: Why.
        stop_s: From the notice to the kill, in seconds.
    """

    cause: DeathCause
    stop_s: float

    @property
    def drain_s(self) -> float:
        """For how long the calls go on that an actor has begun, in seconds."""
        return drain_s(self.stop_s)


def stop_s(grace_s: float) -> float:
    """From the notice to the kill of an actor, in seconds.

    Args:
        grace_s: How long its present calls may take, in seconds; 0 to kill it at once.
    """
    return 0.0 if grace_s <= 0 else grace_s + max(grace_s, CLEAN_UP_S_MIN) + KILL_MARGIN_S


def drain_s(stop_s: float) -> float:
    """How long the present calls of an actor may take: the inverse of `stop_s`.

    Args:
        stop_s: From the notice to the kill, in seconds.
    """
    left_s = max(stop_s - KILL_MARGIN_S, 0.0)
    return min(left_s / 2, max(left_s - CLEAN_UP_S_MIN, 0.0))


def write_note(run_dir: Path, note: StopNote) -> None:
    """Leaves the reason of a stop for the attempt that is about to be told.

    Args:
        run_dir: The attempt's.
        note: What it is to find.

    Raises:
        OSError: The disk is full, say.
    """
    temporary = run_dir / f"{NOTE_FILE}.{os.getpid()}"
    temporary.write_bytes(json_dumps(note))
    temporary.replace(run_dir / NOTE_FILE)


def read_note(run_dir: Path) -> StopNote:
    """The reason that `write_note` left; a plain one where somebody else sent the signal.

    Args:
        run_dir: The attempt's.
    """
    try:
        return json_loads((run_dir / NOTE_FILE).read_bytes(), StopNote)
    except FileNotFoundError:
        return StopNote(DeathCause(DeathKind.STOPPED, "it was told to stop"), UNTOLD_STOP_S)


__all__ = ["NOTE_FILE", "UNTOLD_STOP_S", "StopNote", "drain_s", "read_note", "stop_s", "write_note"]
