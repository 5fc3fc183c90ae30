"""Directories of embedded clusters: none outlives the cluster after its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fray.cluster.scratch import PREFIX, Scratch, sweep

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left_by_a_killed_owner(temporary: Path) -> Path:
    code = (
        "import os, signal; from fray.cluster.scratch import Scratch; scratch = Scratch(); "
        "(scratch.path / 'blob').write_text('x'); print(scratch.path, flush=True); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    environ = {**os.environ, "TMPDIR": str(temporary)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, text=True
    )
    path = Path(done.stdout.strip())
    assert (path / "blob").exists()
    return path


def test_a_directory_goes_with_its_owner(temporary: Path) -> None:
    scratch = Scratch()
    assert scratch.path.parent == temporary
    scratch.remove()
    scratch.remove()
    assert list(temporary.iterdir()) == []


def test_the_next_owner_removes_what_a_killed_one_has_left(temporary: Path) -> None:
    left = left_by_a_killed_owner(temporary)
    scratch = Scratch()
    assert not left.exists()
    scratch.remove()


def test_what_is_in_use_or_not_known_to_be_a_dead_ones_stays(temporary: Path) -> None:
    left = left_by_a_killed_owner(temporary)
    link = temporary / f"{PREFIX}link"
    link.symlink_to(left)
    half_made = temporary / f"{PREFIX}new"
    half_made.mkdir()
    other = temporary / "other"
    other.mkdir()
    used = Scratch()
    assert not left.exists()
    sweep()
    assert {path.name for path in temporary.iterdir()} == {
        link.name,
        half_made.name,
        other.name,
        used.path.name,
    }
    used.remove()
