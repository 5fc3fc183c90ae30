"""Where the newest weights are. An actor, in plain Python; the weights themselves never pass."""

from __future__ import annotations

from examples.rl.checkpoint import CheckpointStore


class WeightCoordinator:
    """Tells rollout workers which checkpoint to act with.

    An incarnation that starts anew finds the newest complete checkpoint in the storage.

    Args:
        checkpoint_path: The folder of the run's checkpoints (fsspec).
    """

    def __init__(self, checkpoint_path: str) -> None:
        found = CheckpointStore(checkpoint_path).latest()
        self._step, self._path = found if found else (-1, None)

    def publish_checkpoint(self, step: int, path: str) -> None:
        """Called by the train worker when a checkpoint is complete; older steps are ignored."""
        if step >= self._step:
            self._step, self._path = step, path

    def get_latest_checkpoint(self) -> tuple[int, str | None]:
        """The newest checkpoint, as (step, path); (-1, None) before the first."""
        return self._step, self._path
