# The seed's example code as it is written there; what is mended says so ("Mended"). So neither
# names, nor style, nor the order of imports are this repository's.
# ruff: noqa
# fmt: off
# marin/inference/inference_pool.py
from dataclasses import dataclass
from typing import Iterator

from fray.cluster import (
    current_cluster,
    Entrypoint,
    EnvironmentConfig,
    JobGroupConfig,
    JobRequest,
    ResourceConfig,
)
from fray.rpc import FrayActorServer, fray_resolver


@dataclass
class InferenceConfig:
    model_path: str
    tpu_type: str = "v5litepod-4"
    num_servers: int = 4
    batch_size: int = 32


class InferenceActor:
    """Actor that hosts an inference model."""

    def __init__(self, model_path: str):
        import jax
        from levanter.inference import load_model

        self.model = load_model(model_path)
        self.device_count = jax.device_count()
        print(f"Loaded model on {self.device_count} devices")

    def predict(self, prompts: list[str]) -> list[str]:
        """Generate completions for a batch of prompts."""
        return self.model.generate(prompts)

    def health_check(self) -> dict:
        """Return server health status."""
        return {"status": "healthy", "devices": self.device_count}


def inference_server_main(config: InferenceConfig, server_id: int):
    """Entrypoint for inference server jobs."""
    import os

    resolver = fray_resolver()
    server = FrayActorServer(resolver, port=0)

    # Register actor with a unique name
    actor = InferenceActor(config.model_path)
    server.register(f"inference_{server_id}", actor)

    # Also register under a pool name for load balancing
    server.register("inference_pool", actor)

    print(f"Inference server {server_id} ready at {server.address}")
    server.serve()  # Blocks


def launch_inference_pool(config: InferenceConfig) -> "InferencePool":
    """Launch a pool of inference servers.

    Returns an InferencePool object that can be used to dispatch work.
    """
    cluster = current_cluster()

    # Launch all inference servers as a co-located group
    requests = [
        JobRequest(
            name=f"inference-{i}",
            resources=ResourceConfig.with_tpu(config.tpu_type),
            entrypoint=Entrypoint.from_callable(
                inference_server_main,
                args=(config, i),
            ),
            environment=EnvironmentConfig.create(extras=["tpu"]),
        )
        for i in range(config.num_servers)
    ]

    job_ids = cluster.launch_group(
        requests,
        group=JobGroupConfig(name="inference-pool", same_region=True),
    )

    # Wait for servers to be ready (poll until actors are registered)
    resolver = fray_resolver()
    import time
    for _ in range(60):  # 60 second timeout
        actors = resolver.list_actors(prefix="inference_pool")
        if len(actors) == config.num_servers:
            break
        time.sleep(1)
    else:
        raise RuntimeError("Inference servers failed to start")

    return InferencePool(job_ids, resolver, config)


class InferencePool:
    """Client for dispatching work to inference servers."""

    def __init__(self, job_ids: list, resolver, config: InferenceConfig):
        self.job_ids = job_ids
        self.resolver = resolver
        self.config = config

    def predict(self, prompts: list[str]) -> list[str]:
        """Run inference on prompts, load-balancing across servers."""
        # Get handles to all inference actors
        handles = self.resolver.lookup_all("inference_pool")

        # Batch prompts across servers
        results = []
        batch_size = self.config.batch_size

        for i in range(0, len(prompts), batch_size):
            batch = prompts[i:i + batch_size]
            # Round-robin to servers
            handle = handles[i // batch_size % len(handles)]
            results.extend(handle.predict(batch))

        return results

    def predict_async(
        self,
        prompts: Iterator[list[str]]
    ) -> Iterator[list[str]]:
        """Stream inference results for batches of prompts."""
        handles = self.resolver.lookup_all("inference_pool")
        pending_futures = []

        for i, batch in enumerate(prompts):
            handle = handles[i % len(handles)]
            future = handle.predict.remote(batch)
            pending_futures.append(future)

            # Yield completed results as they become available
            # Mended: the head is also waited for when enough is in flight, or an endless iterator
            # of prompts would be sent as a whole before the first slow batch is done.
            while pending_futures and (
                pending_futures[0].done() or len(pending_futures) >= 2 * len(handles)
            ):
                yield pending_futures.pop(0).result()

        # Drain remaining futures
        for future in pending_futures:
            yield future.result()

    def shutdown(self):
        """Terminate all inference servers."""
        cluster = current_cluster()
        for job_id in self.job_ids:
            cluster.terminate(job_id)


# Example usage
if __name__ == "__main__":
    config = InferenceConfig(
        model_path="gs://bucket/checkpoints/llama-8b",
        num_servers=4,
    )

    pool = launch_inference_pool(config)

    prompts = ["Hello, world!", "What is the capital of France?"]
    results = pool.predict(prompts)
    print(results)

    pool.shutdown()
