"""The weather of the lab: children of supervisors are killed, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.sim.lab.diary import Diary
from tests.sim.weather import Weather

if TYPE_CHECKING:
    from collections.abc import Callable

    from fray.testing import SimHost


class Climate(Weather):
    """See `Weather`."""

    def kinds(self) -> list[Callable[[SimHost], bool]]:
        """See `Weather.kinds`."""
        supervised = [self.kill_a_child] * (3 if Diary.current.holdings else 0)
        return [*supervised, *super().kinds()]

    def kill_a_child(self, _: SimHost) -> bool:
        """Of a supervisor."""
        lives = [each[-1] for each in Diary.current.born.values()]
        found = [life.process for life in lives if life.runs]
        if found:
            self.cluster.crash(self.dice.choice(found))
        return bool(found)
