"""Generalised advantage estimation that tells failing from running out of time."""

from __future__ import annotations

import numpy as np


def generalised_advantages(
    rewards: np.ndarray,
    values: np.ndarray,
    next_values: np.ndarray,
    terminated: np.ndarray,
    truncated: np.ndarray,
    discount: float,
    trace_decay: float,
) -> np.ndarray:
    """Advantages of the actions taken (Schulman et al. 2015, arXiv:1506.02438).

    An episode that *terminated* is worth nothing afterwards. One that was *truncated* would have
    gone on, so its last step counts the value of the state in which it was cut off. Both end the
    trace: the next row belongs to another episode. The last row bootstraps likewise.

    Args:
        rewards: Shape ``(steps, envs)``, as are all of the following.
        values: The critic's value of the state before each step.
        next_values: Of the state after each step, before any reset.
        terminated: Whether the step ended the episode by failure.
        truncated: Whether the step ended the episode by the time limit.
        discount: Gamma.
        trace_decay: Lambda.

    Returns:
        Shape ``(steps, envs)``, ``float32``. Adding `values` gives the critic's targets.
    """
    alive = 1.0 - terminated.astype(np.float32)
    unbroken = 1.0 - (terminated | truncated).astype(np.float32)
    errors = rewards + discount * next_values * alive - values
    advantages = np.zeros_like(errors, dtype=np.float32)
    following = np.zeros(errors.shape[1:], dtype=np.float32)
    for step in reversed(range(len(errors))):
        following = errors[step] + discount * trace_decay * unbroken[step] * following
        advantages[step] = following
    return advantages
