"""Arrays and a little metadata as bytes, and back. No pickle: rollouts and weights are data."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

_META = "meta.json"


def pack(arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> bytes:
    """Packs named arrays and JSON-able metadata into one ``.npz``."""
    buffer = io.BytesIO()
    members: dict[str, Any] = dict(arrays)
    members[_META] = np.frombuffer(json.dumps(dict(meta)).encode(), dtype=np.uint8)
    np.savez(buffer, **members)
    return buffer.getvalue()


def unpack(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reverses `pack`.

    Raises:
        zipfile.BadZipFile: The data is cut short or damaged (every member has a CRC).
    """
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    meta = json.loads(arrays.pop(_META).tobytes())
    return arrays, meta
