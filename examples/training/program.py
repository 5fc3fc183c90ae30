"""Processes that form one JAX program: how they meet, and how they part."""

from __future__ import annotations

import os
import socket


def meeting_point() -> str:
    """An address at which this process, the first one, can await the others."""
    host = os.environ.get("FRAY_AGENT_ADDRESS", "127.0.0.1:0").rpartition(":")[0]
    with socket.socket() as probe:
        probe.bind((host, 0))
        return f"{host}:{probe.getsockname()[1]}"


def join_program(meeting: str, processes: int, rank: int) -> None:
    """Becomes one of the processes of a JAX program; blocks until all are there.

    Args:
        meeting: The first one's `meeting_point`.
        processes: How many there are; one needs no others.
        rank: Which this is, from 0.
    """
    if processes > 1:
        import jax

        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(meeting, processes, rank)


def leave_program(processes: int) -> None:
    """Parts from the others, in good order.

    Args:
        processes: How many there are.
    """
    if processes > 1:
        import jax

        jax.distributed.shutdown()


def keep_compiled(folder: str) -> None:
    """Has JAX keep what it compiles, so that whoever comes later starts in a fraction of the time.

    Args:
        folder: Where; nothing is done where JAX cannot write there.
    """
    if "://" in folder and not folder.startswith("gs://"):
        return
    import jax

    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
