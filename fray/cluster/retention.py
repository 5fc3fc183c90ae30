"""How long ended jobs are remembered: a setting of the cluster."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fray.errors import InvalidRequestError

DAY_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """What is kept of ended jobs: their records, outcomes, output and blobs.

    Attributes:
        jobs_max: So many at the most, those that ended last, >= 0.
        age_s: And not longer than this after their end, in seconds, > 0.

    Raises:
        InvalidRequestError: A value makes no sense.
    """

    jobs_max: int = 10_000
    age_s: float = 7 * DAY_S

    def __post_init__(self) -> None:
        if isinstance(self.jobs_max, bool) or self.jobs_max < 0:
            raise InvalidRequestError(f"retention keeps 0 jobs or more, not {self.jobs_max!r}")
        if isinstance(self.age_s, bool) or not 0 < self.age_s < math.inf:
            raise InvalidRequestError(f"retention's age_s is above 0, not {self.age_s!r}")


__all__ = ["DAY_S", "RetentionPolicy"]
