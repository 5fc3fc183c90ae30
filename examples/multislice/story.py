"""What becomes of slices in a run that is to show it: one comes, one dies, one is taken back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import fray
    from examples.multislice.leader import Run


@dataclass(slots=True)
class Story:
    """Makes slices come and go, each thing once, before the first step that is not before it.

    Attributes:
        tell: Told what happens.
        come_at: So many steps are made when one more slice is wanted; None for never.
        kill_at: When a process of the last slice is killed (of this machine); None for never.
        leave_at: When one slice less is wanted; None for never.
    """

    tell: Callable[[str], object]
    come_at: int | None = None
    kill_at: int | None = None
    leave_at: int | None = None

    async def __call__(self, run: Run, group: fray.Group) -> None:
        """Looks whether it is time for something.

        Args:
            run: How far it is.
            group: Whose slices.
        """
        done = len(run.steps)
        if self.come_at is not None and done >= self.come_at:
            self.come_at = None
            self.tell("one more slice may be used")
            group.resize(group.wanted + 1)
        if self.kill_at is not None and done >= self.kill_at and len(group.slices) > 1:
            self.kill_at = None
            victim = group.members[-1]
            pid = await victim.handle.pid.remote()
            self.tell(f"kills {victim.place}")
            os.kill(pid, signal.SIGKILL)
        if self.leave_at is not None and done >= self.leave_at and group.wanted > 1:
            self.leave_at = None
            self.tell("one slice is taken back")
            group.resize(group.wanted - 1)


def usual(steps: int, tell: Callable[[str], object]) -> Story:
    """The story of a run of so many steps.

    Args:
        steps: How many.
        tell: Told what happens.
    """
    return Story(tell, come_at=steps // 6, kill_at=steps * 45 // 100, leave_at=steps * 85 // 100)
