"""What the ``fray`` command makes of names, tokens, limits and ports that are not quite right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .test_cli import Fray

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    base = tmp_path_factory.mktemp("mistakes")
    typed = Fray(base / "work", base / "home")
    typed("up", "--port", "0", "--resources", '{"cpu": 2, "memory": "2g"}')
    typed("run", "--", "true")  # what a worker starts once and keeps is there now
    try:
        yield base / "home"
    finally:
        typed("down", "--grace", "0")


@pytest.fixture
def fray(home: Path, tmp_path: Path) -> Iterator[Fray]:
    typed = Fray(tmp_path / "work", home)
    yield typed
    typed.close()


def test_name_of_ended_jobs_means_the_newest_and_never_hides_the_live_one(fray: Fray) -> None:
    for word in ("one", "two"):
        fray("run", "--name", "again", "--", "echo", word)
    told = fray("job", "logs", "again")
    assert told.stdout == "two\n"
    assert "is meant, of 2 jobs named again" in told.stderr
    live = fray.submit("--", "sleep", "1000", name="again")
    assert fray("job", "why", "again").stdout.startswith(live)
    third = fray.submit("--", "sleep", "1000", name="again")
    assert live in fray("job", "why", "again", code=1).stderr
    assert "may be any of" in fray("job", "stop", "again", code=1).stderr
    fray("job", "stop", live, third, "--grace", "0")


def test_port_that_the_job_lacks_is_refused_before_anything_listens(fray: Fray) -> None:
    job_id = fray.submit(
        "--port", "web", "--", "sh", "-c", "test $FRAY_PORT_WEB && sleep 1000", name="served"
    )
    refused = fray("port-forward", job_id, "wbe", code=1)
    assert refused.stdout == ""
    assert f"job {job_id} has no port 'wbe' (it has: web)" in refused.stderr
    assert fray.json("job", "why", job_id)["error"] is None
    fray("job", "stop", job_id, "--grace", "0")


def test_token_that_is_named_is_shown_whoever_else_is_at_home_here(fray: Fray) -> None:
    token = fray.folder / "bob.token"
    fray("token", "create", "--user", "bob", "--output", str(token))
    assert (
        "exists; --force"
        in fray("token", "create", "--user", "bob", "--output", str(token), code=2).stderr
    )
    environ = {"FRAY_TOKEN_FILE": str(token)}
    assert (
        "not for the role 'user'"
        in fray("user", "weight", "bob", "2", code=1, environ=environ).stderr
    )
    assert "'nan'" not in fray("user", "weight", "bob", "nan", code=2).stderr
    fray("user", "weight", "bob", "2")
    told = fray("token", "revoke", "--user", "typo", code=1).stderr
    assert "user 'typo' has no token that is good, and no job" in told
    assert fray("token", "revoke", "--user", "bob").stdout == "1 token is revoked of bob\n"


def test_what_could_never_be_is_told_as_that(fray: Fray) -> None:
    refused = fray("run", "--zone", "nowhere", "--", "true", code=1).stderr
    assert "is in zone (none), not nowhere" in refused
    assert "can never run here: needs 400 cpus" in fray("sched", "whatif", "--cpus", "400").stdout
    assert "did you mean 'cpus'" in fray("user", "quota", "ann", "cpu=1", code=1).stderr


def test_user_gets_in_front_of_everybody_only_if_an_administrator_says_so(fray: Fray) -> None:
    token = fray.folder / "cleo.token"
    fray("token", "create", "--user", "cleo", "--output", str(token))
    urgent = ("run", "--priority", "critical", "--", "true")
    refused = fray(*urgent, code=1, environ={"FRAY_TOKEN_FILE": str(token)}).stderr
    assert "the priority 'critical' is above 'high', the highest of user cleo" in refused
    assert fray.json("job", "list", "--user", "cleo") == []
    assert "no band of priorities" in fray("user", "priority", "cleo", "urgent", code=2).stderr
    assert fray.json("user", "priority", "cleo", "critical")["highest_band"] == "critical"
    assert "critical" in fray("user", "list").stdout
    fray(*urgent, environ={"FRAY_TOKEN_FILE": str(token)})


def test_limits_are_lifted_one_by_one_and_shown_by_whoever_names_none(fray: Fray) -> None:
    fray("user", "quota", "bea", "cpus=64", "chips=32")
    assert fray.json("user", "quota", "bea", "cpus=none")["quota"] == {"chips": 32.0}
    fray("user", "budget", "bea", "chips=50", "--days", "30")
    assert "0 of 50 chip-hours per 30d" in fray("user", "budget", "bea").stdout
    assert "nothing is known of user 'typo'" in fray("user", "quota", "typo", code=1).stderr


def test_launch_that_is_repeated_under_its_id_is_the_same_job(fray: Fray) -> None:
    launch = ("run", "--submission-id", "nightly", "--queue-limit", "1h", "--", "echo", "once")
    first = fray(*launch)
    assert fray(*launch).stdout == first.stdout == "once\n"
    assert len([job for job in fray.json("job", "list") if job["name"] == "echo"]) == 1
    other = fray("run", "--submission-id", "nightly", "--", "echo", "twice", code=1).stderr
    assert "with another command" in other


def test_plan_of_a_dry_run_is_told_in_sentences(fray: Fray) -> None:
    told = fray("run", "--dry-run", "--cpus", "2", "--", "true").stdout
    facts = dict(line.split(None, 1) for line in told.splitlines())
    assert facts["where"] == "cluster default"
    assert facts["needs"].startswith("2 cpus, ")
    assert "would run  1 of 1 task on " in told
