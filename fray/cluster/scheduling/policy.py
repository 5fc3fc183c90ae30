"""How places are given: the settings of the scheduler."""

from dataclasses import dataclass

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Policy:
    """Settings of the scheduler; the same for all of a cluster.

    Attributes:
        hold_s: After this time freed room is kept for a unit that would not get it otherwise, in
            seconds, at least 0.
        half_life_s: In which time use that lies in the past counts half, in seconds, above 0.
        point_s: One point of priority inside a band weighs as much as so many seconds of waiting.
        preempt: Whether a higher band may have a lower one stopped.
        evict_grace_s: How long a stopped attempt has from the notice to the kill, in seconds.
        preemptions_max: Units for which one plan has others stopped; the rest is the next plan's.
        earmarks_max: Units for which one plan keeps freed room.
        placements_max: Tasks that one plan places, so that it takes a bounded time.
    """

    hold_s: float = 300.0
    half_life_s: float = 7 * DAY_S
    point_s: float = 60.0
    preempt: bool = True
    evict_grace_s: float = 30.0
    preemptions_max: int = 16
    earmarks_max: int = 8
    placements_max: int = 1000


DEFAULT_POLICY = Policy()


__all__ = ["DEFAULT_POLICY", "Policy"]
