"""Putting an agent into its process: it is the actor ``agent`` there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fray.runtime.cell import CellOptions
from fray.runtime.payload import Codec

if TYPE_CHECKING:
    from fray.cluster.worker.agent import Agent
    from fray.runtime.process import Process

AGENT_CELL = CellOptions(max_concurrency=100_000, codec=Codec.JSON)


async def serve_agent(process: Process, agent: Agent) -> None:
    """Starts an agent and lets it be called.

    Args:
        process: Where it is.
        agent: The agent, not yet started.
    """
    await agent.start()
    cell = process.host("agent/1", label="agent", options=AGENT_CELL)
    await cell.start(lambda: agent)


__all__ = ["AGENT_CELL", "serve_agent"]
