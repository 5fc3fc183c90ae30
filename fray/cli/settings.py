"""What a cluster of this machine was last started with, so that `fray up` can do it again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from fray.cli.clusterfile import WorkerSettings
from fray.cluster.files import write_atomically
from fray.cluster.hosttimes import LEASE_S

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
    """

    host: str = DEFAULT_HOST
    port: int = 0
    worker: WorkerSettings | None = field(default_factory=WorkerSettings)
    lease_s: float = LEASE_S


def load_settings(home: ClusterHome) -> Settings | None:
    """What a cluster was last started with; None where that is not known.

    Args:
        home: The cluster's.
    """
    try:
        record: Any = orjson.loads((home.path / SETTINGS_FILE).read_bytes())
        worker = record["worker"]
        known = None if worker is None else WorkerSettings(worker["name"], worker["resources"])
        lease_s = float(record["lease_s"])
        return Settings(str(record["host"]), int(record["port"]), known, lease_s)
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
    known = None if worker is None else {"name": worker.name, "resources": worker.resources}
    record = {
        "host": settings.host,
        "port": settings.port,
        "worker": known,
        "lease_s": settings.lease_s,
    }
    write_atomically(home.path / SETTINGS_FILE, orjson.dumps(record))


__all__ = ["DEFAULT_HOST", "Settings", "load_settings", "save_settings"]
