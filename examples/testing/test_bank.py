"""Whatever happens to the bank's process, a deposit that was acknowledged is not forgotten."""

from __future__ import annotations

import asyncio
import random

import pytest

from examples.testing.bank import Bank, CarefulBank
from fray.errors import CallError
from fray.testing.history import Outcome


@pytest.mark.parametrize("bank_class", [CarefulBank, Bank])
async def test_no_deposit_is_forgotten(sim_cluster, tmp_path, bank_class):
    await sim_cluster.add_hosts(2)
    bank = await bank_class.options(name="bank").remote(str(tmp_path / "bank.json"))
    dice = random.Random(sim_cluster.seed)

    async def accidents():
        for _ in range(3):
            await asyncio.sleep(dice.uniform(0, 2))
            for process in sim_cluster.processes_of(bank):
                sim_cluster.crash(process)

    async def customer():
        for _ in range(20):
            try:
                await bank.deposit.remote("ann", 1)
            except CallError:
                pass  # it may or may not have been deposited: the customer was told so
            await asyncio.sleep(dice.uniform(0, 0.5))

    await asyncio.gather(accidents(), customer())
    deposits = sim_cluster.history.of("bank", "deposit")
    acknowledged = sum(call.outcome is Outcome.RESULT for call in deposits)
    assert acknowledged <= await bank.balance.remote("ann") <= len(deposits)
