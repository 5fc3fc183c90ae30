from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from fray.cluster.worker.exits import (
    Ending,
    death_cause,
    exit_status,
    raised,
    rebooted,
    signal_name,
    unsupervised,
)
from fray.errors import DeathCause, DeathKind


def cause(**facts: object) -> DeathCause:
    found = death_cause(Ending(**facts))  # pyright: ignore[reportArgumentType]
    assert found is not None
    return found


def test_exit_code_zero_is_success():
    assert death_cause(Ending(exit_code=0)) is None


def test_success_is_success_although_a_child_was_killed_for_memory():
    assert death_cause(Ending(exit_code=0, out_of_memory="limit")) is None


def test_exit_code_is_the_programs_own_failure():
    found = cause(exit_code=1)
    assert (found.kind, found.exit_code, found.signal) == (DeathKind.APP_ERROR, 1, None)
    assert found.message == "exited with code 1"


def test_exit_code_of_a_shell_is_explained():
    assert cause(exit_code=137).message == (
        "exited with code 137, which is how a shell reports SIGKILL (signal 9)"
    )
    assert cause(exit_code=128).message == "exited with code 128"
    assert cause(exit_code=255).message == "exited with code 255"


def test_every_signal_has_a_message_with_its_name_and_number():
    for number in signal.Signals:
        found = cause(signal=int(number))
        assert (found.kind, found.signal) == (DeathKind.SIGNAL, number)
        assert found.message.startswith(f"killed by {number.name} (signal {int(number)})")


def test_signal_without_a_name_has_its_number():
    assert signal_name(40) == "signal 40"
    assert cause(signal=40).message == "killed by signal 40"


@pytest.mark.parametrize(
    ("facts", "how"),
    [
        ({"signal": 9}, ": ended by SIGKILL (signal 9)"),
        ({"exit_code": 0}, ": exited with code 0"),
        ({"exit_code": 5, "out_of_memory": "limit"}, ": exited with code 5"),
        ({}, ""),
    ],
)
def test_stop_outranks_whatever_the_program_made_of_it(facts: dict[str, object], how: str):
    found = cause(stop_reason="requested", **facts)
    assert found.kind is DeathKind.STOPPED
    assert found.message == f"stopped on request{how}"
    assert (found.exit_code, found.signal) == (facts.get("exit_code"), facts.get("signal"))


@pytest.mark.parametrize("reason", ["terminated", "orphaned", "fenced", "never started"])
def test_other_stops_say_who_did_it(reason: str):
    found = cause(stop_reason=reason, signal=15)
    assert found.kind is DeathKind.STOPPED
    assert "on request" not in found.message


def test_memory_outranks_the_signal_and_the_exit_code_that_follow_from_it():
    found = cause(signal=9, out_of_memory="limit", memory_limit_bytes=4 << 30)
    assert (found.kind, found.signal) == (DeathKind.OUT_OF_MEMORY, 9)
    assert found.message == (
        "out of memory: the kernel killed a process of it at its limit of 4.0 GiB: "
        "ended by SIGKILL (signal 9)"
    )
    found = cause(exit_code=1, out_of_memory="limit", memory_limit_bytes=1536 << 20)
    assert found.kind is DeathKind.OUT_OF_MEMORY
    assert "1.5 GiB: exited with code 1" in found.message


def test_memory_of_the_host_is_told_as_likely():
    found = cause(signal=9, out_of_memory="host")
    assert found.kind is DeathKind.OUT_OF_MEMORY
    assert found.message.startswith("very likely out of memory")


def test_limits_are_written_in_a_fitting_unit():
    sizes = [(5 << 30, "5.0 GiB"), (3 << 20, "3.0 MiB"), (4096, "4096 bytes")]
    for size, text in sizes:
        found = cause(signal=9, out_of_memory="limit", memory_limit_bytes=size)
        assert f"its limit of {text}" in found.message


def test_what_could_not_be_killed_is_named():
    found = cause(exit_code=1, survivors=(12, 13))
    assert found.message.endswith("could not be killed and may hold devices: pid 12, 13")
    assert unsupervised(survivors=(7,)).message.endswith("pid 7")


def test_end_that_nobody_saw_is_unknown():
    assert cause().kind is DeathKind.UNKNOWN
    assert unsupervised().kind is DeathKind.UNKNOWN
    assert "OSError: full" in unsupervised("OSError: full").message
    assert rebooted().kind is DeathKind.HOST_LOST


def test_an_exit_status_is_what_the_interpreter_itself_makes_of_the_code() -> None:
    for code in (None, 0, 3, 255, 256, -1, 1 << 31, (1 << 32) + 3, 1 << 70, -(1 << 70), True):
        ended = subprocess.run([sys.executable, "-ISc", f"raise SystemExit({code})"], check=False)
        assert exit_status(code) == ended.returncode, code


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_exit_with_an_empty_message_gives_no_empty_reason(text: str) -> None:
    cause = raised(SystemExit(text))
    assert cause is not None
    assert cause.message == "exited with code 1 (sys.exit was given an empty message)"
