"""How an actor is run, as its creator says."""

from __future__ import annotations

from dataclasses import dataclass

from fray.runtime.payload import Codec

MAILBOX_CALLS_MAX = 100_000
"""Calls that may wait at one actor by default. A waiting call costs about a kilobyte."""


@dataclass(frozen=True, slots=True)
class CellOptions:
    """How an actor is run.

    Attributes:
        max_concurrency: Calls that may run at once, ≥ 1.
        mailbox_calls_max: Calls that may wait, ≥ 1.
        codec: What arguments and results are made of; actors of the control plane take JSON only.
        thread_affinity: Run every plain method on the same thread.
        reentrant: Run what a call of its own makes others call here beside that call.
    """

    max_concurrency: int = 1
    mailbox_calls_max: int = MAILBOX_CALLS_MAX
    codec: Codec = Codec.PICKLE
    thread_affinity: bool = False
    reentrant: bool = False

    def __post_init__(self) -> None:
        if self.max_concurrency < 1:
            raise ValueError(f"max_concurrency must be at least 1, not {self.max_concurrency}")
        if self.mailbox_calls_max < 1:
            raise ValueError(f"mailbox_calls_max must be at least 1, not {self.mailbox_calls_max}")


__all__ = ["MAILBOX_CALLS_MAX", "CellOptions"]
