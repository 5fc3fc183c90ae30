"""Revoking tokens, by whoever shows one of them."""

from __future__ import annotations

import pytest

from fray.cluster.controller.security import Security
from fray.cluster.security.claims import Role
from fray.cluster.security.tokens import TokenSigner
from fray.errors import InvalidRequestError
from fray.runtime.calls import CURRENT_INVOCATION, Invocation
from fray.runtime.clock import SystemClock
from fray.runtime.transport import Principal


def nobody(_: Invocation) -> None:
    """Nobody hears of how the call ends."""


@pytest.fixture
def security() -> Security:
    clock = SystemClock()
    return Security(clock, signer=TokenSigner(bytes(32), "one", clock))


def ask_as(user: str, token_id: str) -> None:
    who = Principal(user, "admin", token_id=token_id)
    CURRENT_INVOCATION.set(Invocation(1, "m", None, nobody, caller=who))


async def test_token_in_use_is_revoked_only_where_that_is_said(security: Security) -> None:
    mine = (await security.create_token("ann", Role.ADMIN, 600.0, "")).report.token_id
    other = (await security.create_token("ann", Role.USER, 600.0, "")).report.token_id
    ask_as("ann", mine)
    with pytest.raises(InvalidRequestError, match=r"is made with: nothing more .* `fray up`"):
        await security.revoke_user("ann")
    with pytest.raises(InvalidRequestError, match=f"{mine} is the one"):
        await security.revoke_token(mine)
    assert not any(report.revoked for report in await security.tokens())
    assert (await security.revoke_token(other)).revoked
    await security.revoke_user("ann", True)
    assert all(report.revoked for report in await security.tokens())


async def test_administrator_revokes_others_tokens_as_before(security: Security) -> None:
    await security.create_token("bob", Role.USER, 600.0, "")
    ask_as("ann", "t-ann")
    await security.revoke_user("bob")
    assert all(report.revoked for report in await security.tokens())
