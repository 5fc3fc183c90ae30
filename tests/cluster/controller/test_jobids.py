"""Job ids are unique for ever, and a child's begins with its parent's."""

from dataclasses import replace

from fray.cluster.controller.commands import ForgetJobs
from fray.cluster.controller.jobids import with_ids

from .world import SUCCEEDED, World


def named(world: World, *specs):
    return with_ids(specs, world.ledger.tables, lambda: "7f")


def submit(world: World, *specs) -> list[str]:
    return world.submit(*named(world, *specs))


def test_a_job_is_called_after_its_user_and_name(world):
    assert submit(world, world.spec("rl/rollout")) == ["u/rl/rollout-7f01"]


def test_a_name_may_be_used_again_also_within_a_submission(world):
    assert submit(world, world.spec("a"), world.spec("a")) == ["u/a-7f01", "u/a-7f02"]


def test_an_id_is_not_used_again_after_its_job_is_forgotten(world):
    world.host("h")
    (job,) = world.start(*named(world, world.spec("a")))
    world.tell(job, 0, SUCCEEDED)
    world.do(ForgetJobs((job,)))
    assert submit(world, world.spec("a")) == ["u/a-7f02"]


def test_a_child_is_called_after_its_parent_and_counted_by_it(world):
    world.host("h")
    (parent,) = world.start(*named(world, world.spec("rl")))
    child = world.spec("rollout", parent=parent)
    assert submit(world, child, child) == [f"{parent}/rollout-1", f"{parent}/rollout-2"]
    (grandchild,) = submit(world, world.spec("eval", parent=f"{parent}/rollout-2"))
    assert grandchild == f"{parent}/rollout-2/eval-1"
    assert submit(world, child) == [f"{parent}/rollout-3"]


def test_an_id_that_would_be_too_long_goes_on_at_the_top(world):
    world.host("h")
    (parent,) = world.start(*named(world, world.spec("p" * 150)))
    (child,) = submit(world, replace(world.spec("c" * 100), parent=parent))
    assert child == f"u/{'c' * 100}-7f02"
