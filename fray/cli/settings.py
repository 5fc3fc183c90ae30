"""What a cluster of this machine was last started with, so that `fray up` can do it again."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from fray.cli.clusterfile import LogSettings, TlsSettings, WorkerSettings
from fray.cluster.files import write_atomically
from fray.cluster.hosttimes import LEASE_S
from fray.cluster.retention import RetentionPolicy
from fray.cluster.shelflimits import ShelfLimits

if TYPE_CHECKING:
    from fray.cluster.home import ClusterHome

DEFAULT_HOST = "127.0.0.1"
SETTINGS_FILE = "up.json"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a cluster of this machine was last started with.

    Attributes:
        host: Where the controller listens.
        port: Likewise: where everybody who knows the cluster looks for it. 0 for not yet known.
        worker: The worker that comes with it; None for none.
        lease_s: How long its hosts go on without hearing from the controller.
        retention: How long ended jobs are remembered.
        logs: Where logs of jobs are archived, and how much of them.
        tls: What was said of TLS.
        environments: How much hosts keep of environments that are not in use.
    """

    host: str = DEFAULT_HOST
    port: int = 0
    worker: WorkerSettings | None = field(default_factory=WorkerSettings)
    lease_s: float = LEASE_S
    retention: RetentionPolicy = field(default_factory=RetentionPolicy)
    logs: LogSettings = field(default_factory=LogSettings)
    tls: TlsSettings = field(default_factory=TlsSettings)
    environments: ShelfLimits = field(default_factory=ShelfLimits)


def load_settings(home: ClusterHome) -> Settings | None:
    """What a cluster was last started with; None where that is not known.

    Args:
        home: The cluster's.
    """
    try:
        record: Any = orjson.loads((home.path / SETTINGS_FILE).read_bytes())
        worker = record["worker"]
        known = worker and WorkerSettings(worker["name"], worker["resources"], worker["task_user"])
        lease_s = float(record["lease_s"])
        retention = RetentionPolicy(**record["retention"])
        logs = LogSettings(**record["logs"])
        tls = TlsSettings(bool(record["insecure_no_tls"]), tuple(record["certificate"]))
        where = str(record["host"]), int(record["port"])
        kept = ShelfLimits(**record["environments"])
        return Settings(*where, known, lease_s, retention, logs, tls, kept)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save_settings(home: ClusterHome, settings: Settings) -> None:
    """Remembers what a cluster was started with.

    Args:
        home: The cluster's.
        settings: What it is.

    Raises:
        OSError: They cannot be written.
    """
    worker = settings.worker
    known = worker and {
        "name": worker.name,
        "resources": worker.resources,
        "task_user": worker.task_user,
    }
    record = {
        "host": settings.host,
        "port": settings.port,
        "worker": known,
        "lease_s": settings.lease_s,
        "retention": settings.retention,
        "environments": settings.environments,
        "logs": asdict(settings.logs),
        "insecure_no_tls": settings.tls.insecure,
        "certificate": list(settings.tls.certificate),
    }
    write_atomically(home.path / SETTINGS_FILE, orjson.dumps(record))


__all__ = [
    "DEFAULT_HOST",
    "SETTINGS_FILE",
    "Settings",
    "TlsSettings",
    "load_settings",
    "save_settings",
]
