"""Blobs as files, by their digest."""

from __future__ import annotations

import threading
from pathlib import Path

from fray.cluster.blobs import BlobStore, digest_of


def test_the_same_bytes_can_be_put_by_many_at_the_same_time(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    data = bytes(4 << 20)
    start = threading.Barrier(8)
    wrong: list[object] = []

    def put() -> None:
        start.wait()
        try:
            if digest_of(store.get(store.put(data))) != digest_of(data):
                wrong.append("cut short")
        except Exception as exc:
            wrong.append(exc)

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert [path.name for path in tmp_path.iterdir()] == [digest_of(data)]
    assert (tmp_path / digest_of(data)).stat().st_mode & 0o777 == 0o600
