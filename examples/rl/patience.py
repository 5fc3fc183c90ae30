"""Calls that outlast a restart of the actor that is called. Knows nothing of fray."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

RETRY_PAUSE_S = 0.2


class Patient:
    """A handle whose calls outlast a restart of its actor.

    The methods of curriculum and weight coordinator may be repeated: results carry the rollout that
    they are about, and all else is a question or says what the newest state is. So a call whose
    fate is unknown is simply made again.

    Args:
        handle: Has the actor's methods; calling one blocks.
        gone: The exceptions that say that the actor did not answer, as opposed to its own errors.
        patience_s: After so many seconds without an answer the last exception is raised.
    """

    def __init__(self, handle: Any, gone: tuple[type[Exception], ...], patience_s: float) -> None:
        self._handle = handle
        self._gone = gone
        self._patience_s = patience_s

    def __getattr__(self, method_name: str) -> Callable[..., Any]:
        if method_name.startswith("_"):
            raise AttributeError(method_name)
        method = getattr(self._handle, method_name)

        def call(*args: Any, **kwargs: Any) -> Any:
            give_up_at = time.monotonic() + self._patience_s
            while True:
                try:
                    return method(*args, **kwargs)
                except self._gone:
                    if time.monotonic() >= give_up_at:
                        raise
                time.sleep(RETRY_PAUSE_S)

        return call
