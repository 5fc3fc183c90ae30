# The seed's example code as it is written there; what is mended says so ("Mended"). So neither
# names, nor style, nor the order of imports are this repository's.
# ruff: noqa
# fmt: off
# experiments/training_example.py
from fray.cluster import (
    current_cluster,
    Entrypoint,
    EnvironmentConfig,
    JobRequest,
    ResourceConfig,
)


def train_model():
    """Training entrypoint - runs on TPU pod."""
    import jax
    from levanter.main.train_lm import main as train_lm

    # JAX will automatically discover TPU devices
    print(f"Running on {jax.device_count()} devices")
    train_lm()  # Uses config from environment/args


def launch_training(
    name: str,
    tpu_type: str = "v5litepod-16",
    num_slices: int = 1,
):
    """Launch a training job on the cluster.

    Args:
        name: Job name for tracking
        tpu_type: TPU accelerator type
        num_slices: Number of TPU slices for multi-slice training
    """
    cluster = current_cluster()

    job_id = cluster.launch(
        JobRequest(
            name=f"train-{name}",
            resources=ResourceConfig.with_tpu(tpu_type, slice_count=num_slices),
            entrypoint=Entrypoint.from_callable(train_model),
            environment=EnvironmentConfig.create(
                extras=["tpu"],
                env_vars={
                    "WANDB_PROJECT": "marin",
                    "WANDB_RUN_NAME": name,
                },
            ),
        )
    )

    # Wait for completion and get final status
    result = cluster.wait(job_id, raise_on_failure=True)
    print(f"Training completed with status: {result.status}")
    return result


# Usage from executor
if __name__ == "__main__":
    launch_training("llama-8b-baseline", tpu_type="v5litepod-64")
