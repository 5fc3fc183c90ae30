"""Checkpoints: whole or not there, whatever happens to the writer."""

import pytest

np = pytest.importorskip("numpy", reason="the reinforcement learning example needs NumPy")

from examples.rl import model  # noqa: E402
from examples.rl.checkpoint import (  # noqa: E402
    CheckpointStore,
    DamagedCheckpointError,
    load_weights,
)
from examples.storage import Folder  # noqa: E402


class WriterDiedError(Exception):
    """The writing process ends here."""


def save(store: CheckpointStore, step: int) -> str:
    return store.save(step, weights(step), {"state": np.full(3, step)}, {"note": f"step {step}"})


def weights(step: int) -> model.Params:
    return model.init_params(seed=step, hidden=8)


def same_weights(left: model.Params, right: model.Params) -> bool:
    flat_left, flat_right = model.flatten(left), model.flatten(right)
    return flat_left.keys() == flat_right.keys() and all(
        np.array_equal(flat_left[name], flat_right[name]) for name in flat_left
    )


def test_there_is_no_latest_checkpoint_before_the_first(tmp_path):
    assert CheckpointStore(str(tmp_path)).latest() is None


def test_another_process_finds_the_newest_and_reads_all_of_it(tmp_path):
    for step in (3, 11, 7):
        save(CheckpointStore(str(tmp_path)), step)
    store = CheckpointStore(str(tmp_path))
    found = store.latest()
    assert found is not None
    step, path = found
    params, trainer, meta = store.load_trainer(step)
    assert step == 11
    assert same_weights(load_weights(path), weights(11))
    assert same_weights(params, weights(11))
    assert trainer["state"].tolist() == [11, 11, 11]
    assert meta == {"note": "step 11", "step": 11}


def die_at_operation(monkeypatch, number: int) -> None:
    """Lets the process die in its `number`-th change of the storage, leaving it half done."""
    count = 0

    def dying(change):
        def changed(self, name, *data):
            nonlocal count
            count += 1
            if count < number:
                return change(self, name, *data)
            if data:  # a write: half of it is there, under the name of an unfinished file
                Folder.__dict__["_write_half"](self, *data)
            raise WriterDiedError

        return changed

    def write_half(self, data):
        self._fs.makedirs(self._root, exist_ok=True)
        self._fs.pipe_file(f"{self._root}/x.unfinished", data[: len(data) // 2])

    monkeypatch.setattr(Folder, "_write_half", write_half, raising=False)
    monkeypatch.setattr(Folder, "write", dying(Folder.write))
    monkeypatch.setattr(Folder, "remove", dying(Folder.remove))


def test_wherever_the_writer_dies_the_latest_checkpoint_is_whole(tmp_path, monkeypatch):
    survived = False
    number = 0
    while not survived:
        number += 1
        path = str(tmp_path / str(number))
        for step in (1, 2, 3):
            save(CheckpointStore(path), step)
        with monkeypatch.context() as patch:
            die_at_operation(patch, number)
            store = CheckpointStore(path)
            try:
                save(store, 4)
                store.prune(keep=1)
                survived = True
            except WriterDiedError:
                pass
        found = CheckpointStore(path).latest()
        assert found is not None
        assert found[0] in (3, 4)
        assert same_weights(load_weights(found[1]), weights(found[0]))
        save(CheckpointStore(path), 4)  # the next attempt does its work, whatever was left
        assert same_weights(load_weights(f"{path}/step-00000004"), weights(4))
    assert number > 4 + 2 * 3  # every write of the checkpoint and every step of the pruning


def test_pruning_keeps_the_newest_and_removes_older_unfinished_ones(tmp_path):
    store = CheckpointStore(str(tmp_path))
    for step in range(6):
        save(store, step)
    Folder(str(tmp_path / "step-00000002")).remove("manifest.json")
    Folder(str(tmp_path / "step-00000009")).write("weights.npz", b"not finished yet")
    store.prune(keep=2)
    left = sorted(entry.name for entry in tmp_path.iterdir())
    assert left == ["step-00000004", "step-00000005", "step-00000009"]
    assert store.latest() == (5, str(tmp_path / "step-00000005"))


def test_a_checkpoint_that_was_pruned_meanwhile_is_not_found(tmp_path):
    store = CheckpointStore(str(tmp_path))
    path = save(store, 1)
    save(store, 2)
    store.prune(keep=1)
    with pytest.raises(FileNotFoundError):
        load_weights(path)


def test_a_damaged_file_is_refused(tmp_path):
    path = save(CheckpointStore(str(tmp_path)), 1)
    content = bytearray(Folder(path).read("weights.npz"))
    content[len(content) // 2] ^= 1
    Folder(path).write("weights.npz", bytes(content))
    with pytest.raises(DamagedCheckpointError, match=r"weights\.npz"):
        load_weights(path)
