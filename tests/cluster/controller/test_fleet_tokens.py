"""Tokens of attempts travel with the orders: no launch waits for another round trip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fray.cluster.controller.book import Book
from fray.cluster.controller.commands import ObservedAttempt, RegisterWorker, ReportAttempts
from fray.cluster.controller.fleet import Fleet
from fray.cluster.controller.journal import MemoryDisk, MemoryStore
from fray.cluster.controller.scheduler import command_of
from fray.cluster.controller.security import Security
from fray.cluster.controller.specs import WorkerSpec
from fray.cluster.scheduling.planner import plan
from fray.cluster.security.claims import read_claims
from fray.cluster.security.tokens import TokenSigner
from fray.cluster.worker.hosts import host_resources
from fray.cluster.worker.tokens import AttemptTokens, WorkerToken
from fray.ids import AttemptId, WorkerId
from fray.runtime.clock import SystemClock

from .test_tree import submission
from .world import BUILDING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fray.cluster.control import Orders

CAPACITY = host_resources('{"cpu": 4, "memory": "8g", "disk": "8g"}').capacity
W = WorkerId("w")


class Desk:
    """A controller's fleet that signs, and its journal."""

    def __init__(self, book: Book, disk: MemoryDisk) -> None:
        clock = SystemClock()
        self.book, self.disk = book, disk
        security = Security(clock, signer=TokenSigner(bytes(32), "one", clock))
        self.fleet = Fleet(book, clock, None, security)

    async def assigned(self) -> Orders:
        await self.fleet.register(RegisterWorker(WorkerSpec(W, "127.0.0.1:1", CAPACITY), "boot"))
        await self.book.commit(submission(1))
        await self.book.commit(command_of(plan(self.book.ledger.view(), 0.0)))
        return await self.fleet.orders(W, "boot", 0, 0.0)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    disk = MemoryDisk()
    book = await Book.open(MemoryStore(disk), SystemClock())
    yield Desk(book, disk)
    await book.close()


async def test_a_new_attempt_s_token_comes_with_the_orders_and_is_in_no_journal(desk: Desk):
    orders = await desk.assigned()
    assert orders.desired is not None
    (spec,) = orders.desired.attempts
    (token,) = orders.tokens
    assert token.attempt_id == spec.attempt_id
    assert read_claims(token.token).att == spec.attempt_id
    signature = token.token.rpartition(".")[2]
    assert desk.disk.entries
    assert not any(signature.encode() in entry.command for entry in desk.disk.entries)
    assert signature not in repr(orders), "what is logged or shown of orders"


async def test_an_attempt_that_its_host_has_told_of_gets_no_second_token(desk: Desk):
    orders = await desk.assigned()
    assert orders.desired is not None
    seen = ObservedAttempt(orders.desired.attempts[0].attempt_id, BUILDING)
    report = ReportAttempts(W, "boot", orders.desired.generation, (seen,))
    assert not (await desk.fleet.report(report)).tokens
    assert not (await desk.fleet.orders(W, "boot", 0, 0.0)).tokens


async def test_no_other_life_of_the_host_gets_a_token(desk: Desk):
    await desk.assigned()
    assert not (await desk.fleet.orders(W, "another boot", 0, 0.0)).tokens


async def test_a_host_does_not_ask_for_a_token_that_came_with_its_orders(
    desk: Desk, tmp_path: Path
):
    (token,) = (await desk.assigned()).tokens

    def nobody() -> Any:
        raise AssertionError("the controller was asked")

    own = WorkerToken(tmp_path / "given", tmp_path / "kept")
    tokens = AttemptTokens(W, lambda: "boot", nobody, own, SystemClock())
    path = tmp_path / "token"
    await tokens.first(AttemptId(token.attempt_id), path, lambda: True, given=token.token)
    assert path.read_text().strip() == token.token
    assert path.stat().st_mode & 0o777 == 0o600
