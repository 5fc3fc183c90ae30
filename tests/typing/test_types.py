"""mypy and pyright understand calls of actors, and reject wrong ones."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

USE = Path(__file__).parent / "use.py"
ROOT = Path(__file__).parents[2]


def expected() -> set[int]:
    lines = USE.read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# E")}


def run(*command: str) -> str:
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.stdout, done.stderr
    return done.stdout


def test_mypy_accepts_right_calls_and_rejects_wrong_ones():
    pytest.importorskip("mypy")
    output = run(sys.executable, "-m", "mypy", "--strict", "--no-incremental", str(USE))
    found = {int(match[1]) for match in re.finditer(r"use\.py:(\d+): error", output)}
    assert found == expected(), output


def test_pyright_accepts_right_calls_and_rejects_wrong_ones():
    pytest.importorskip("pyright")
    output = run(sys.executable, "-m", "pyright", "--outputjson", str(USE))
    diagnostics = json.loads(output)["generalDiagnostics"]
    found = {d["range"]["start"]["line"] + 1 for d in diagnostics if d["severity"] == "error"}
    assert found == expected(), output
