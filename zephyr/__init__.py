"""zephyr: pipelines over files in shards, on threads, processes or a fray cluster.

    pipeline = (
        Dataset.from_files("in/*.jsonl.gz")
        .load_jsonl()
        .filter(lambda doc: len(doc["text"]) > 100)
        .write_jsonl("out/data-{shard:05d}.jsonl.zst")
    )
    paths = Backend.execute(pipeline)

Nothing is done before `Backend.execute`. How it works, each module knowing those above it:

    keys, operations, files, steps         what is asked for, in terms of plain data
    dataset                                the user's way to say it
    plan, schedule                         pure: stages, and which task is started when
    readers, writers, scratch, spill, shuffle
                                           files and storage, in bounded memory
    batching, grouping, flow, task, worker what a worker does with a shard
    executors, staff, processes, actors    who the workers are
    driver, backends                       a run of a plan, and how to ask for it
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zephyr.backends import (
        Backend,
        ContextBackend,
        ExecutionHint,
        FrayBackend,
        ProcessBackend,
        RayBackend,
        ThreadpoolBackend,
        get_backend,
    )
    from zephyr.dataset import Dataset
    from zephyr.errors import PipelineError, ScratchError, ShardLostError
    from zephyr.readers import load_file, load_jsonl, load_parquet

_MODULES = {
    "Backend": "backends",
    "ContextBackend": "backends",
    "Dataset": "dataset",
    "ExecutionHint": "backends",
    "FrayBackend": "backends",
    "PipelineError": "errors",
    "ProcessBackend": "backends",
    "RayBackend": "backends",
    "ScratchError": "errors",
    "ShardLostError": "errors",
    "ThreadpoolBackend": "backends",
    "get_backend": "backends",
    "load_file": "readers",
    "load_jsonl": "readers",
    "load_parquet": "readers",
}
"""What is imported at its first use: workers are to start at once."""


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"zephyr.{_MODULES[name]}")
    except ModuleNotFoundError as exc:
        if exc.name not in ("isal", "msgspec", "zstandard"):
            raise
        needs = "zephyr needs what the extra has: pip install 'fray-actors[zephyr]'"
        raise ImportError(f"{needs} ({exc})") from exc
    value = globals()[name] = getattr(module, name)
    return value


__all__ = [
    "Backend",
    "ContextBackend",
    "Dataset",
    "ExecutionHint",
    "FrayBackend",
    "PipelineError",
    "ProcessBackend",
    "RayBackend",
    "ScratchError",
    "ShardLostError",
    "ThreadpoolBackend",
    "get_backend",
    "load_file",
    "load_jsonl",
    "load_parquet",
]
