"""What every command prints with ``--json``, on a real cluster: values for scripts, no texts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from fray.cli.app import execute
from tests.cli.test_commands import EVERY, options

from .test_cli import Fray

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(180)]

WORDS = frozenset(("error", "reason", "reasons", "waits_for", "why", "what", "by", "impossible"))
"""Keys of what is for people in JSON, too: messages."""

QUANTITY = re.compile(
    r"[<~]?\d[\d.,]*\s*(?:s|m|h|d|min|ms|%|[kKMGTP]i?B?|B|bytes?|cpus?|gpus?|chips?|tasks?|hosts?|jobs?)\b"
    r"|\d+[dhm]\d+|.*\bago\b|in \d.*"
)
"""How amounts and times are written for people: ``2 cpus``, ``1.5GiB``, ``3m05s``, ``3m ago``."""

ELSEWHERE = {
    "down": "ends the cluster",
    "worker": "joins another",
    "port-forward": "goes on until it is interrupted",
    "stack": "its text is py-spy's, or the interpreter's",
    "actor show": "as `actor list`",
    "actor stop": "as `actor list`",
    "job logs": "lines of output",
}
"""Why a command is not asked here."""


@pytest.fixture(scope="module")
def fray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fray]:
    base = tmp_path_factory.mktemp("json")
    typed = Fray(base / "work", base / "home")
    typed("up", "--port", "0", "--resources", '{"cpu": 2, "memory": "2g", "gpu": {"H100": 1}}')
    try:
        yield typed
    finally:
        typed.close()
        typed("down", "--grace", "0")


def found_in(value: Any, path: str = "", key: str = "") -> Iterator[str]:
    """Strings that look like an amount or a time for people, and where they are."""
    if isinstance(value, dict):
        for name, each in value.items():
            if name not in WORDS:
                yield from found_in(each, f"{path}.{name}", name)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from found_in(each, f"{path}[{index}]", key)
    elif isinstance(value, str) and QUANTITY.fullmatch(value.strip()):
        yield f"{path} is {value!r}"
    elif isinstance(value, str) and ", " in value:
        yield f"{path} is a sentence: {value!r}"


def test_texts_for_people_are_found() -> None:
    told = {"a": "2 cpus", "b": ["3m ago", "1.5GiB"], "c": {"d": "1 cpu, 128m"}, "error": "2 cpus"}
    assert len(list(found_in(told))) == 4
    assert not list(found_in({"a": "alice/train-7f3a", "b": "10.0.0.1:50051", "c": None, "d": 3}))


def test_no_command_prints_texts_for_people_in_json(
    fray: Fray, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(fray.folder)
    monkeypatch.setenv("FRAY_HOME", str(fray.home))
    monkeypatch.setenv("FRAY_USER", "ann")
    monkeypatch.delenv("FRAY_CLUSTER_SPEC", raising=False)

    def ask(*arguments: str) -> Any:
        assert execute([*arguments, "--json"]) == 0, capfd.readouterr().err
        return orjson.loads(capfd.readouterr().out)

    running = fray.submit("--port", "web", "--", "sleep", "1000", name="runs")
    waiting = fray.submit("--cpus", "2", "--memory", "1g", "--", "true", name="waits")
    made = ask("reservation", "create", "--cpus", "1", "--max", "2")["reservation_id"]
    view = fray.folder / "view.json"
    view.write_text(fray("sched", "record").stdout)
    token = ask("token", "create", "--user", "bob")["id"]
    asked: dict[str, tuple[str, ...]] = {
        "up": ("--port", "0", "--resources", '{"cpu": 2, "memory": "2g", "gpu": {"H100": 1}}'),
        "status": (),
        "top": (),
        "audit": (),
        "job list": (),
        "job show": (running,),
        "job why": (waiting,),
        "task list": (),
        "task show": (f"{running}/0",),
        "actor list": (),
        "token list": (),
        "token create": ("--user", "bob"),
        "token revoke": (token,),
        "reservation create": ("--cpus", "1"),
        "reservation list": (),
        "reservation renew": (made,),
        "reservation release": (made,),
        "user list": (),
        "user weight": ("ann", "2"),
        "user quota": ("ann", "cpus=4", "memory=8g"),
        "user budget": ("ann", "memory=8g"),
        "user priority": ("ann", "critical"),
        "sched policy": (),
        "sched replay": (str(view),),
        "sched whatif": ("--cpus", "400"),
        "bug-report": ("-o", str(fray.folder / "report.tar.gz")),
        "drain": ("vm", "--no-wait"),
        "undrain": ("vm",),
        "job stop": (waiting, running, "--grace", "0"),
        "run": ("--dry-run", "--cpus", "2"),
    }
    host = ask("status")["hosts"][0]["worker"]
    asked |= {"drain": (host, "--no-wait"), "undrain": (host,)}
    with_json = {name for name, command in EVERY.items() if "--json" in options(command)}
    assert with_json == {*asked, *ELSEWHERE}, "a command is neither asked nor left out for a reason"
    wrong: list[str] = []
    for name, arguments in asked.items():
        if name == "run":
            assert execute(["run", *arguments, "--json", "--", "true"]) == 0
            told = orjson.loads(capfd.readouterr().out)
        else:
            told = ask(*name.split(), *arguments)
        wrong += [f"fray {name}: {each}" for each in found_in(told)]
    assert wrong == []
