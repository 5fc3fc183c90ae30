"""``fray bug-report``: one archive for whoever is to find out what is wrong.

It holds what the cluster says of itself and the last lines of its daemons' logs. It never holds
tokens, values of environment variables, or what jobs say (of their errors only the kind);
whatever looks like a secret is blanked.
"""

from __future__ import annotations

import io
import platform
import re
import sys
import tarfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fray.cli.options import Cluster, ClusterName, Json, require_place

if TYPE_CHECKING:
    from fray.cli.connecting import Place
    from fray.cluster.client import AsyncFrayCluster
    from fray.cluster.reports import JobReport

JOBS_MAX = 500
"""The newest are told of."""

LOG_BYTES = 256 << 10
"""The end of each daemon's log."""

PACKAGES = ("aiohttp", "cattrs", "cloudpickle", "fsspec", "orjson", "psutil", "uvloop", "numpy")

BLANK = "[removed]"

_ASSIGNED = re.compile(
    r"(?i)([\w.-]*(?:token|secret|password|passwd|credential|api[_-]?key|private[_-]?key)[\w.-]*"
    r"[\"']?\s*[=:]\s*)([\"']?)[^\s\"',;}]+"
)
_BEARER = re.compile(r"(?i)(bearer\s+)[\w.~+/=-]+")
_IN_URL = re.compile(r"(\w+://)[^/\s:@]+:[^/\s@]+@")


def redacted(text: str, secrets: Mapping[str, str]) -> str:
    """A text without secrets.

    Args:
        text: The text.
        secrets: What is known to be secret, by what it is called.
    """
    for secret in sorted(secrets.values(), key=len, reverse=True):
        if len(secret) >= 6:  # shorter ones would blank half of the text
            text = text.replace(secret, BLANK)
    text = _ASSIGNED.sub(rf"\g<1>\g<2>{BLANK}", text)
    text = _BEARER.sub(rf"\g<1>{BLANK}", text)
    return _IN_URL.sub(rf"\g<1>{BLANK}@", text)


def bug_report(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file. Default: fray-bug-report-TIME.tar.gz here."),
    ] = None,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """Collect what is needed to find a fault: versions, state, daemons' logs. No secrets."""
    from fray.cli.connecting import run_async
    from fray.cli.newfile import new_file
    from fray.cli.output import print_json, print_line
    from fray.runtime.clock import SystemClock

    place = require_place(cluster, cluster_name)
    stamp = int(SystemClock().time())
    path = output or Path(f"fray-bug-report-{stamp}.tar.gz")
    with new_file(path, force=True) as keep:
        files = run_async(lambda: _collect(place))
        keep(packed(files, stamp))
    if as_json:
        print_json({"file": str(path), "contents": sorted(files)})
        return
    print_line(f"{path} holds {', '.join(sorted(files))}")
    print_line("look through it before you pass it on: names of jobs, hosts and users are in it")


def packed(files: Mapping[str, str], now: int) -> bytes:
    """Texts as one compressed tar archive.

    Args:
        files: By name.
        now: When they were made, in seconds since 1970.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in sorted(files.items()):
            data = text.encode(errors="replace")
            member = tarfile.TarInfo(f"fray-bug-report/{name}")
            member.size, member.mtime, member.mode = len(data), now, 0o600
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


async def _collect(place: Place) -> dict[str, str]:
    import os

    from fray.cli.connecting import connection
    from fray.cli.settings import SETTINGS_FILE
    from fray.errors import FrayError

    place = _with_home(place)
    files = {"versions.json": _json(versions())}
    try:
        async with connection(place) as connected:
            for name, ask in _questions(connected).items():
                try:
                    files[name] = await ask()
                except FrayError as exc:
                    files[name] = f"could not be asked: {exc}\n"
    except FrayError as exc:  # a cluster that does not answer is what reports are for
        files["cluster.txt"] = f"{place.label} could not be asked: {exc}\n"
    if place.home is not None:
        for path in sorted(place.home.logs.glob("*.log")):
            files[f"logs/{path.name}"] = _end_of(path)
        settings = place.home.path / SETTINGS_FILE
        if settings.is_file():
            files[settings.name] = settings.read_text(errors="replace")
    secrets = secrets_of(os.environ, place)
    return {name: redacted(text, secrets) for name, text in files.items()}


def _with_home(place: Place) -> Place:
    """The cluster with its files, where they are on this machine though its token was given."""
    from dataclasses import replace

    from fray.cli.connecting import SCHEME
    from fray.cluster.home import find_home_by_address

    if place.home is not None or not place.spec.startswith(SCHEME):
        return place
    return replace(place, home=find_home_by_address(place.spec.removeprefix(SCHEME)))


def without_words(job: dict[str, Any]) -> dict[str, Any]:
    """A job without what its own code has said: that may hold anything.

    Args:
        job: As `job_json` gives it.
    """
    tasks = [task | {"error": _kind_of(task["error"])} for task in job["tasks"]]
    return job | {"error": _kind_of(job["error"]), "tasks": tasks}


def _kind_of(error: str | None) -> str | None:
    """The kind of an error: what stands before its message."""
    if not error:
        return None
    kind, colon, _ = error.partition(":")
    return f"{kind}: {BLANK}" if colon else error if " " not in error else BLANK


def secrets_of(environ: Mapping[str, str], place: Place) -> dict[str, str]:
    """What must not be in a report: the cluster's tokens, and what variables here hold.

    Args:
        environ: The variables here.
        place: The cluster.
    """
    found: dict[str, str] = {}
    paths = {environ.get("FRAY_TOKEN_FILE", "")}
    if place.home is not None:
        paths.add(str(place.home.token_path))
    for path in paths - {""}:
        try:
            found[path] = Path(path).read_text().strip()
        except OSError:
            continue
    for name, value in environ.items():
        telling = re.search(r"(?i)token|secret|password|passwd|credential|key", name)
        if telling and name != "FRAY_TOKEN_FILE":
            found[name] = value
    return found


def _questions(cluster: AsyncFrayCluster) -> dict[str, Callable[[], Awaitable[str]]]:
    async def newest() -> list[JobReport]:
        from fray.cluster.control import JobQuery

        return [report async for report in cluster.reports(JobQuery(newest=JOBS_MAX))]

    async def jobs() -> str:
        from fray.cli.reports import job_json

        return _json([without_words(job_json(report)) for report in await newest()])

    async def hosts() -> str:
        from fray.cli.reports import host_json

        return _json([host_json(host) for host in await cluster.fleet.hosts()])

    async def use() -> str:
        from fray.cli.top import ask_hosts
        from fray.cli.toptable import top_json

        return _json(top_json(await ask_hosts(cluster)))

    async def waiting() -> str:
        reports = await newest()
        return _json({r.job_id: list(r.waits_for) for r in reports if r.waits_for})

    async def facts() -> str:
        told = await cluster.sessions.facts()  # with a key and a token of ours, which stay here
        return _json({name: getattr(told, name) for name in ("name", "local", "logs")})

    async def metrics() -> str:
        import aiohttp

        from fray.cluster.metrics.exposition import METRICS_PATH

        address, credentials = cluster.address, cluster.credentials
        if credentials is None:
            return "this connection has no token\n"
        headers = {"Authorization": f"Bearer {credentials.show(address)}"}
        tls = credentials.tls
        scheme, context, name = "http", True, None
        if tls is not None:
            scheme, context, name = "https", tls.client(address), tls.name_of(address)
        url = f"{scheme}://{address}{METRICS_PATH}"
        timeout = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
            try:
                async with session.get(url, ssl=context, server_hostname=name) as response:
                    return await response.text()
            except (aiohttp.ClientError, TimeoutError) as exc:
                return f"could not be read: {exc}\n"

    return {
        "jobs.json": jobs,
        "hosts.json": hosts,
        "use.json": use,
        "waiting.json": waiting,
        "cluster.json": facts,
        "metrics.txt": metrics,
    }


def versions() -> dict[str, Any]:
    """What this is: fray, Python, the machine, packages."""
    import importlib.metadata

    from fray.version import __version__

    packages: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            packages[name] = None
    return {
        "fray": __version__,
        "python": sys.version,
        "platform": platform.platform(),
        "packages": packages,
    }


def _end_of(path: Path) -> str:
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(size - LOG_BYTES, 0))
        return file.read().decode(errors="replace")


def _json(value: Any) -> str:
    import orjson

    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n"


__all__ = ["BLANK", "bug_report", "packed", "redacted", "secrets_of", "versions", "without_words"]
