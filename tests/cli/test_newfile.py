"""The file of ``--output``."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import NoReturn

import pytest

from fray.cli import bugreport
from fray.cli.app import execute
from fray.cli.errors import UsageFailure
from fray.cli.newfile import new_file


def test_file_is_its_owners_only(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with new_file(path, force=False) as keep:
        keep(b"secret\n")
    assert path.read_text() == "secret\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_file_that_cannot_be_made_is_told_before_there_is_anything_to_keep(tmp_path: Path) -> None:
    for path, told in (
        (tmp_path / "none" / "token", "none/token cannot be written: No such file or directory"),
        (tmp_path, "is a folder; name a file"),
    ):
        for force in (False, True):
            with pytest.raises(UsageFailure, match=told), new_file(path, force=force):
                raise AssertionError("something is made")


def test_file_that_exists_is_replaced_only_where_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("other\n")
    with (
        pytest.raises(UsageFailure, match="exists; --force replaces it"),
        new_file(path, force=False),
    ):
        raise AssertionError("something is made")
    assert path.read_text() == "other\n"
    with new_file(path, force=True) as keep:
        keep(b"secret\n")
    assert path.read_text() == "secret\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("force", [False, True])
def test_without_anything_to_keep_nothing_is_left_behind(tmp_path: Path, force: bool) -> None:
    with pytest.raises(KeyboardInterrupt), new_file(tmp_path / "token", force=force):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_report_that_cannot_be_written_is_refused_before_the_cluster_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def collect(_: object) -> NoReturn:
        raise AssertionError("it was asked")

    monkeypatch.setattr(bugreport, "_collect", collect)
    path = tmp_path / "none" / "x"
    assert execute(["bug-report", "-o", str(path), "--cluster", "fray://127.0.0.1:1"]) == 2
    assert f"{path} cannot be written: No such file or directory" in capsys.readouterr().err
