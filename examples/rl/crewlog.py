"""What became of the rollout workers, and when: kept in the storage, for the picture."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from examples.storage import Folder


@dataclass(frozen=True, slots=True)
class CrewEvent:
    """A change among the rollout workers.

    Attributes:
        at: When, in seconds since 1970.
        worker: Which one.
        what: ``started``, ``added``, ``removed``, ``lost`` or ``back``.
        workers: How many there were afterwards that were not down.
    """

    at: float
    worker: int
    what: str
    workers: int


class CrewLog:
    """The file of changes; one writer.

    Args:
        path: The run's folder (fsspec).
    """

    _NAME = "crew.json"

    def __init__(self, path: str) -> None:
        self._folder = Folder(path)

    def append(self, event: CrewEvent) -> None:
        """Writes a change down; it is there when this returns."""
        events = [asdict(each) for each in (*self.read(), event)]
        self._folder.write(self._NAME, json.dumps(events).encode())

    def read(self) -> list[CrewEvent]:
        """All changes, in their order."""
        try:
            found = json.loads(self._folder.read(self._NAME))
        except FileNotFoundError:
            return []
        return [CrewEvent(**each) for each in found]
