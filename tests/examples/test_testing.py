"""The example of how a user finds a bug: the careful actor passes, the other is found out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SEEDS = 8


def test_the_planted_bug_is_found_and_its_absence_is_not_accused():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "examples/testing"]
    environment = {**os.environ, "PYTEST_ADDOPTS": ""}
    ran = subprocess.run(
        [*command, f"--sim-seeds={SEEDS}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    failed = re.findall(r"^FAILED .*\[(\w+)-seed(\d+)\]", ran.stdout, re.MULTILINE)
    assert {name for name, _ in failed} == {"Bank"}, ran.stdout
    assert f"{2 * SEEDS - len(failed)} passed" in ran.stdout
    replay = "replay: pytest 'examples/testing/test_bank.py::test_no_deposit_is_forgotten[Bank]'"
    assert f"{replay} --sim-seed={failed[0][1]}" in ran.stdout
