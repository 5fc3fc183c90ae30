"""Files appear whole or not at all."""

import fsspec
import pytest

from examples.storage import UNFINISHED, Folder


class WriterDiedError(Exception):
    """The writing process ends here."""


@pytest.fixture(params=["local", "memory"])
def path(request, tmp_path):
    if request.param == "local":
        yield str(tmp_path / "a" / "b")
        return
    yield "memory://rl-storage-test/a/b"
    fsspec.filesystem("memory").rm("/rl-storage-test", recursive=True)


def test_what_was_written_is_read_by_another_folder_object(path):
    Folder(path).write("x.bin", b"content")
    assert Folder(path).read("x.bin") == b"content"
    assert Folder(path).exists("x.bin")


def test_writing_again_replaces(path):
    folder = Folder(path)
    folder.write("x.bin", b"first")
    folder.write("x.bin", b"second")
    assert folder.read("x.bin") == b"second"
    assert folder.names() == ["x.bin"]


def test_names_are_sorted_and_chosen_by_suffix(path):
    folder = Folder(path)
    for name in ("b.npz", "a.npz", "c.json"):
        folder.write(name, b"")
    assert folder.names() == ["a.npz", "b.npz", "c.json"]
    assert folder.names(".npz") == ["a.npz", "b.npz"]


def test_a_folder_that_nobody_wrote_to_is_empty_and_is_not_created_by_looking(tmp_path):
    folder = Folder(str(tmp_path / "none"))
    assert folder.names() == []
    with pytest.raises(FileNotFoundError):
        folder.read("x")
    assert not (tmp_path / "none").exists()


def test_removing_what_is_gone_is_no_error(path):
    folder = Folder(path)
    folder.write("x", b"")
    folder.remove("x")
    folder.remove("x")
    assert folder.names() == []


def test_a_writer_that_dies_before_the_rename_leaves_nothing_that_readers_see(
    tmp_path, monkeypatch
):
    folder = Folder(str(tmp_path), owner="w7")
    folder.write("x", b"old")

    def die(*_args, **_kwargs):
        raise WriterDiedError

    with monkeypatch.context() as patch:
        patch.setattr(type(folder._fs), "mv", die)
        with pytest.raises(WriterDiedError):
            folder.write("x", b"new, never finished")
    assert Folder(str(tmp_path)).names() == ["x"]
    assert Folder(str(tmp_path)).read("x") == b"old"
    assert any(UNFINISHED in entry.name for entry in tmp_path.iterdir())


def test_an_owner_clears_away_its_own_unfinished_files_and_no_others(tmp_path):
    for owner in ("w1", "w2", "w12"):
        (tmp_path / f"{owner}.00{UNFINISHED}").write_bytes(b"half")
    folder = Folder(str(tmp_path), owner="w1")
    folder.write("finished", b"whole")
    assert folder.discard_unfinished() == 1
    left = sorted(entry.name for entry in tmp_path.iterdir())
    assert left == ["finished", f"w12.00{UNFINISHED}", f"w2.00{UNFINISHED}"]
