# The seed's example code as it is written there; what is mended says so ("Mended"). So neither
# names, nor style, nor the order of imports are this repository's.
# ruff: noqa
# fmt: off
# marin/rl/fray_rl_job.py
from dataclasses import dataclass, field
import os
from typing import Iterator

from fray.cluster import (
    current_cluster,
    Entrypoint,
    EnvironmentConfig,
    JobGroupConfig,
    JobRequest,
    ResourceConfig,
)
from fray.rpc import FrayActorServer, fray_resolver, ActorHandle


@dataclass
class RLConfig:
    model_path: str
    train_tpu_type: str = "v5litepod-16"
    inference_tpu_type: str = "v5litepod-4"
    num_rollout_workers: int = 4
    rollout_storage_path: str = "gs://bucket/rollouts"
    checkpoint_path: str = "gs://bucket/checkpoints"


# === Shared Actors ===

class CurriculumActor:
    """Manages training curriculum and lesson selection.

    Shared across all workers to coordinate which lessons to sample.
    """

    def __init__(self, curriculum_config: dict):
        self.config = curriculum_config
        self.step = 0
        self.lesson_stats: dict[str, dict] = {}

    def get_lesson(self) -> dict:
        """Get the next lesson to run."""
        # Select lesson based on curriculum strategy
        lesson_name = self._select_lesson()
        # Mended: a lesson carries its name, which the rollout worker reads.
        return {"name": lesson_name, **self.config["lessons"][lesson_name]}

    def report_result(self, lesson_name: str, reward: float):
        """Report results from a completed rollout."""
        if lesson_name not in self.lesson_stats:
            self.lesson_stats[lesson_name] = {"count": 0, "total_reward": 0}

        self.lesson_stats[lesson_name]["count"] += 1
        self.lesson_stats[lesson_name]["total_reward"] += reward

    def get_stats(self) -> dict:
        """Get curriculum statistics."""
        return {"step": self.step, "lessons": self.lesson_stats}

    def _select_lesson(self) -> str:
        # Implement lesson selection logic
        lessons = list(self.config["lessons"].keys())
        return lessons[self.step % len(lessons)]


class WeightCoordinator:
    """Coordinates weight synchronization between train and rollout workers.

    The training worker publishes new checkpoints; rollout workers poll
    for updates.
    """

    def __init__(self, checkpoint_path: str):
        self.checkpoint_path = checkpoint_path
        self.current_step = 0
        self.current_checkpoint: str | None = None

    def publish_checkpoint(self, step: int, path: str):
        """Called by training worker when new weights are ready."""
        self.current_step = step
        self.current_checkpoint = path

    def get_latest_checkpoint(self) -> tuple[int, str | None]:
        """Get the latest checkpoint (step, path)."""
        return self.current_step, self.current_checkpoint


# === Worker Implementations ===

def train_worker_main(config: RLConfig, run_id: str):
    """Training worker entrypoint."""
    import logging
    logging.basicConfig(level=logging.INFO)

    resolver = fray_resolver()

    # Connect to shared actors
    curriculum: ActorHandle = resolver.lookup("curriculum")
    weight_coord: ActorHandle = resolver.lookup("weight_coordinator")

    # Initialize model and optimizer
    from marin.rl.train_worker import TrainWorker
    worker = TrainWorker(config)

    step = 0
    while True:
        # Fetch rollouts from storage
        rollouts = worker.fetch_rollouts(config.rollout_storage_path)

        if not rollouts:
            import time
            time.sleep(1)
            continue

        # Train on rollouts
        metrics = worker.train_step(rollouts)
        step += 1

        # Periodically save checkpoint and notify coordinator
        if step % 100 == 0:
            ckpt_path = f"{config.checkpoint_path}/step-{step}"
            worker.save_checkpoint(ckpt_path)
            weight_coord.publish_checkpoint(step, ckpt_path)

        # Log metrics
        if step % 10 == 0:
            stats = curriculum.get_stats()
            print(f"Step {step}: loss={metrics['loss']:.4f}, curriculum={stats}")


def rollout_worker_main(config: RLConfig, worker_id: int, run_id: str):
    """Rollout worker entrypoint."""
    import logging
    logging.basicConfig(level=logging.INFO)

    resolver = fray_resolver()

    # Connect to shared actors
    curriculum: ActorHandle = resolver.lookup("curriculum")
    weight_coord: ActorHandle = resolver.lookup("weight_coordinator")

    # Initialize inference model
    from marin.rl.rollout_worker import RolloutWorker
    worker = RolloutWorker(config, worker_id)

    last_checkpoint_step = 0

    while True:
        # Check for new weights
        step, checkpoint_path = weight_coord.get_latest_checkpoint()
        if step > last_checkpoint_step and checkpoint_path:
            worker.load_checkpoint(checkpoint_path)
            last_checkpoint_step = step

        # Get lesson from curriculum
        lesson = curriculum.get_lesson()

        # Generate rollouts
        rollouts, reward = worker.generate_rollout(lesson)

        # Report results to curriculum
        curriculum.report_result(lesson["name"], reward)

        # Write rollouts to storage
        worker.write_rollouts(rollouts, config.rollout_storage_path)


def coordinator_main(config: RLConfig, run_id: str):
    """Coordinator job that hosts shared actors."""
    import logging
    logging.basicConfig(level=logging.INFO)

    resolver = fray_resolver()
    server = FrayActorServer(resolver, port=0)

    # Create and register shared actors
    curriculum_config = {"lessons": {"math": {}, "code": {}, "reasoning": {}}}
    curriculum = CurriculumActor(curriculum_config)
    server.register("curriculum", curriculum)

    weight_coord = WeightCoordinator(config.checkpoint_path)
    server.register("weight_coordinator", weight_coord)

    print(f"Coordinator ready at {server.address}")
    server.serve()  # Blocks


# === Job Orchestration ===

class RLJob:
    """Orchestrates an RL training job."""

    def __init__(self, config: RLConfig):
        self.config = config
        self.cluster = current_cluster()
        self.run_id = f"rl-{os.urandom(4).hex()}"

    def run(self) -> dict:
        """Launch all workers and wait for completion."""
        # Create job group for co-location
        group = JobGroupConfig(
            name=f"rl-{self.run_id}",
            same_region=True,
        )

        # Build job requests
        requests = []

        # 1. Coordinator (hosts shared actors)
        requests.append(
            JobRequest(
                name=f"rl-coordinator-{self.run_id}",
                resources=ResourceConfig.with_cpu(cpu=4, ram="8g"),
                entrypoint=Entrypoint.from_callable(
                    coordinator_main,
                    args=(self.config, self.run_id),
                ),
                environment=EnvironmentConfig.create(),
            )
        )

        # 2. Training worker
        requests.append(
            JobRequest(
                name=f"rl-train-{self.run_id}",
                resources=ResourceConfig.with_tpu(self.config.train_tpu_type),
                entrypoint=Entrypoint.from_callable(
                    train_worker_main,
                    args=(self.config, self.run_id),
                ),
                environment=EnvironmentConfig.create(extras=["tpu"]),
            )
        )

        # 3. Rollout workers
        for i in range(self.config.num_rollout_workers):
            requests.append(
                JobRequest(
                    name=f"rl-rollout-{self.run_id}-{i}",
                    resources=ResourceConfig.with_tpu(self.config.inference_tpu_type),
                    entrypoint=Entrypoint.from_callable(
                        rollout_worker_main,
                        args=(self.config, i, self.run_id),
                    ),
                    environment=EnvironmentConfig.create(extras=["tpu"]),
                )
            )

        # Launch all jobs as a group
        self.job_ids = self.cluster.launch_group(requests, group=group)

        # Wait for coordinator to be ready
        resolver = fray_resolver()
        import time
        for _ in range(60):
            try:
                resolver.lookup("curriculum")
                resolver.lookup("weight_coordinator")
                break
            except Exception:
                time.sleep(1)
        else:
            raise RuntimeError("Coordinator actors failed to start")

        print(f"RL job {self.run_id} started with {len(self.job_ids)} workers")

        # Monitor training worker (it's the primary job)
        train_job_id = self.job_ids[1]  # Second job is training
        result = self.cluster.monitor(train_job_id)

        return {"status": result.status, "run_id": self.run_id}

    def shutdown(self):
        """Terminate all workers."""
        for job_id in self.job_ids:
            self.cluster.terminate(job_id)


# Example usage
if __name__ == "__main__":
    config = RLConfig(
        model_path="gs://bucket/models/llama-8b",
        train_tpu_type="v5litepod-16",
        inference_tpu_type="v5litepod-4",
        num_rollout_workers=4,
    )

    job = RLJob(config)
    result = job.run()
    print(f"RL training completed: {result}")
