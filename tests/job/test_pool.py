"""The pool's decisions."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from fray.job.orders import Order, PoolLimits
from fray.job.pool import AHEAD_TASKS_MAX, KINDS_MAX, PoolState


class Pool:
    """A `PoolState` whose orders are carried out at once, as far as the test says."""

    def __init__(self, **limits) -> None:
        self.state = PoolState(PoolLimits(**limits))
        self.now = 0.0
        self.sent: dict[int, list[int]] = {}
        self.orders = []

    def submit(self, *tasks, kind="k", retries=3):
        for task in tasks:
            self.state.submit(task, kind, retries)
        return self.decide()

    def decide(self):
        self.state.decide(self.now)
        return self.take()

    def take(self):
        orders = self.state.take_orders()
        self.orders.extend(orders)
        for order in orders:
            if order.order is Order.SEND:
                self.sent.setdefault(order.worker, []).extend(order.tasks)
        return [(o.order, o.worker, *o.tasks) for o in orders]

    def start(self, worker=1):
        self.state.started(worker, self.now)
        return self.decide()

    def end(self, worker, *tasks, seconds=1.0, waiting=None):
        self.state.heard(worker, [(task, seconds) for task in tasks], waiting, self.now)
        return self.decide()

    def learn(self, seconds, kind="k"):
        """Lets it know how long tasks of a kind take."""
        self.submit(1000, kind=kind)
        self.start()
        self.end(1, 1000, seconds=seconds)


def test_a_worker_is_asked_for_when_a_task_waits():
    pool = Pool()
    assert pool.submit(1) == [(Order.START, 1)]
    assert pool.decide() == []
    assert pool.start() == [(Order.SEND, 1, 1)]


def test_there_are_no_more_workers_than_allowed():
    pool = Pool(workers_max=2)
    assert pool.submit(1, 2, 3) == [(Order.START, 1), (Order.START, 2)]


def test_a_minimum_is_kept_without_tasks():
    assert Pool(workers_min=2).decide() == [(Order.START, 1), (Order.START, 2)]


def test_the_worker_with_the_least_to_do_is_next():
    pool = Pool(workers_max=2)
    pool.submit(1, 2)
    pool.start(1)
    assert pool.start(2) == [(Order.SEND, 2, 2)]


def test_tasks_of_unknown_length_are_not_sent_ahead():
    pool = Pool(workers_max=1)
    pool.submit(1, 2)
    assert pool.start() == [(Order.SEND, 1, 1)]


def test_short_tasks_are_sent_ahead():
    pool = Pool(workers_max=1)
    pool.learn(0.00001)
    pool.submit(*range(200))
    assert len(pool.sent[1]) == 1 + 1 + AHEAD_TASKS_MAX  # the one that was learned from, too


def test_how_long_a_function_takes_is_forgotten_when_many_others_ran_since():
    pool = Pool(workers_max=1)
    for kind in range(KINDS_MAX + 1):
        pool.submit(kind, kind=kind)
        pool.start()
        pool.end(1, kind, seconds=0.001)
    forgotten, known = KINDS_MAX + 1, KINDS_MAX + 2
    assert pool.submit(forgotten, forgotten + 10, kind=0) == [(Order.SEND, 1, forgotten)]
    pool.end(1, forgotten, seconds=0.001)
    pool.end(1, forgotten + 10, seconds=0.001)
    assert pool.submit(known, known + 20, kind=5) == [(Order.SEND, 1, known, known + 20)]


def test_long_tasks_are_not_sent_ahead():
    pool = Pool(workers_max=1)
    pool.learn(1.0)
    assert pool.submit(1, 2) == [(Order.SEND, 1, 1)]


def test_tasks_that_must_not_run_twice_are_not_sent_ahead():
    pool = Pool(workers_max=1)
    pool.learn(0.00001)
    assert pool.submit(1, 2, retries=0) == [(Order.SEND, 1, 1)]


def test_a_backlog_of_short_tasks_needs_no_further_worker():
    pool = Pool(workers_max=4)
    pool.learn(0.00001)
    assert all(order[0] is Order.SEND for order in pool.submit(*range(500)))


def test_what_waits_behind_a_long_task_is_taken_back_and_goes_elsewhere():
    pool = Pool(workers_max=2)
    pool.learn(0.001)
    pool.submit(1, 2, 3)
    assert pool.sent[1] == [1000, 1, 2, 3]
    pool.now = 1.0
    pool.state.tick(pool.now)
    assert pool.take() == [(Order.RECALL, 1, 2, 3)]
    pool.state.tick(pool.now)
    assert pool.take() == []
    assert pool.state.returned(1, [2, 3], [3]) == []
    assert pool.state.waiting == 1
    pool.learn(1.0)  # so nothing more is sent behind it


def test_a_task_that_waits_gives_its_turn_to_another():
    pool = Pool(workers_max=1)
    pool.submit(1)
    pool.start()
    assert pool.submit(2) == []
    assert pool.end(1, waiting=1) == [(Order.SEND, 1, 2)]


def test_what_ran_on_a_lost_worker_is_run_again_alone():
    pool = Pool(workers_max=1)
    pool.learn(0.00001)
    pool.submit(1, 2, 3)
    pool.state.lost(1, "gone", pool.now)
    assert pool.decide() == [(Order.START, 2)]
    assert pool.start(2) == [(Order.SEND, 2, 1)]
    assert pool.end(2, 1) == [(Order.SEND, 2, 2)]


def test_a_task_without_tries_left_fails():
    pool = Pool(workers_max=1)
    pool.submit(1, retries=1)
    pool.start(1)
    pool.state.lost(1, "gone", pool.now)
    assert pool.decide() == [(Order.START, 2)]
    pool.start(2)
    pool.state.lost(2, "gone again", pool.now)
    assert pool.take() == [(Order.FAIL, 2, 1)]
    assert pool.orders[-1].reason == "gone again"


def test_when_workers_do_not_start_tasks_fail_after_some_tries():
    pool = Pool(workers_max=4)
    pool.submit(1, 2)
    for worker in (1, 2):
        pool.state.lost(worker, "no such module", pool.now)
    pool.decide()
    assert pool.state.workers == 0  # not at once
    pool.now += 60.0
    assert pool.decide() == [(Order.START, 3)]  # and one at a time
    pool.state.lost(3, "no such module", pool.now)
    assert pool.take() == [(Order.FAIL, 0, 1, 2)]


def test_a_worker_goes_when_it_was_idle_unless_it_keeps_something():
    pool = Pool(idle_s=10.0)
    pool.submit(1)
    pool.start()
    pool.state.keeps(1, 1)
    pool.end(1, 1)
    pool.now = 20.0
    pool.state.tick(pool.now)
    assert pool.take() == []
    pool.state.keeps(1, -1)
    pool.state.tick(pool.now)
    assert pool.take() == [(Order.STOP, 1)]


def test_a_worker_whose_last_task_still_runs_is_not_idle_though_nothing_waits():
    pool = Pool(idle_s=10.0)
    pool.submit(1)
    pool.start()
    pool.now = 100.0
    pool.state.tick(pool.now)
    assert pool.take() == []
    pool.end(1, 1)
    pool.now = 200.0
    pool.state.tick(pool.now)
    assert pool.take() == [(Order.STOP, 1)]


def test_a_task_that_no_worker_has_is_cancelled_at_once():
    pool = Pool(workers_max=1)
    pool.submit(1, 2)
    pool.start()
    assert pool.state.cancel(2)
    assert not pool.state.cancel(1)
    assert pool.take() == [(Order.RECALL, 1, 1)]
    assert pool.state.returned(1, [1], [1]) == [1]
    assert pool.end(1) == []


class PoolMachine(RuleBasedStateMachine):
    """Whatever happens, each task is in one place, ends once, and none is forgotten."""

    @initialize(least=st.integers(0, 2), more=st.integers(1, 3))
    def begin(self, least, more):
        self.most = least + more
        self.state = PoolState(PoolLimits(least, self.most, idle_s=5.0))
        self.now = 0.0
        self.tasks = 0
        self.ended: set[int] = set()
        self.runs: dict[int, int] = {}
        self.retries: dict[int, int] = {}
        self.workers: dict[int, list[int]] = {}
        self.starting: set[int] = set()
        self.stopping: set[int] = set()

    def carry_out(self):
        for order in self.state.take_orders():
            if order.order is Order.START:
                assert order.worker not in self.workers
                self.workers[order.worker] = []
                self.starting.add(order.worker)
            elif order.order is Order.SEND:
                assert order.worker not in self.starting
                assert order.worker not in self.stopping
                for task in order.tasks:
                    assert all(task not in has for has in self.workers.values())
                    assert task not in self.ended
                    self.runs[task] = self.runs.get(task, 0) + 1
                self.workers[order.worker].extend(order.tasks)
            elif order.order is Order.FAIL:
                for task in order.tasks:
                    assert task not in self.ended
                    self.ended.add(task)
            elif order.order is Order.STOP:
                assert not self.workers[order.worker]
                self.stopping.add(order.worker)
            else:
                self.back(order.worker, list(order.tasks), order.tasks)

    def back(self, worker, asked, given):
        given = [t for t in given if t in self.workers[worker][1:]]
        for task in given:
            self.workers[worker].remove(task)
            self.runs[task] -= 1
        for task in self.state.returned(worker, asked, given):
            self.ended.add(task)

    @rule(kind=st.sampled_from("ab"), retries=st.integers(0, 2), count=st.integers(1, 6))
    def submit(self, kind, retries, count):
        for _ in range(count):
            self.tasks += 1
            self.retries[self.tasks] = retries
            self.state.submit(self.tasks, kind, retries)
        self.decide()

    @rule()
    def decide(self):
        self.state.decide(self.now)
        self.carry_out()

    @precondition(lambda self: self.starting)
    @rule()
    def one_starts(self):
        worker = min(self.starting)
        self.starting.discard(worker)
        if worker not in self.stopping:
            self.state.started(worker, self.now)
        self.decide()

    @precondition(lambda self: any(self.workers.values()))
    @rule(data=st.data(), seconds=st.sampled_from([0.00001, 0.01, 1.0]))
    def some_end(self, data, seconds):
        worker = data.draw(st.sampled_from([w for w, has in self.workers.items() if has]))
        number = data.draw(st.integers(1, len(self.workers[worker])))
        ended, self.workers[worker] = (
            self.workers[worker][:number],
            self.workers[worker][number:],
        )
        assert not self.ended & set(ended)
        self.ended.update(ended)
        self.state.heard(worker, [(task, seconds) for task in ended], None, self.now)
        self.decide()

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def one_is_lost(self, data):
        worker = data.draw(st.sampled_from(sorted(self.workers)))
        del self.workers[worker]
        self.starting.discard(worker)
        self.stopping.discard(worker)
        self.ended.update(self.state.lost(worker, "lost", self.now))
        self.carry_out()

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def cancel(self, data):
        task = data.draw(st.integers(1, self.tasks))
        if self.state.cancel(task):
            assert task not in self.ended
            self.ended.add(task)
        self.carry_out()

    @rule(seconds=st.sampled_from([0.01, 0.1, 10.0]))
    def time_passes(self, seconds):
        self.now += seconds
        self.state.tick(self.now)
        self.carry_out()
        self.decide()

    @invariant()
    def bounds_are_kept(self):
        if hasattr(self, "state"):
            assert self.state.workers <= self.most
            assert self.state.workers == len(self.workers)

    @invariant()
    def no_task_is_forgotten(self):
        if hasattr(self, "state"):
            out = sum(len(has) for has in self.workers.values())
            assert self.tasks == len(self.ended) + out + self.state.waiting

    @invariant()
    def nothing_runs_more_often_than_allowed(self):
        if hasattr(self, "state"):
            for task, runs in self.runs.items():
                if self.retries[task] == 0:
                    assert runs <= 1

    def teardown(self):
        """In the end, when nothing is lost any more, every task ends."""
        if not hasattr(self, "state"):
            return
        for _ in range(self.tasks * 3 + 50):
            self.now += 100.0
            for worker in sorted(self.stopping):
                del self.workers[worker]
                self.stopping.discard(worker)
                self.starting.discard(worker)
                self.state.lost(worker, "stopped", self.now)
            while self.starting:
                self.one_starts()
            for worker in list(self.workers):
                ended, self.workers[worker] = self.workers[worker], []
                self.ended.update(ended)
                self.state.heard(worker, [(task, 0.001) for task in ended], None, self.now)
            self.state.tick(self.now)
            self.decide()
        assert len(self.ended) == self.tasks


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=150, stateful_step_count=40)
