"""Which files of a project folder travel, and that the same files give the same bytes."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fray.cluster import workspace
from fray.cluster.bundles import pack_workspace, unpack_workspace
from fray.cluster.workspace import workspace_files
from fray.errors import InvalidRequestError, PayloadError


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def paths(root: Path) -> list[str]:
    return [file.path for file in workspace_files(root)]


def test_all_but_what_is_ignored_travels(tmp_path):
    write(
        tmp_path, **{"a.py": "", "b.log": "", "data/big.bin": "", "pkg/c.py": "", "pkg/d.log": ""}
    )
    write(tmp_path, **{".gitignore": "*.log\n/data/\n"})
    assert paths(tmp_path) == [".gitignore", "a.py", "pkg/c.py"]


def test_deeper_rules_win_but_bring_nothing_back_from_an_ignored_folder(tmp_path):
    write(tmp_path, **{".gitignore": "*.log\nout/\n", "pkg/.gitignore": "!keep.log\n"})
    write(tmp_path, **{"pkg/keep.log": "", "pkg/x.log": "", "out/.gitignore": "!*\n", "out/y": ""})
    assert paths(tmp_path) == [".gitignore", "pkg/.gitignore", "pkg/keep.log"]


def test_frayignore_has_the_last_word_in_its_folder(tmp_path):
    write(tmp_path, **{".gitignore": "*.bin\n", ".frayignore": "!model.bin\nsecret*\n"})
    write(tmp_path, **{"model.bin": "", "other.bin": "", "secret.txt": "", "a.py": ""})
    assert paths(tmp_path) == [".frayignore", ".gitignore", "a.py", "model.bin"]


def test_a_folder_of_a_repository_minds_the_rules_above_it(tmp_path):
    write(tmp_path, **{".git/info/exclude": "*.tmp\n", ".gitignore": "*.log\n"})
    write(tmp_path, **{"sub/a.py": "", "sub/b.log": "", "sub/c.tmp": ""})
    assert paths(tmp_path / "sub") == ["a.py"]


def test_version_control_environments_and_compiled_files_never_travel(tmp_path):
    write(
        tmp_path, **{".git/config": "", ".venv/bin/x": "", "pkg/__pycache__/a.pyc": "", "a.py": ""}
    )
    write(tmp_path, **{"myenv/pyvenv.cfg": "", "myenv/lib/x.py": "", ".gitignore": "!.venv\n"})
    assert paths(tmp_path) == [".gitignore", "a.py"]


def test_it_takes_what_git_would_show(tmp_path):
    write(tmp_path, **{".gitignore": "*.o\n!keep.o\n/top\na/**/z\n**/cache/\n\\#x\ndoc/*.txt\n"})
    for name in ("x.o", "keep.o", "top", "s/top", "a/z", "a/b/c/z", "q/cache/f", "#x", "doc/a.txt"):
        write(tmp_path, **{name: "", f"{name}.py": ""})
    write(tmp_path, **{"doc/deep/a.txt": "", "s/.gitignore": "*\n!*.py\n", "s/other": ""})
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    listed = subprocess.run(
        [*git, "ls-files", "-co", "--exclude-standard"], check=True, capture_output=True, text=True
    )
    assert paths(tmp_path) == sorted(listed.stdout.splitlines())


def test_links_inside_are_kept(tmp_path):
    write(tmp_path, **{"pkg/a.py": "x"})
    (tmp_path / "to_file").symlink_to("pkg/a.py")
    (tmp_path / "pkg" / "absolute").symlink_to(tmp_path / "pkg")
    bundle = pack_workspace(tmp_path, workspace_files(tmp_path))
    out = tmp_path.parent / "unpacked"
    out.mkdir()
    unpack_workspace(bundle.data, out)
    assert os.readlink(out / "to_file") == "pkg/a.py"
    assert (out / "pkg" / "absolute" / "a.py").resolve() == out / "pkg" / "a.py"


def test_a_link_out_of_the_folder_is_refused_unless_it_is_ignored(tmp_path):
    (tmp_path / "data").symlink_to("/etc")
    with pytest.raises(
        InvalidRequestError, match=r"data in the workspace .* link to /etc, outside"
    ):
        workspace_files(tmp_path)
    write(tmp_path, **{".frayignore": "/data\n"})
    assert paths(tmp_path) == [".frayignore"]


def test_a_folder_that_is_too_large_is_refused_with_the_largest_files(tmp_path):
    write(tmp_path, **{"small.py": "x", "weights/model.bin": "x" * 5000, "b.bin": "x" * 3000})
    with pytest.raises(InvalidRequestError) as refused:
        workspace_files(tmp_path, size_bytes_max=4096)
    told = str(refused.value)
    assert "7.813KiB in 3 files, at most 4KiB" in told
    assert "weights/model.bin (4.883KiB), b.bin" in told
    assert ".frayignore" in told
    assert "FRAY_BUNDLE_SIZE_MAX" in told


def test_too_many_files_are_refused_with_the_fullest_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(workspace, "FILES_MAX", 3)
    write(tmp_path, **{f"cache/{i}": "" for i in range(4)})
    with pytest.raises(
        InvalidRequestError, match=r"4 files, at most 3 files. Most are in cache \(4\)"
    ):
        workspace_files(tmp_path)


NAMES = st.text("abé. -", min_size=1, max_size=6).filter(
    lambda name: name.strip(".") and "/" not in name
)
TREES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map("/".join),
    st.tuples(st.binary(max_size=50), st.sampled_from([0o644, 0o755, 0o600])),
    max_size=8,
)


def lay(root: Path, tree: dict[str, tuple[bytes, int]], names: list[str]) -> None:
    for name in names:
        path = root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tree[name][0])
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue  # a name that is a folder elsewhere in the tree
        path.chmod(tree[name][1])


@given(TREES, st.integers(0, 2**40))
def test_the_same_files_give_the_same_bundle_whenever_and_in_whatever_order_they_were_written(
    tree, mtime
):
    names = [n for n in sorted(tree) if not any(o.startswith(f"{n}/") for o in tree)]
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        lay(Path(one), tree, names)
        lay(Path(other), tree, names[::-1])
        for path in Path(other).rglob("*"):
            os.utime(path, (mtime, mtime))
        first, second = (pack_workspace(Path(r), workspace_files(Path(r))) for r in (one, other))
        assert first.digest == second.digest
        with tempfile.TemporaryDirectory() as out:
            unpack_workspace(first.data, Path(out))
            found = {
                str(p.relative_to(out)): (p.read_bytes(), p.stat().st_mode & 0o100)
                for p in Path(out).rglob("*")
                if p.is_file()
            }
        assert found == {n: (tree[n][0], tree[n][1] & 0o100) for n in names}


def test_a_change_of_content_or_mode_gives_another_bundle(tmp_path):
    write(tmp_path, **{"run.sh": "echo"})
    digests = [pack_workspace(tmp_path, workspace_files(tmp_path)).digest]
    (tmp_path / "run.sh").chmod(0o755)
    digests.append(pack_workspace(tmp_path, workspace_files(tmp_path)).digest)
    write(tmp_path, **{"run.sh": "echO"})
    digests.append(pack_workspace(tmp_path, workspace_files(tmp_path)).digest)
    assert len(set(digests)) == 3


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil"])
def test_a_bundle_that_would_write_elsewhere_is_refused(tmp_path, name):
    evil = pack_of(name, b"x")
    with pytest.raises(PayloadError, match="outside of its folder"):
        unpack_workspace(evil, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_bundle_with_a_link_out_of_it_is_refused(tmp_path):
    with pytest.raises(PayloadError, match="link out of its folder"):
        unpack_workspace(pack_of("pkg/link", link="../../etc"), tmp_path)


def test_a_damaged_bundle_is_refused(tmp_path):
    write(tmp_path, **{"a.py": "x" * 1000})
    data = pack_workspace(tmp_path, workspace_files(tmp_path)).data
    for broken in (data[: len(data) // 2], b"nothing", b""):
        out = Path(tempfile.mkdtemp(dir=tmp_path))
        with pytest.raises(PayloadError, match="damaged"):
            unpack_workspace(broken, out)


def test_a_bundle_that_is_damaged_anywhere_is_refused_or_unpacked_and_nothing_else(tmp_path):
    write(tmp_path, **{"a.py": " ".join(str(i * i) for i in range(20_000))})
    data = pack_workspace(tmp_path, workspace_files(tmp_path)).data
    refused = 0
    for at in range(0, len(data), len(data) // 50):
        broken = data[:at] + b"\x00" * 40 + data[at + 40 :]
        try:
            unpack_workspace(broken, Path(tempfile.mkdtemp(dir=tmp_path)))
        except PayloadError:
            refused += 1
    assert refused


def pack_of(name: str, content: bytes = b"", link: str = "") -> bytes:
    import gzip
    import io
    import tarfile

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        if link:
            entry.type, entry.linkname = tarfile.SYMTYPE, link
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(packed.getvalue())
