# The seed's example code as it is written there; what is mended says so ("Mended"). So neither
# names, nor style, nor the order of imports are this repository's.
# ruff: noqa
# fmt: off
# marin/transform/example_pipeline.py
from dataclasses import dataclass

from zephyr import Backend, Dataset


@dataclass
class TransformConfig:
    input_pattern: str
    output_path: str
    max_parallelism: int = 100
    memory_per_worker: str = "4GB"


def transform_document(doc: dict) -> dict:
    """Transform a single document."""
    return {
        "id": doc["id"],
        "text": doc["text"].lower(),
        "token_count": len(doc["text"].split()),
    }


def run_transform(config: TransformConfig) -> list[str]:
    """Run a data transformation pipeline.

    This example shows Zephyr usage - the backend is selected automatically
    based on environment. On a Fray cluster, this uses FrayBackend; locally
    it uses ThreadpoolBackend.
    """
    pipeline = (
        Dataset.from_files(config.input_pattern)
        .load_jsonl()
        .map(transform_document)
        .filter(lambda doc: doc["token_count"] > 10)
        .write_jsonl(f"{config.output_path}/output-{{shard:05d}}.jsonl.gz")
    )

    # Execute with auto-detected backend
    output_files = Backend.execute(
        pipeline,
        max_parallelism=config.max_parallelism,
        memory=config.memory_per_worker,
    )

    return output_files


# For explicit Fray backend usage:
def run_transform_on_fray(config: TransformConfig) -> list[str]:
    """Run transformation explicitly on Fray cluster."""
    from fray.cluster import current_cluster
    from zephyr.backends import FrayBackend

    pipeline = (
        Dataset.from_files(config.input_pattern)
        .load_jsonl()
        .map(transform_document)
        .write_jsonl(f"{config.output_path}/output-{{shard:05d}}.jsonl.gz")
    )

    backend = FrayBackend(
        cluster=current_cluster(),
        max_parallelism=config.max_parallelism,
        memory_per_worker=config.memory_per_worker,
    )

    return backend.execute(pipeline)
