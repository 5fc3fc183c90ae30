"""zephyr: processes of this machine, as `Backend.execute` takes by itself for large files."""

from __future__ import annotations

from benchmarks.peers import data_work as work


def do(ask: work.Ask) -> None:
    from zephyr import Backend, Dataset

    dataset = Dataset.from_list(ask.files).load_jsonl()
    if ask.case == "transform":
        dataset = dataset.map(work.transform).filter(work.keep)
    else:
        dataset = dataset.group_by(work.site, work.summary)
    pattern = ask.output + "/part-{shard:05d}.jsonl"
    Backend.execute(dataset.write_jsonl(pattern), max_parallelism=ask.workers)


if __name__ == "__main__":
    work.main("fray-actors", do)
