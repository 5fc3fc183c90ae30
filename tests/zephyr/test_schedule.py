"""The scheduler of shards: only what was lost runs again, and the first result counts."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zephyr.schedule import Launch, SchedulePolicy, StageSchedule

ROOM = 3
ATTEMPTS = 4


class Stage(RuleBasedStateMachine):
    """Workers that finish, die, and are told that they are late, in any order."""

    def __init__(self) -> None:
        super().__init__()
        policy = SchedulePolicy(ATTEMPTS, slow_factor=1.5, slow_least_s=3.0)
        self.schedule = StageSchedule(5, policy)
        self.now = 0.0
        self.running: list[Launch] = []
        self.results: dict[int, int] = {}
        self.deaths = [0] * 5
        self.failed = False

    @precondition(lambda self: not self.failed and len(self.running) < ROOM)
    @rule()
    def start(self) -> None:
        launch = self.schedule.next(self.now)
        if launch is None:
            return
        assert launch.task not in self.results
        assert launch.attempt not in launch.lost
        assert len(launch.lost) == self.deaths[launch.task]
        assert sum(other.task == launch.task for other in self.running) == launch.is_second
        self.running.append(launch)

    @precondition(lambda self: self.running and not self.failed)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        launch = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        others = self.schedule.done(launch.task, launch.attempt, self.now)
        assert others is not None
        assert launch.task not in self.results
        self.results[launch.task] = launch.attempt
        beaten = [each for each in self.running if each.task == launch.task]
        assert sorted(others) == sorted(each.attempt for each in beaten)
        self.running = [each for each in self.running if each.task != launch.task]

    @precondition(lambda self: self.running and not self.failed)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        launch = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.deaths[launch.task] += 1
        goes_on = self.schedule.lost(launch.task, launch.attempt)
        assert goes_on == (self.deaths[launch.task] < ATTEMPTS)
        self.failed = not goes_on

    @precondition(lambda self: self.running and not self.failed)
    @rule(data=st.data())
    def never_start(self, data: st.DataObject) -> None:
        launch = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.schedule.returned(launch.task, launch.attempt)

    @rule(seconds=st.floats(0, 5))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def counts_agree(self) -> None:
        assert self.schedule.num_done == len(self.results)
        assert self.schedule.finished == (len(self.results) == 5)
        assert self.schedule.num_running == len(self.running)

    def teardown(self) -> None:
        """Whatever has happened, workers that live finish the stage."""
        if self.failed:
            return
        for _ in range(100):
            while len(self.running) < ROOM and (launch := self.schedule.next(self.now)):
                self.running.append(launch)
            if not self.running:
                break
            launch = self.running.pop(0)
            self.schedule.done(launch.task, launch.attempt, self.now)
            self.running = [each for each in self.running if each.task != launch.task]
        assert self.schedule.finished


TestStage = Stage.TestCase
TestStage.settings = settings(max_examples=100, stateful_step_count=40)


def begun(num_tasks: int, policy: SchedulePolicy) -> StageSchedule:
    schedule = StageSchedule(num_tasks, policy)
    for _ in range(num_tasks):
        assert schedule.next(0.0) is not None
    return schedule


def test_only_the_shard_that_was_lost_runs_again() -> None:
    schedule = begun(3, SchedulePolicy())
    assert schedule.lost(1, 0)
    assert schedule.next(1.0) == Launch(1, 1, lost=(0,))
    assert schedule.next(1.0) is None


def test_a_straggler_runs_a_second_time_once_there_is_room_and_the_first_result_counts() -> None:
    schedule = begun(4, SchedulePolicy(slow_factor=2.0, slow_least_s=5.0))
    for number in range(3):
        assert schedule.done(number, 0, 4.0) == ()
    assert schedule.next(7.9) is None  # twice the median has not passed
    assert schedule.next(8.1) == Launch(3, 1, is_second=True)
    assert schedule.next(100.0) is None  # two are enough
    assert schedule.done(3, 1, 9.0) == (0,)  # nobody needs the first attempt any more
    assert schedule.done(3, 0, 9.5) is None
    assert schedule.finished


def test_a_straggler_whose_second_attempt_dies_goes_on() -> None:
    schedule = begun(2, SchedulePolicy(slow_least_s=1.0))
    schedule.done(0, 0, 1.0)
    assert schedule.next(5.0) == Launch(1, 1, is_second=True)
    assert schedule.lost(1, 1)
    assert schedule.num_running == 1
    assert schedule.done(1, 0, 6.0) == ()


def test_nothing_is_a_straggler_where_nobody_wants_to_know() -> None:
    schedule = begun(2, SchedulePolicy(speculate=False, slow_least_s=1.0))
    schedule.done(0, 0, 1.0)
    assert schedule.next(1000.0) is None


def test_an_attempt_that_never_began_is_not_held_against_its_task() -> None:
    schedule = begun(2, SchedulePolicy(attempts_max=1))
    schedule.returned(1, 0)
    assert schedule.next(1.0) == Launch(1, 1)
