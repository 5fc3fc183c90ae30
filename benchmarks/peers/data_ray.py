"""Ray Data, on a node that is started for this run."""

from __future__ import annotations

import shutil
import tempfile
from typing import Any

from benchmarks.peers import data_work as work


def with_site(doc: work.Doc) -> work.Doc:
    return {"id": doc["id"], "text": doc["text"], "site": work.site(doc)}


def summary(group: dict[str, Any]) -> dict[str, list[Any]]:
    rows = ({"id": i, "text": text} for i, text in zip(group["id"], group["text"], strict=True))
    found = work.summary(str(group["site"][0]), rows)
    return {name: [value] for name, value in found.items()}


def do(ask: work.Ask) -> None:
    import ray
    import ray.data

    folder = tempfile.mkdtemp(prefix="r")
    try:
        ray.init(
            address="local",
            num_cpus=ask.workers,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=folder,
        )
        ray.data.DataContext.get_current().enable_progress_bars = False
        dataset = ray.data.read_json(ask.files)
        if ask.case == "transform":
            dataset = dataset.map(work.transform).filter(work.keep)
        else:
            dataset = dataset.map(with_site).groupby("site").map_groups(summary)
        dataset.write_json(ask.output)
        ray.shutdown()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    work.main("ray", do)
