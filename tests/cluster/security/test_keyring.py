"""Keys, the tokens that `fray up` makes, the register of tokens, and the audit file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fray.cluster.home import ClusterHome
from fray.cluster.security.api import AttemptToken, HostTokens
from fray.cluster.security.audit import FILES, Audit
from fray.cluster.security.claims import Role, read_claims
from fray.cluster.security.keyring import LIFETIME_S, Keyring
from fray.cluster.security.register import TokenRegister
from fray.cluster.security.tokens import SignedAuthenticator
from fray.cluster.worker.tokens import AttemptTokens, WorkerToken
from fray.errors import ClusterError, InvalidRequestError
from fray.ids import AttemptId, WorkerId
from fray.runtime.auth import TokenRefused
from fray.runtime.clock import SystemClock


class SetClock(SystemClock):
    """A clock that a test sets."""

    now = 1_800_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def home(tmp_path: Path) -> ClusterHome:
    return ClusterHome("one", tmp_path)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_everything_secret_is_its_owners_only(home: ClusterHome, clock: SetClock) -> None:
    keyring = Keyring(home, clock, tls=True)
    keyring.admin_token()
    worker = keyring.worker_token_path("w1")
    keys = home.path / "keys"
    assert mode(keys) == 0o700
    secret = [home.token_path, worker, keys / "signing-key", keys / "ca-key"]
    assert [mode(path) for path in secret] == [0o600] * 4
    assert read_claims(worker.read_text().strip()).wrk == "w1"


def test_token_stays_the_same_until_half_of_its_time_is_over(
    home: ClusterHome, clock: SetClock
) -> None:
    first = Keyring(home, clock).admin_token()
    clock.now += LIFETIME_S * 0.49
    assert Keyring(home, clock).admin_token() == first
    clock.now += LIFETIME_S * 0.02
    second = Keyring(home, clock).admin_token()
    assert second != first
    assert home.token_path.read_text().strip() == second


def test_token_is_made_anew_where_it_is_of_no_use_any_more(
    home: ClusterHome, clock: SetClock
) -> None:
    keyring = Keyring(home, clock)
    first = keyring.admin_token()
    register = TokenRegister(keyring.register_path, clock)
    register.add(read_claims(first))
    register.revoke_token(read_claims(first).jti)
    second = keyring.admin_token()
    assert second != first, "it was revoked"
    home.token_path.write_text("a secret of the time before tokens were signed\n")
    third = keyring.admin_token()
    assert read_claims(third).role is Role.ADMIN
    with_tls = Keyring(home, clock, tls=True).admin_token()
    assert with_tls != third, "it has to say whom to trust"
    assert read_claims(with_tls).ca
    (home.path / "keys" / "signing-key").unlink()
    assert keyring.admin_token() != with_tls, "there is another key"


def test_everybody_who_makes_the_key_at_once_gets_the_same(
    home: ClusterHome, clock: SetClock
) -> None:
    with ThreadPoolExecutor(8) as pool:
        signers = list(pool.map(lambda _: Keyring(home, clock).signer().public, range(32)))
    assert len({*signers}) == 1


@pytest.mark.parametrize("written", ["", "abc", "00" * 31, "zz" * 32])
def test_key_that_is_none_is_told_and_not_used(
    home: ClusterHome, clock: SetClock, written: str
) -> None:
    Keyring(home, clock).signer()
    (home.path / "keys" / "signing-key").write_text(written)
    with pytest.raises(InvalidRequestError, match="holds no key; remove it"):
        Keyring(home, clock).signer()


def test_register_knows_what_was_made_and_revoked_after_a_restart(
    home: ClusterHome, clock: SetClock
) -> None:
    keyring = Keyring(home, clock)
    signer = keyring.signer()
    register = TokenRegister(keyring.register_path, clock)
    alice, bob = (signer.claims(user, Role.USER, 1000.0) for user in ("alice", "bob"))
    for claims in (alice, bob):
        register.add(claims)
    register.revoke_token(alice.jti)
    register.revoke_user("bob")
    again = TokenRegister(keyring.register_path, clock)
    assert [(report.user, report.revoked) for report in again.all()] == [
        ("alice", True),
        ("bob", True),
    ]
    door = SignedAuthenticator(signer.public, "one", clock)
    door.revoked = again.revoked
    for claims in (alice, bob):
        with pytest.raises(TokenRefused, match="revoked"):
            door.verify(signer.sign(claims))
    with pytest.raises(InvalidRequestError, match="no token 't-none'"):
        again.revoke_token("t-none")
    clock.now += 1001
    assert again.all() == []
    assert mode(keyring.register_path) == 0o600


def test_register_that_cannot_be_read_is_not_taken_for_an_empty_one(
    tmp_path: Path, clock: SetClock
) -> None:
    (tmp_path / "issued.json").write_text("{")
    with pytest.raises(ClusterError, match="says which tokens were revoked"):
        TokenRegister(tmp_path / "issued.json", clock)


def test_audit_is_bounded_and_keeps_the_newest(tmp_path: Path, clock: SetClock) -> None:
    audit = Audit(tmp_path / "audit.jsonl", clock, file_bytes_max=2000)
    for number in range(500):
        audit.refused("jobs.stop", f"reason {number}", who="eve", role="user", origin="1.2.3.4:5")
    files = sorted(tmp_path.iterdir())
    assert len(files) <= FILES
    assert all(mode(path) == 0o600 and path.stat().st_size < 2300 for path in files)
    last = audit.last(20)
    assert [line.why for line in last] == [f"reason {number}" for number in range(480, 500)]
    assert len(audit.last(10_000)) > 20
    with (tmp_path / "audit.jsonl").open("ab") as file:
        file.write(b'{"time": 1')  # half a line, of a machine that lost its power
    assert audit.last(1) == [] or audit.last(2)[-1].why == "reason 499"


def test_what_the_refused_choose_is_cut_short(tmp_path: Path, clock: SetClock) -> None:
    audit = Audit(tmp_path / "audit.jsonl", clock)
    audit.refused("x" * 10_000, "y\n" * 5000)
    (line,) = audit.last(1)
    assert (len(line.what), len(line.why)) == (200, 200)


def test_worker_uses_the_token_that_is_good_for_longer(
    tmp_path: Path, home: ClusterHome, clock: SetClock
) -> None:
    signer = Keyring(home, clock).signer()

    def token(lifetime_s: float) -> str:
        return signer.sign(signer.claims("ops", Role.WORKER, lifetime_s))

    given = tmp_path / "given"
    given.write_text(token(1000.0))
    own = WorkerToken(given, tmp_path / "kept")
    assert own.read() == given.read_text()
    own.keep(renewed := token(2000.0))
    assert own.read() == renewed
    given.write_text(newer := token(3000.0))
    assert own.read() == newer, "somebody has given it a new one"
    other = Keyring(ClusterHome("two", tmp_path), clock).signer()
    given.write_text(of_other := other.sign(other.claims("ops", Role.WORKER, 10.0)))
    assert own.read() == of_other, "it works for another cluster now"


async def test_a_task_that_has_removed_its_token_keeps_no_other_from_being_renewed(
    tmp_path: Path, home: ClusterHome, clock: SetClock
) -> None:
    signer = Keyring(home, clock).signer()
    ids = [AttemptId(f"u/job/{number}#0") for number in range(3)]

    def token(of: str) -> str:
        return signer.sign(signer.claims(of, Role.JOB, 1000.0))

    class Fleet:
        async def tokens(
            self, worker_id: WorkerId, boot_id: str, attempt_ids: list[AttemptId]
        ) -> HostTokens:
            made = tuple(AttemptToken(each, token("new")) for each in attempt_ids)
            return HostTokens(made, signer.sign(signer.claims("ops", Role.WORKER, 2000.0)))

    given = tmp_path / "given"
    given.write_text(signer.sign(signer.claims("ops", Role.WORKER, 1000.0)))
    own = WorkerToken(given, tmp_path / "kept")
    fleet: Any = Fleet()
    tokens = AttemptTokens(WorkerId("w"), lambda: "boot", lambda: fleet, own, clock)
    paths = [tmp_path / str(number) for number in range(3)]
    for attempt_id, path in zip(ids, paths, strict=True):
        await tokens.first(attempt_id, path, lambda: True, given=token("old"))
    clock.now += 600.0
    paths[0].unlink()
    await tokens.renew()
    assert [read_claims(path.read_text().strip()).sub for path in paths[1:]] == ["new", "new"]
    assert own.read() != given.read_text()
