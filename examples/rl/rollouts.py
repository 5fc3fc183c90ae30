"""What the rollout workers leave for the train worker: a queue of files in the storage.

A file's name says which policy played, by which attempt of which worker, and which of its
rollouts it is. So names never collide, even when a worker's number is used again after it died,
and sorting the names puts the oldest policy first.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from examples.rl import arrays
from examples.storage import Folder

_SUFFIX = ".npz"


@dataclass(frozen=True, slots=True, order=True)
class RolloutId:
    """Which rollout.

    Attributes:
        policy_step: The train worker's step whose weights acted.
        worker: The rollout worker's number, from 0.
        attempt: Drawn anew whenever the worker's process starts.
        sequence: Counts the attempt's rollouts, from 0.
    """

    policy_step: int
    worker: int
    attempt: str
    sequence: int

    @property
    def name(self) -> str:
        """The file's name."""
        return f"p{self.policy_step:07d}-w{self.worker:03d}-{self.attempt}-{self.sequence:07d}"

    @classmethod
    def parse(cls, name: str) -> Self:
        """Reverses `name`."""
        policy_step, worker, attempt, sequence = name.removesuffix(_SUFFIX).split("-")
        return cls(int(policy_step[1:]), int(worker[1:]), attempt, int(sequence))


@dataclass(frozen=True, slots=True)
class Rollout:
    """What happened in a few steps of a few environments; every array is ``(steps, envs, ...)``.

    Attributes:
        observations: ``float32 (steps, envs, 4)``, before each action.
        next_observations: After each action and before any reset, as the bootstrap needs it.
        actions: ``int8``.
        log_probs: ``float32``, of the actions under the policy that acted.
        rewards: ``float32``.
        terminated: ``bool``; the pole fell or the cart left the track.
        truncated: ``bool``; the time limit ended the episode.
    """

    observations: np.ndarray
    next_observations: np.ndarray
    actions: np.ndarray
    log_probs: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray

    @classmethod
    def join(cls, rollouts: list[Self]) -> Self:
        """Puts rollouts side by side, as if their environments had been stepped together."""
        names = [f.name for f in fields(cls)]
        return cls(**{n: np.concatenate([getattr(r, n) for r in rollouts], axis=1) for n in names})


class RolloutQueue:
    """The folder of rollouts.

    Args:
        path: Where it is (fsspec).
        owner: Who writes, for `discard_unfinished`.
    """

    def __init__(self, path: str, owner: str = "") -> None:
        self._folder = Folder(path, owner)

    @classmethod
    def of(cls, path: str, worker: int) -> Self:
        """The folder as a worker writes to it.

        Args:
            path: Where it is (fsspec).
            worker: The worker's number.
        """
        return cls(path, f"rollout-{worker:03d}")

    def put(self, rollout_id: RolloutId, rollout: Rollout) -> None:
        """Publishes a rollout."""
        content = {f.name: getattr(rollout, f.name) for f in fields(rollout)}
        self._folder.write(rollout_id.name + _SUFFIX, arrays.pack(content, {}))

    def waiting(self) -> list[RolloutId]:
        """The published rollouts, those of the oldest policy first."""
        return [RolloutId.parse(name) for name in self._folder.names(_SUFFIX)]

    def get(self, rollout_id: RolloutId) -> Rollout:
        """Reads one; it stays until it is removed.

        Raises:
            FileNotFoundError: It was removed.
        """
        content, _ = arrays.unpack(self._folder.read(rollout_id.name + _SUFFIX))
        return Rollout(**content)

    def remove(self, rollout_id: RolloutId) -> None:
        """Removes one that was learnt from or is too old."""
        self._folder.remove(rollout_id.name + _SUFFIX)

    def discard_unfinished(self) -> int:
        """See `Folder.discard_unfinished`."""
        return self._folder.discard_unfinished()
