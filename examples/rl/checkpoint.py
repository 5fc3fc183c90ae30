"""Checkpoints in the storage: published whole, found without asking anybody.

A checkpoint is a folder. Its manifest is written last and removed first, so a folder with a
manifest is complete, and one without is not there. Weights (all that a rollout worker reads) lie
apart from the train worker's own state.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from examples.rl import arrays, model
from examples.storage import Folder

if TYPE_CHECKING:
    import numpy as np

_PREFIX = "step-"
_MANIFEST = "manifest.json"
_WEIGHTS = "weights.npz"
_TRAINER = "trainer.npz"


class DamagedCheckpointError(Exception):
    """A checkpoint's file is not what its manifest promises."""


class CheckpointStore:
    """The folder of checkpoints.

    Args:
        path: Where it is (fsspec).
    """

    def __init__(self, path: str) -> None:
        self._folder = Folder(path)

    def save(
        self, step: int, weights: model.Params, trainer: dict[str, np.ndarray], meta: dict[str, Any]
    ) -> str:
        """Publishes a checkpoint; nobody sees it before all of it is there.

        Args:
            step: The train worker's step; a complete checkpoint of this step is replaced.
            weights: What rollout workers act with.
            trainer: What only the train worker needs to go on.
            meta: JSON-able facts for `load_trainer`.

        Returns:
            Its path, for `load_weights`.
        """
        folder = Folder(self._path(step))
        folder.remove(_MANIFEST)
        contents = {
            _WEIGHTS: arrays.pack(model.flatten(weights), {"step": step}),
            _TRAINER: arrays.pack(trainer, meta | {"step": step}),
        }
        for name, data in contents.items():
            folder.write(name, data)
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
        folder.write(_MANIFEST, json.dumps({"step": step, "sha256": digests}).encode())
        return folder.path

    def latest(self) -> tuple[int, str] | None:
        """The newest complete checkpoint, as (step, path); None where there is none."""
        for step in reversed(self._steps()):
            if self._is_complete(step):
                return step, self._path(step)
        return None

    def load_trainer(self, step: int) -> tuple[model.Params, dict[str, np.ndarray], dict[str, Any]]:
        """Weights, trainer state and facts of a checkpoint.

        Raises:
            FileNotFoundError: It is not there, or was removed meanwhile.
            DamagedCheckpointError: A file is not what was written.
        """
        trainer, meta = arrays.unpack(_read(self._path(step), _TRAINER))
        return load_weights(self._path(step)), trainer, meta

    def prune(self, keep: int) -> None:
        """Removes all but the newest `keep` complete checkpoints, and older unfinished ones."""
        complete = [step for step in self._steps() if self._is_complete(step)]
        if len(complete) <= keep:
            return
        for step in self._steps():
            if step < complete[-keep]:
                Folder(self._path(step)).remove(_MANIFEST)
                self._folder.remove(_folder_name(step))

    def _steps(self) -> list[int]:
        names = self._folder.names()
        return [int(name.removeprefix(_PREFIX)) for name in names if name.startswith(_PREFIX)]

    def _path(self, step: int) -> str:
        return f"{self._folder.path}/{_folder_name(step)}"

    def _is_complete(self, step: int) -> bool:
        return self._folder.exists(f"{_folder_name(step)}/{_MANIFEST}")


def load_weights(path: str) -> model.Params:
    """The weights of a checkpoint, by the path that `CheckpointStore.save` returned.

    Raises:
        FileNotFoundError: It was removed meanwhile: there is a newer one.
        DamagedCheckpointError: The file is not what was written.
    """
    content, _ = arrays.unpack(_read(path, _WEIGHTS))
    return model.unflatten(content)


def _folder_name(step: int) -> str:
    return f"{_PREFIX}{step:08d}"


def _read(path: str, name: str) -> bytes:
    folder = Folder(path)
    manifest = json.loads(folder.read(_MANIFEST))
    data = folder.read(name)
    if hashlib.sha256(data).hexdigest() != manifest["sha256"][name]:
        raise DamagedCheckpointError(f"{path}/{name} does not match its manifest")
    return data
