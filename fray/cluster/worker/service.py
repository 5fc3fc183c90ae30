"""Putting an agent into its process: it is the actors ``agent`` and ``channels`` there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fray.cluster.control import AgentApi, ChannelsApi
from fray.cluster.guard import Guard
from fray.cluster.worker.rulebook import rules_of
from fray.runtime.cell import CellOptions
from fray.runtime.payload import Codec

if TYPE_CHECKING:
    from fray.cluster.security.audit import Audit
    from fray.cluster.worker.agent import Agent
    from fray.runtime.process import Process

AGENT_CELL = CellOptions(max_concurrency=100_000, codec=Codec.JSON)


async def serve_agent(process: Process, agent: Agent, audit: Audit | None = None) -> None:
    """Starts an agent and lets it be called.

    Args:
        process: Where it is.
        agent: The agent, not yet started.
        audit: Is told of each refusal.
    """
    await agent.start()
    cell = process.host("agent/1", label="agent", options=AGENT_CELL)
    guard = Guard(rules_of(agent.roster.namespace_of), audit)
    guarded = guard.around(agent, AgentApi)
    await cell.start(lambda: guarded)
    channels = process.host("channels/1", label="channels", options=AGENT_CELL)
    guarded_channels = guard.around(agent.channels, ChannelsApi)
    await channels.start(lambda: guarded_channels)


__all__ = ["AGENT_CELL", "serve_agent"]
