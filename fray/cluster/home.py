"""Where a cluster keeps its files on this machine: token, journal, logs, and which daemons run.

`ClusterHome` is ``$FRAY_HOME/clusters/<name>`` (``~/.fray`` by default)::

    token     the administrator's token (0600); see `fray.cluster.security.keyring`
    keys/     what signs tokens; likewise
    journal   the controller's; made by it
    logs/     what the daemons print; in jobs/ the archive of what jobs print
    bundles/  project folders
    blobs/    opaque bytes by digest
    run/      controller.json, worker-<name>.json: one file per daemon that is ready

Files appear whole or not at all. This room knows files and process ids; it starts nothing and opens
no connection.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import orjson

from fray.cluster.addresses import normalize_address
from fray.cluster.files import write_atomically
from fray.errors import InvalidRequestError

DaemonKind: TypeAlias = Literal["controller", "worker"]

DEFAULT_NAME = "default"
"""The cluster of whoever names none."""

STARTED_TOLERANCE_S = 2.0
"""Start times are computed from the boot time, which clock adjustments shift a little."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FOLDERS = ("logs", "bundles", "run", "blobs")


@dataclass(frozen=True, slots=True)
class Daemon:
    """A controller or worker that has once said that it is ready.

    Attributes:
        kind: What it is.
        name: A worker's name; empty for the controller.
        pid: Its process.
        started: When that process began, in seconds since 1970: pids are used again.
        address: Its ``host:port``.
        host: The machine that it runs on. Homes may be shared between machines.
        joins: Of a worker, the controller's ``host:port``, as it was told.
    """

    kind: DaemonKind
    name: str
    pid: int
    started: float
    address: str
    host: str = ""
    joins: str = ""

    @property
    def is_here(self) -> bool:
        """Whether it was started on this machine, so that its pid means something."""
        return self.host in ("", socket.gethostname())

    @property
    def alive(self) -> bool:
        """Whether its process exists on this machine, and is the one that wrote the file."""
        return self.is_here and is_process(self.pid, self.started)

    @property
    def label(self) -> str:
        """For people, as in ``worker gpu-box``."""
        return f"{self.kind} {self.name}".rstrip()


def is_process(pid: int, started: float) -> bool:
    """Whether a process still exists and is not a later one with the same id.

    Args:
        pid: Its id.
        started: When it began, in seconds since 1970.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return abs(process.create_time() - started) <= STARTED_TOLERANCE_S
    except psutil.Error:
        return False


class ClusterHome:
    """The files of one cluster on this machine. Nothing is made before it is needed.

    Args:
        name: The cluster's: letters, digits, ``.``, ``_`` and ``-``, at most 64 of them.
        root: In place of ``$FRAY_HOME``.

    Raises:
        InvalidRequestError: The name cannot be a folder's.
    """

    def __init__(self, name: str = DEFAULT_NAME, root: Path | None = None) -> None:
        if not _NAME.fullmatch(name):
            raise InvalidRequestError(
                f"a cluster's name has up to 64 letters, digits, '.', '_' and '-', not {name!r}"
            )
        self.name = name
        self.path = (root or fray_home()) / "clusters" / name

    @classmethod
    def at(cls, path: Path) -> ClusterHome:
        """The home that is in a folder: what a daemon is told with ``--home``.

        Args:
            path: ``<root>/clusters/<name>``; any other folder will do as well.

        Raises:
            InvalidRequestError: The folder's name cannot be a cluster's.
        """
        home = cls(path.name)
        home.path = path
        return home

    def __repr__(self) -> str:
        return f"ClusterHome({str(self.path)!r})"

    @property
    def exists(self) -> bool:
        """Whether it was ever made."""
        return self.path.is_dir()

    @property
    def token_path(self) -> Path:
        """Where the token is, or will be."""
        return self.path / "token"

    @property
    def journal(self) -> Path:
        """Where the controller keeps its journal; made by the controller."""
        return self.path / "journal"

    @property
    def logs(self) -> Path:
        """What the daemons print."""
        return self.path / "logs"

    @property
    def run(self) -> Path:
        """The daemons' own files."""
        return self.path / "run"

    @property
    def bundles(self) -> Path:
        """Project folders."""
        return self.path / "bundles"

    @property
    def blobs(self) -> Path:
        """Opaque bytes by digest."""
        return self.path / "blobs"

    @property
    def archive(self) -> Path:
        """What jobs print, where no other place is given for it: see `fray.cluster.archive`."""
        return self.logs / "jobs"

    def log_path(self, kind: DaemonKind, name: str = "") -> Path:
        """The file that a daemon prints to.

        Args:
            kind: What it is.
            name: A worker's name.
        """
        return self.logs / f"{_stem(kind, name)}.log"

    def ensure(self) -> ClusterHome:
        """Makes the folders that are missing, readable by their owner only.

        Raises:
            InvalidRequestError: They cannot be made.
        """
        try:
            for folder in (self.path, *(self.path / each for each in _FOLDERS)):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)  # a mode given to mkdir is subject to the umask, and to age
        except OSError as exc:
            raise InvalidRequestError(
                f"the folder {self.path} cannot be made ({exc.strerror}); set FRAY_HOME to another"
            ) from exc
        return self

    # ---- daemons

    def write_daemon(self, kind: DaemonKind, name: str, address: str, *, joins: str = "") -> Daemon:
        """Says that the calling process is a daemon, and ready.

        Args:
            kind: What it is.
            name: A worker's name; empty for the controller.
            address: Its ``host:port``.
            joins: Of a worker, the controller's ``host:port``.

        Raises:
            OSError: The file cannot be written.
        """
        import psutil

        self.ensure()
        started = psutil.Process().create_time()
        daemon = Daemon(kind, name, os.getpid(), started, address, socket.gethostname(), joins)
        record = {key: value for key, value in asdict(daemon).items() if key != "kind"}
        write_atomically(self._daemon_path(kind, name), orjson.dumps(record))
        return daemon

    def remove_daemon(self, kind: DaemonKind, name: str = "") -> None:
        """Takes back what `write_daemon` said; leaves the file of a successor alone.

        Args:
            kind: What it is.
            name: A worker's name.
        """
        daemon = self.daemon(kind, name)
        if daemon is None or (daemon.pid != os.getpid() and daemon.alive):
            return
        self._daemon_path(kind, name).unlink(missing_ok=True)

    def daemon(self, kind: DaemonKind, name: str = "") -> Daemon | None:
        """What is known of one daemon, dead or alive; None if nothing is.

        Args:
            kind: What it is.
            name: A worker's name.
        """
        return _read_daemon(self._daemon_path(kind, name), kind)

    def daemons(self) -> list[Daemon]:
        """All daemons that have said that they are ready, dead or alive: controller, workers."""
        workers = (_read_daemon(path, "worker") for path in sorted(self.run.glob("worker-*.json")))
        return [each for each in (self.daemon("controller"), *workers) if each is not None]

    @property
    def address(self) -> str:
        """The controller's ``host:port``, as it last was; empty if there never was one."""
        controller = self.daemon("controller")
        return controller.address if controller is not None else ""

    def _daemon_path(self, kind: DaemonKind, name: str) -> Path:
        return self.run / f"{_stem(kind, name)}.json"


def fray_home(environ: Mapping[str, str] = os.environ) -> Path:
    """Where fray keeps its files: ``$FRAY_HOME``, else ``~/.fray``.

    Args:
        environ: Environment variables.
    """
    given = environ.get("FRAY_HOME", "")
    return Path(given).expanduser().absolute() if given else Path.home() / ".fray"


def all_homes(root: Path | None = None) -> list[ClusterHome]:
    """The homes of all clusters that this machine knows, by name.

    Args:
        root: In place of ``$FRAY_HOME``.
    """
    folder = (root or fray_home()) / "clusters"
    if not folder.is_dir():
        return []
    names = sorted(each.name for each in folder.iterdir() if each.is_dir())
    return [ClusterHome(name, root) for name in names if _NAME.fullmatch(name)]


def find_home_by_address(address: str, root: Path | None = None) -> ClusterHome | None:
    """The home of the cluster whose controller has an address.

    Where several clusters have used the address, the one whose controller lives wins.

    Args:
        address: ``host:port`` or ``host``; the names of the loopback are one.
        root: In place of ``$FRAY_HOME``.

    Raises:
        InvalidRequestError: That is no address.
    """
    wanted = normalize_address(address)
    found = [home for home in all_homes(root) if is_same_address(home.address, wanted)]
    for home in found:
        controller = home.daemon("controller")
        if controller is not None and controller.alive:
            return home
    return found[0] if found else None


def is_same_address(written: str, wanted: str) -> bool:
    """Whether an address out of a file means the same as another.

    Args:
        written: What stands in the file; may be empty, or nonsense.
        wanted: ``host:port``.
    """
    try:
        return bool(written) and normalize_address(written) == normalize_address(wanted)
    except InvalidRequestError:  # somebody wrote into the file
        return False


def _stem(kind: DaemonKind, name: str) -> str:
    if kind == "controller":
        return kind
    if not _NAME.fullmatch(name):
        raise InvalidRequestError(
            f"a worker's name has up to 64 letters, digits, '.', '_' and '-', not {name!r}"
        )
    return f"{kind}-{name}"


def _read_daemon(path: Path, kind: DaemonKind) -> Daemon | None:
    """Reads a daemon's file; None where there is none, or none that makes sense."""
    try:
        record: Any = orjson.loads(path.read_bytes())
        return Daemon(
            kind=kind,
            name=str(record.get("name", "")) or path.stem.partition("-")[2],
            pid=int(record["pid"]),
            started=float(record["started"]),
            address=str(record["address"]),
            host=str(record.get("host", "")),
            joins=str(record.get("joins", "")),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


__all__ = [
    "DEFAULT_NAME",
    "ClusterHome",
    "Daemon",
    "DaemonKind",
    "all_homes",
    "find_home_by_address",
    "fray_home",
    "is_process",
    "is_same_address",
]
