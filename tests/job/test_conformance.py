"""All job contexts behave alike."""

from __future__ import annotations

import pytest

from fray.cluster import LocalCluster
from fray.job import FrayContext, RayContext, SyncContext, ThreadContext
from tests.job.context_conformance import ContextConformance


@pytest.fixture(scope="module", params=["sync", "thread", "thread-1", "fray", "ray"])
def context(request):
    made = {
        "sync": SyncContext,
        "thread": lambda: ThreadContext(4),
        "thread-1": lambda: ThreadContext(1),
    }
    if request.param == "fray":
        with LocalCluster() as cluster, FrayContext(cluster=cluster, max_workers=2) as context:
            yield context
    elif request.param == "ray":
        request.getfixturevalue("ray")
        yield RayContext()
    else:
        with made[request.param]() as context:
            yield context


@pytest.mark.leftovers("the workers of the module's pool come and go")
class TestContexts(ContextConformance):
    pass
