"""Actors of contexts of one process: names, constructors, the context of their code."""

from __future__ import annotations

import threading

import pytest

from fray.errors import NameTakenError
from fray.job import SyncContext, ThreadContext, get_default_job_ctx

pytestmark = pytest.mark.timeout(20)


@pytest.fixture(params=["sync", "threads", "one thread"])
def context(request):
    made = {
        "sync": SyncContext,
        "threads": lambda: ThreadContext(4),
        "one thread": lambda: ThreadContext(1),
    }
    with made[request.param]() as context:
        yield context


class Part:
    def value(self):
        return 1


class Whole:
    """Makes its part by itself."""

    def __init__(self):
        self.context = get_default_job_ctx()
        self.part = self.context.create_actor(Part, name="part", get_if_exists=True)

    def value(self):
        return get_default_job_ctx().get(self.part.value.remote())

    def has_one_context(self):
        return self.context is get_default_job_ctx()

    def __getstate__(self):
        raise TypeError("an actor stays where it is")


def test_the_constructor_of_a_named_actor_makes_another(context):
    whole = context.create_actor(Whole, name="whole")
    assert context.get(whole.value.remote()) == 1
    part = context.create_actor(Part, name="part", get_if_exists=True)
    assert context.get(part.value.remote()) == 1


def test_an_actors_code_has_the_context_that_made_it(context):
    whole = context.create_actor(Whole)
    assert context.get(whole.has_one_context.remote())


def make_part():
    return get_default_job_ctx().create_actor(Part, name="another", get_if_exists=True) and 5


class Keeper:
    def __init__(self, value):
        self.kept = value

    def value(self):
        return self.kept


def test_an_argument_of_a_named_actor_may_need_another_one(context):
    keeper = context.create_actor(Keeper, context.run(make_part), name="keeper")
    assert context.get(keeper.value.remote()) == 5


class Fails:
    def __init__(self):
        raise ValueError("no")


def test_a_name_is_free_again_when_a_constructor_has_failed(context):
    with pytest.raises(ValueError, match="no"):
        context.create_actor(Fails, name="name")
    context.create_actor(Part, name="name")


class Recursive:
    def __init__(self):
        get_default_job_ctx().create_actor(Recursive, name="recursive", get_if_exists=True)


def test_a_constructor_that_asks_for_its_own_actor_is_told(context):
    with pytest.raises(NameTakenError, match="constructor of the actor 'recursive' asks for"):
        context.create_actor(Recursive, name="recursive")


BEGUN, GO_ON, MADE = threading.Event(), threading.Event(), []


class Slow:
    def __init__(self):
        MADE.append(self)
        BEGUN.set()
        assert GO_ON.wait(10)

    def value(self):
        return len(MADE)


def test_whoever_wants_an_actor_that_is_being_made_waits_for_it():
    context = ThreadContext(1)
    found = []

    def ask():
        found.append(context.create_actor(Slow, name="slow", get_if_exists=True))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert BEGUN.wait(10)
    with pytest.raises(NameTakenError):
        context.create_actor(Slow, name="slow")
    GO_ON.set()
    for thread in threads:
        thread.join()
    assert len(MADE) == 1
    assert found == [found[0]] * 3
