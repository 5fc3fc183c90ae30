# The seed's example code as it is written there; what is mended says so ("Mended"). So neither
# names, nor style, nor the order of imports are this repository's.
# ruff: noqa
# fmt: off
# tests/test_local_development.py
"""Example showing local development workflow."""

from fray.cluster import LocalCluster, current_cluster
from fray.rpc import LocalResolver, LocalActorServer
import os


def test_local_inference():
    """Test inference locally without a cluster."""
    # Set up local cluster
    os.environ["FRAY_CLUSTER_SPEC"] = "local"

    cluster = current_cluster()
    assert isinstance(cluster, LocalCluster)

    # Create a simple actor
    class MockInferenceActor:
        def predict(self, prompts):
            return [f"Response to: {p}" for p in prompts]

    # Register actor locally
    resolver = LocalResolver()
    server = LocalActorServer(resolver)
    server.register("inference", MockInferenceActor())

    # Look up and call actor (synchronous in local mode)
    handle = resolver.lookup("inference")
    result = handle.predict(["Hello", "World"])

    assert result == ["Response to: Hello", "Response to: World"]


def test_local_zephyr_pipeline():
    """Test Zephyr pipeline locally."""
    from zephyr import Backend, Dataset

    # Pipeline runs locally with threadpool backend
    pipeline = (
        Dataset.from_list([{"x": i} for i in range(100)])
        .map(lambda d: {"x": d["x"] * 2})
        .filter(lambda d: d["x"] > 50)
    )

    # Execute locally
    results = Backend.execute(pipeline, max_parallelism=4)
    # Mended: the seed asserts 75; 2·i > 50 for i in 0…99 leaves 74.
    assert len(results) == 74


def test_switch_to_cluster():
    """Show how code switches between local and cluster."""
    # This function works identically in both modes
    def run_pipeline(data: list[dict]) -> list[dict]:
        from zephyr import Backend, Dataset

        pipeline = (
            Dataset.from_list(data)
            .map(lambda d: {**d, "processed": True})
        )

        return Backend.execute(pipeline)

    # Locally
    os.environ["FRAY_CLUSTER_SPEC"] = "local"
    result = run_pipeline([{"x": 1}])
    assert result == [{"x": 1, "processed": True}]

    # On cluster (would connect to real cluster)
    # Mended: it is connected to one, whose address the test says.
    os.environ["FRAY_CLUSTER_SPEC"] = os.environ["TEST_CLUSTER_SPEC"]
    result = run_pipeline([{"x": 1}])
    assert result == [{"x": 1, "processed": True}]

    # And back: the connections of both stay open.
    os.environ["FRAY_CLUSTER_SPEC"] = "local"
    result = run_pipeline([{"x": 2}])
    assert result == [{"x": 2, "processed": True}]
