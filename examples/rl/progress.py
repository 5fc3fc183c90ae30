"""A run as it looks from outside: the newest stats, rates and the curve so far."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from examples.rl.config import RLConfig
    from examples.rl.stats import Stats

RATE_OVER_S = 5.0

_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class _Sample:
    elapsed_s: float
    frames: int
    mean_return: float


class Progress:
    """Collects samples of a run's stats.

    Args:
        config: The run's.
    """

    def __init__(self, config: RLConfig) -> None:
        self.config = config
        self.stats: Stats | None = None
        self.elapsed_s = 0.0
        self.states: dict[str, str] = {}
        self._recent: deque[_Sample] = deque()
        self._curve: list[float] = []

    def update(self, elapsed_s: float, stats: Stats | None, states: dict[str, str]) -> None:
        """Takes what is known now.

        Args:
            elapsed_s: Seconds since the run was launched.
            stats: The curriculum's; None while it does not answer.
            states: For each actor's name, what it is: down, starting, up or stopping.
        """
        self.elapsed_s = elapsed_s
        self.states = states
        if stats is None:
            return
        self.stats = stats
        self._recent.append(_Sample(elapsed_s, stats.frames, stats.goal.mean_return))
        while self._recent[0].elapsed_s < elapsed_s - RATE_OVER_S:
            self._recent.popleft()
        if stats.goal.recent:
            self._curve.append(stats.goal.mean_return)

    @property
    def frames_per_s(self) -> float:
        """Environment steps per second over the last `RATE_OVER_S` seconds."""
        if len(self._recent) < 2:
            return 0.0
        first, last = self._recent[0], self._recent[-1]
        return (last.frames - first.frames) / max(last.elapsed_s - first.elapsed_s, 1e-9)

    @property
    def rollout_workers(self) -> int:
        """How many of them are up."""
        return sum(
            state == "up" for name, state in self.states.items() if name.startswith("rollout-")
        )

    @property
    def restarts(self) -> int:
        """Processes of workers that reported after another of the same worker."""
        if self.stats is None:
            return 0
        rollout_restarts = sum(worker.attempts - 1 for worker in self.stats.workers)
        return rollout_restarts + max(0, self.stats.train_attempts - 1)

    def sparkline(self, width: int = 40) -> str:
        """The mean return since the run began, at most `width` bars of 0 to the target."""
        return sparkline(self._curve, width, self.config.target_return)


def sparkline(values: list[float], width: int, top: float) -> str:
    """Draws values as bars.

    Args:
        values: Oldest first; thinned out evenly if there are more than `width`.
        width: Bars at most.
        top: The value of a full bar; more is drawn as full, 0 and less as the lowest bar.
    """
    if len(values) > width:
        last = len(values) - 1
        values = [values[round(i * last / (width - 1))] for i in range(width)]
    highest = len(_BARS) - 1
    return "".join(_BARS[min(highest, max(0, int(value / top * highest)))] for value in values)
