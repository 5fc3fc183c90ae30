"""Accounts that must not forget a deposit, kept by an actor that may be restarted."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import fray

SAVE_S = 0.05
"""Saving takes so long: it stands for a database."""


@fray.actor(max_restarts=-1)
class Bank:
    """Keeps balances, in memory and in a file.

    Args:
        path: The file; on a disk that outlives the actor's host.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.balances: dict[str, int] = {}
        if self.path.exists():
            self.balances = json.loads(self.path.read_text())

    async def deposit(self, owner: str, amount: int) -> int:
        """Adds to a balance and gives the new one."""
        self.balances[owner] = self.balances.get(owner, 0) + amount
        saving = asyncio.ensure_future(self._save())  # the bug: it answers before this is done
        self.saving = saving
        return self.balances[owner]

    async def balance(self, owner: str) -> int:
        """What somebody has."""
        return self.balances.get(owner, 0)

    async def _save(self) -> None:
        text = json.dumps(self.balances)
        await asyncio.sleep(SAVE_S)
        self.path.write_text(text)


@fray.actor(max_restarts=-1)
class CarefulBank(Bank):
    """The same without the bug."""

    async def deposit(self, owner: str, amount: int) -> int:
        """Adds to a balance; says so when it is saved."""
        self.balances[owner] = self.balances.get(owner, 0) + amount
        await self._save()
        return self.balances[owner]
