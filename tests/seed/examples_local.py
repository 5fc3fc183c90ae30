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


def test_switch_to_cluster():
    """Show how code switches between local and cluster."""
    # This function works identically in both modes
    # Left out: zephyr's Backend and Dataset. The pipeline is a job here, which is what they launch,
    # and its result comes back through an actor.
    def run_pipeline(data: list[dict]) -> list[dict]:
        from fray.cluster import current_cluster, Entrypoint, JobRequest
        from fray.rpc import fray_resolver, FrayActorServer

        class Results:
            def __init__(self):
                self.rows = []

            def add(self, row):
                self.rows.append(row)

            def all(self):
                return self.rows

        def pipeline(rows):
            results = fray_resolver().lookup("results")
            for row in rows:
                results.add({**row, "processed": True})

        server = FrayActorServer(fray_resolver())
        server.register("results", Results())
        cluster = current_cluster()
        job_id = cluster.launch(JobRequest("pipeline", Entrypoint.from_callable(pipeline, args=(data,))))
        cluster.wait(job_id, raise_on_failure=True)
        rows = fray_resolver().lookup("results").all()
        server.shutdown()
        return rows

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
