"""A text that a model goes on with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Text:
    """A text that is being written.

    Attributes:
        data: It, the prompt included.
        end: Its length when it is done.
        seed: Decides what is written.
    """

    data: list[int]
    end: int
    seed: int

    @property
    def done(self) -> bool:
        """Whether it is as long as it is to be."""
        return len(self.data) >= self.end
