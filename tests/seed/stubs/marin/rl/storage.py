"""Where the workers meet. ``gs://`` paths lie in the directory that STUB_BUCKETS names."""

import json
import os
import uuid
from pathlib import Path
from typing import Any


def directory(path: str) -> Path:
    if path.startswith("gs://"):
        path = os.path.join(os.environ["STUB_BUCKETS"], path.removeprefix("gs://"))
    found = Path(path)
    found.mkdir(parents=True, exist_ok=True)
    return found


def write(path: str, name: str, value: Any) -> None:
    """Appears whole or not at all."""
    folder = directory(path)
    partial = folder / f".{uuid.uuid4().hex}"
    partial.write_text(json.dumps(value))
    partial.rename(folder / name)


def read(path: str, name: str) -> Any:
    return json.loads((directory(path) / name).read_text())


def names(path: str) -> list[str]:
    return sorted(n for n in os.listdir(directory(path)) if not n.startswith("."))
