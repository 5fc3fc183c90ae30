"""Checkpoints: files that appear whole, the newest of which is where a run goes on."""

from __future__ import annotations

from examples.storage import Folder

KEPT = 2


class Checkpoints:
    """A run's checkpoints.

    Args:
        path: Their folder (fsspec).
    """

    def __init__(self, path: str) -> None:
        self._folder = Folder(path)

    def save(self, step: int, data: bytes) -> None:
        """Publishes one, and removes all but the newest.

        Args:
            step: How many steps have been made.
            data: The state after them.
        """
        self._folder.write(_name(step), data)
        for name in self._folder.names(".npz")[:-KEPT]:
            self._folder.remove(name)

    def latest(self) -> tuple[int, bytes] | None:
        """The newest: how many steps had been made, and the state; None where there is none."""
        names = self._folder.names(".npz")
        if not names:
            return None
        return int(names[-1].removeprefix("step-").removesuffix(".npz")), self._folder.read(
            names[-1]
        )


def _name(step: int) -> str:
    return f"step-{step:08d}.npz"
