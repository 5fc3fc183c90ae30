"""What rollout workers report, and the log of it in the storage.

The log is the truth about the run: the curriculum writes a report down before it counts it, is
rebuilt from the log when its process starts again, and the learning curve is drawn from it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from examples.rl.rollouts import RolloutId
from examples.storage import Folder

_SUFFIX = ".json"


@dataclass(frozen=True, slots=True)
class RolloutReport:
    """What one rollout showed.

    Attributes:
        rollout: Which one.
        lesson: The lesson's name.
        frames: Environment steps in it.
        returns: The undiscounted returns of the episodes that ended in it, in that order.
        at: When it was reported, in seconds since 1970.
    """

    rollout: RolloutId
    lesson: str
    frames: int
    returns: tuple[float, ...]
    at: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the run ended, as it stood when the train worker said so.

    Attributes:
        solved: Whether the target was reached.
        mean_return: Of the last `episodes` episodes of the standard lesson.
        episodes: How many the mean is over.
        step: The train worker's.
        frames: Environment steps of all workers and lessons.
    """

    solved: bool
    mean_return: float
    episodes: int
    step: int
    frames: int


class ReportLog:
    """The folder of reports; one writer.

    Args:
        path: Where it is (fsspec).
    """

    def __init__(self, path: str) -> None:
        self._folder = Folder(path)
        self._next = len(self._folder.names(_SUFFIX))

    def append(self, report: RolloutReport) -> None:
        """Writes a report down; it is there when this returns."""
        self._folder.write(f"{self._next:08d}{_SUFFIX}", json.dumps(asdict(report)).encode())
        self._next += 1

    def read(self) -> list[RolloutReport]:
        """All reports, in the order in which they were written down."""
        return [_parse(self._folder.read(name)) for name in self._folder.names(_SUFFIX)]


class OutcomeFile:
    """The file that says that the run is over.

    Args:
        path: The run's folder (fsspec).
    """

    _NAME = "outcome.json"

    def __init__(self, path: str) -> None:
        self._folder = Folder(path)

    def write(self, outcome: Outcome) -> None:
        """Says it."""
        self._folder.write(self._NAME, json.dumps(asdict(outcome)).encode())

    def read(self) -> Outcome | None:
        """What it says; None while the run goes on."""
        try:
            return Outcome(**json.loads(self._folder.read(self._NAME)))
        except FileNotFoundError:
            return None


def _parse(data: bytes) -> RolloutReport:
    fields: dict[str, Any] = json.loads(data)
    rollout = RolloutId(**fields.pop("rollout"))
    fields["returns"] = tuple(fields["returns"])
    return RolloutReport(rollout, **fields)
