"""``fray token``: create, list, revoke; and ``fray audit``."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fray.cli.newfile import new_file
from fray.cli.options import Cluster, ClusterName, Json, require_place
from fray.cluster.security.claims import Role
from fray.wording import counted

if TYPE_CHECKING:
    from fray.cluster.client import AsyncFrayCluster
    from fray.cluster.security.api import AuditLine, NewToken, TokenReport

app = typer.Typer(help="Make tokens for people and hosts, and take them back.")

AUDIT_LINES = 50


@app.command("create")
def create(
    user: Annotated[
        str,
        typer.Option(help="Whose it is: begins the ids of their jobs.", show_default=False),
    ],
    role: Annotated[
        Role, typer.Option(help="admin, user, or worker: a host that joins.")
    ] = Role.USER,
    expires: Annotated[
        str, typer.Option(metavar="DURATION", help="How long it is good, as in 12h or 30d.")
    ] = "30d",
    worker_name: Annotated[
        str,
        typer.Option(
            "--worker", metavar="NAME", help="Of a worker: only this host.", show_default="any"
        ),
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write it there, readable by you only, and print nothing secret.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file of --output where there is one.")
    ] = False,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """Make a token. It is shown once: the cluster keeps no copy."""
    from fray.cli.connecting import connection, run_async
    from fray.cli.durations import parse_duration
    from fray.cli.output import note, print_json, print_line

    lifetime_s = parse_duration(expires)
    place = require_place(cluster, cluster_name)

    async def make() -> NewToken:
        async with connection(place) as connected:
            return await connected.security.create_token(user, role, lifetime_s, worker_name)

    with new_file(output, force=force) if output is not None else nullcontext() as keep:
        made = run_async(make)
        if keep is not None:
            keep(f"{made.token}\n".encode())
    if as_json:
        told = token_json(made.report)
        print_json(told if output is not None else {**told, "token": made.token})
        return
    note(f"token {made.report.token_id} of {role.value} {user}, good until {_when(made.report)}")
    if output is None:
        print_line(made.token)


@app.command("list")
def list_tokens(
    cluster: Cluster = None, cluster_name: ClusterName = None, as_json: Json = False
) -> None:
    """List the tokens that have not expired, without those of running jobs."""
    from fray.cli.connecting import connection, run_async
    from fray.cli.output import print_json, print_table
    from fray.cli.reports import Table

    place = require_place(cluster, cluster_name)

    async def ask() -> list[TokenReport]:
        async with connection(place) as connected:
            return await connected.security.tokens()

    reports = run_async(ask)
    if as_json:
        print_json([token_json(report) for report in reports])
        return
    table = Table(("TOKEN", "ROLE", "USER", "WORKER", "EXPIRES", "STATE"))
    for report in reports:
        state = "revoked" if report.revoked else "good"
        worker = report.worker_id or "-"
        table.add(report.token_id, report.role.value, report.user, worker, _when(report), state)
    print_table(table)


@app.command("revoke")
def revoke(
    token_id: Annotated[
        str | None,
        typer.Argument(
            metavar="[TOKEN_ID]", help="As `fray token list` tells it.", show_default=False
        ),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(help="All tokens of a user, those of their jobs too.", show_default=False),
    ] = None,
    including_mine: Annotated[
        bool,
        typer.Option("--including-mine", help="Even the token that this command itself shows."),
    ] = False,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """Take a token back: it opens no door any more, and what it has opened is closed."""
    from fray.cli.connecting import connection, run_async
    from fray.cli.errors import UsageFailure
    from fray.cli.output import print_json, print_line

    if (token_id is None) == (user is None):
        raise UsageFailure("say which: the id of a token (see `fray token list`), or --user")
    place = require_place(cluster, cluster_name)

    async def take_back() -> dict[str, Any]:
        async with connection(place) as connected:
            if token_id is not None:
                return token_json(await connected.security.revoke_token(token_id, including_mine))
            assert user is not None
            return await revoke_all(connected, user, including_mine)

    told = run_async(take_back)
    if as_json:
        print_json(told)
    elif token_id is not None:
        print_line(f"token {token_id} is revoked")
    else:
        print_line(revoked_line(told))


async def revoke_all(cluster: AsyncFrayCluster, user: str, mine: bool) -> dict[str, Any]:
    """Takes all tokens of a user back, those of their jobs too.

    Args:
        cluster: Where.
        user: Whose.
        mine: Whether the one that this command shows may be among them.

    Returns:
        For scripts: how many they were.

    Raises:
        Failure: The user has none.
    """
    from fray.cli.errors import Failure
    from fray.cluster.control import JobQuery
    from fray.cluster.types import JobStatus

    known = [report for report in await cluster.security.tokens() if not report.revoked]
    tokens = sum(1 for report in known if report.user == user)
    unfinished = JobQuery(
        statuses=(JobStatus.PENDING, JobStatus.RUNNING), user=user, with_actors=True
    )
    jobs = len(await cluster.jobs.ids(unfinished))
    if not tokens and not jobs:
        others = ", ".join(sorted({report.user for report in known})) or "nobody"
        raise Failure(f"user {user!r} has no token that is good, and no job (some have: {others})")
    await cluster.security.revoke_user(user, mine)
    return {"user": user, "revoked": True, "tokens": tokens, "jobs": jobs}


def revoked_line(told: dict[str, Any]) -> str:
    """What `revoke_all` did, for people.

    Args:
        told: What it gave.
    """
    tokens, jobs = told["tokens"], told["jobs"]
    of_jobs = f", and those of {counted(jobs, 'job')}" if jobs else ""
    return f"{counted(tokens, 'token is', 'tokens are')} revoked of {told['user']}{of_jobs}"


def audit(
    lines: Annotated[
        int, typer.Option("--lines", "-n", help="At most so many.", min=1)
    ] = AUDIT_LINES,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """Show the last requests that the controller refused: who, from where, what, why."""
    from fray.cli.connecting import connection, run_async
    from fray.cli.output import print_json, print_line, print_table
    from fray.cli.reports import Table

    place = require_place(cluster, cluster_name)

    async def ask() -> list[AuditLine]:
        async with connection(place) as connected:
            return await connected.security.audit(lines)

    found = run_async(ask)
    if as_json:
        print_json([audit_json(line) for line in found])
        return
    if not found:
        print_line("nothing was refused")
        return
    table = Table(("TIME", "WHO", "FROM", "WHAT", "WHY"))
    for line in found:
        who = f"{line.role} {line.who}".strip() or "-"
        table.add(_time(line.time), who, line.origin or "-", line.what, line.why)
    print_table(table)


def token_json(report: TokenReport) -> dict[str, Any]:
    """What is told of a token to scripts; never the token.

    Args:
        report: Of the token.
    """
    return {
        "id": report.token_id,
        "user": report.user,
        "role": report.role.value,
        "worker": report.worker_id or None,
        "issued_at": report.issued_at,
        "expires_at": report.expires_at,
        "revoked": report.revoked,
    }


def audit_json(line: AuditLine) -> dict[str, Any]:
    """A refusal for scripts.

    Args:
        line: It.
    """
    return {
        "time": line.time,
        "who": line.who or None,
        "role": line.role or None,
        "from": line.origin or None,
        "what": line.what,
        "why": line.why,
    }


def _when(report: TokenReport) -> str:
    return _time(report.expires_at)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


__all__ = ["app", "audit", "audit_json", "revoke_all", "revoked_line", "token_json"]
