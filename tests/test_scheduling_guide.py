"""What the guide to scheduling shows runs, and does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fray.cli.app import app
from tests.guides import blocks_of, run

GUIDE = (Path(__file__).parents[1] / "docs" / "scheduling.md").read_text()
PROGRAMS = blocks_of("docs/scheduling.md")
COMMANDS = re.findall(r"^\$ fray (\S+) (\S+)", GUIDE, re.MULTILINE)


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_the_programs_of_the_guide_to_scheduling_run(number: int, tmp_path: Path):
    done = run(PROGRAMS[number], tmp_path)
    assert number != 2 or re.match(r"(pending 0|expanded 8) slices", done.stdout)


def test_the_commands_of_the_guide_to_scheduling_exist():
    groups = {group.name: group.typer_instance for group in app.registered_groups}
    assert len(COMMANDS) == 7
    for group, command in COMMANDS:
        assert groups[group] is not None
        assert command in {each.name for each in groups[group].registered_commands}
