"""Every command: it can be asked for help, and those that print facts print them for scripts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer

from fray.cli.app import app

NO_FACTS = {"task exec", "sched record"}
"""What prints something else than facts: a program's own output; or JSON in any case."""


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if not children:
        yield " ".join(path), command
        return
    for name, child in children.items():
        yield from commands(child, (*path, name))


EVERY = dict(commands(typer.main.get_command(app)))


def options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


def test_commands_are_found():
    assert {"run", "top", "stack", "job logs", "task exec", "bug-report", "drain"} <= set(EVERY)


@pytest.mark.parametrize("name", sorted(EVERY))
def test_every_command_says_what_it_does(name: str):
    command = EVERY[name]
    assert command.help, name
    assert "-h" in (command.context_settings.get("help_option_names") or ["-h"])
    for parameter in command.params:
        described = getattr(parameter, "help", None)
        assert described, f"{name}: {parameter.name} is not explained"


@pytest.mark.parametrize("name", sorted(set(EVERY) - NO_FACTS))
def test_every_command_that_prints_facts_has_json(name: str):
    assert "--json" in options(EVERY[name])
