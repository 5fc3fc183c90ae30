"""The commands of the examples refuse what cannot work before they begin."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from examples.command import EXIT_USAGE, complaint

pytest.importorskip("jax", reason="the examples need fray-actors[examples]")
pytest.importorskip("optax", reason="the examples need fray-actors[examples]")
pytest.importorskip("gymnasium", reason="the examples need fray-actors[examples]")

EXAMPLES = ("data", "inference", "multislice", "rl", "training")


def run(example: str, *arguments: str) -> int:
    return importlib.import_module(f"examples.{example}.__main__").main(arguments)


@pytest.mark.parametrize("example", EXAMPLES)
def test_folder_that_cannot_be_written_is_told_at_once(
    example: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").touch()
    assert run(example, "--output", str(tmp_path / "file" / "deeper")) == EXIT_USAGE
    assert "cannot write into" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ("rl", "--seed", "-1"),
        ("rl", "--target", "nan"),
        ("rl", "--max-minutes", "-1"),
        ("training", "--steps", "0"),
        ("multislice", "--slices", "two"),
        ("data", "--workers", "0"),
        ("inference", "--phase-s", "inf"),
    ],
)
def test_number_that_makes_no_sense_is_told_at_once(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as left:
        run(*arguments)
    assert left.value.code == EXIT_USAGE
    assert "is no number that is at least" in capsys.readouterr().err


def test_what_is_missing_is_named():
    told = complaint("examples.rl", ("no_such_module",), "memory://x")
    assert told == "examples.rl needs no_such_module: install fray-actors[examples]"
