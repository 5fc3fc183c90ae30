"""For how long an actor that is stopped works on, and what it finds about the reason."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fray.cluster.worker.lease import HostLease, LeaseFence
from fray.cluster.worker.stopping import StopNote, drain_s, read_note, stop_s, write_note
from fray.errors import DeathCause, DeathKind
from fray.testing import Simulation


@given(st.floats(0, 1e6))
def test_an_actor_drains_for_its_grace_and_has_as_long_again_to_clean_up(grace_s: float):
    whole_s = stop_s(grace_s)
    assert drain_s(whole_s) == pytest.approx(grace_s, abs=1e-6)
    assert (whole_s == 0) == (grace_s == 0)
    assert whole_s == 0 or whole_s >= 2 * grace_s + 1


@given(st.floats(0, 1e6))
def test_the_drain_leaves_time_before_the_kill(whole_s: float):
    assert 0 <= drain_s(whole_s) <= max(whole_s - 1.5, 0)


def test_a_note_is_read_as_it_was_written_and_the_last_one_counts(tmp_path: Path):
    assert read_note(tmp_path).cause.message == "it was told to stop"
    for reason in ("first", "second"):
        note = StopNote(DeathCause(DeathKind.PREEMPTED, reason), 7.0)
        write_note(tmp_path, note)
        assert read_note(tmp_path) == note
    assert [path.name for path in tmp_path.iterdir()] == ["stop.json"]


async def test_a_fence_is_up_when_the_lease_has_run_out_and_not_before(
    sim: Simulation, tmp_path: Path
):
    fence = LeaseFence(tmp_path / "lease", 60.0, sim.clock)
    assert not fence()  # there is no lease: nothing is known
    lease = HostLease(tmp_path / "lease", sim.clock)
    for _ in range(3):
        lease.renew()
        await sim.clock.sleep(59.0)
        assert not fence()
    await sim.clock.sleep(2.0)
    assert fence()
    lease.renew()
    assert not fence()


def test_a_lease_that_cannot_be_written_is_told_once_and_tried_again(
    sim: Simulation, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "lease"
    lease, seen_by_tasks = HostLease(path, sim.clock), LeaseFence(path, 60.0, sim.clock)
    path.mkdir()  # nobody can write it, root neither
    for _ in range(3):
        lease.renew()
    assert caplog.text.count("the lease of this host cannot be written") == 1
    with pytest.raises(OSError, match="the host's lease cannot be written: Is a directory"):
        lease.check()  # so nothing is started
    path.rmdir()
    lease.renew()
    lease.check()
    assert not seen_by_tasks()
    assert "is written again" in caplog.text


def test_a_lease_whose_folder_is_gone_is_no_lease(sim: Simulation, tmp_path: Path):
    lease = HostLease(tmp_path / "gone" / "lease", sim.clock)
    with pytest.raises(FileNotFoundError):
        lease.renew()
