from __future__ import annotations

import pytest

from fray.cli import app as cli
from fray.cli.durations import parse_duration, parse_grace
from fray.cli.errors import UsageFailure


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1.5", 1.5),
        ("90s", 90),
        ("10m", 600),
        ("1.5h", 5400),
        (" 2d", 172800),
        (30, 30),
    ],
)
def test_duration_is_a_number_of_seconds_or_has_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == parse_grace(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5", "10 m", "1e9", "nan", "inf", "5w", "٣"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    for parse in (parse_duration, parse_grace):
        with pytest.raises(UsageFailure, match="is no duration: write it as 90, 10m"):
            parse(text)


def test_no_time_is_a_grace_and_no_limit() -> None:
    assert parse_grace("0") == 0
    with pytest.raises(UsageFailure, match="no time at all"):
        parse_duration("0h")


@pytest.mark.parametrize("text", ["36501d", "9" * 400])
def test_absurd_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageFailure, match="more than a century"):
        parse_duration(text)


@pytest.mark.parametrize(
    "command",
    [
        "run --time-limit {} -- true",
        "sched whatif --time-limit {}",
        "reservation create --ttl {}",
        "reservation renew r --ttl {}",
        "drain h --deadline {}",
        "token create --user ann --expires {}",
        "job stop j --grace {}",
        "down --grace {}",
    ],
)
def test_every_duration_is_written_alike(
    command: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    monkeypatch.setenv("FRAY_HOME", str(tmp_path_factory.mktemp("home")))
    assert cli.execute(command.format("soon").split()) == 2
    assert "'soon' is no duration: write it as 90, 10m, 12h or 30d" in capsys.readouterr().err
