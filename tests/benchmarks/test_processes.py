from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.integration


def in_a_process_of_its_own(body: str) -> str:
    """Adopting orphans changes a whole process, so it is done in one that ends with the test."""
    script = "from pathlib import Path\nfrom benchmarks import processes\n" + textwrap.dedent(body)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_everything_that_a_program_leaves_behind_is_ended() -> None:
    output = in_a_process_of_its_own("""
        processes.adopt_orphans()
        left_behind = "(setsid sleep 300 & echo $!) ; echo done"
        print(processes.run(["sh", "-c", left_behind], deadline_s=30, folder=Path.cwd()))
        print("alive:", processes.descendants())
    """)
    pid, *rest = output.split()
    assert rest == ["done", "alive:", "[]"]
    assert not Path("/proc", pid).exists()


def test_program_that_hangs_and_ignores_requests_is_killed_at_its_deadline() -> None:
    output = in_a_process_of_its_own("""
        processes.adopt_orphans()
        stubborn = "trap '' TERM; echo where it hangs >&2; while :; do sleep 0.1; done"
        try:
            processes.run(["sh", "-c", stubborn], deadline_s=0.5, folder=Path.cwd())
        except processes.RunError as error:
            print(error)
        print("alive:", processes.descendants())
    """)
    assert "still running after 0.5 s\nwhere it hangs\nalive: []" in output


def test_program_that_fails_says_what_it_printed_last() -> None:
    output = in_a_process_of_its_own("""
        try:
            processes.run(["sh", "-c", "echo why >&2; exit 3"], deadline_s=30, folder=Path.cwd())
        except processes.RunError as error:
            print(error)
    """)
    assert output.endswith("exit status 3\nwhy\n")
