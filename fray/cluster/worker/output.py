"""Standard output and error of jobs that run in threads of this process (the design's D7).

A process has one ``sys.stdout``. While at least one job is routed, a proxy stands in its place (and
in that of ``sys.stderr``) that looks at a context variable at each write: inside the job's context
it writes to the job's log, anywhere else to the stream that stood there before. When the last route
ends, the streams that stood there before stand there again.

What belongs to a job's context, without any patching:

- its thread, and all that runs on it;
- asyncio tasks created there, and ``asyncio.to_thread``: they copy their context;
- calls on fray's own thread pools, which carry it.

What does not, and so writes where the process writes:

- a ``threading.Thread`` that the job starts, and executors: Python (before 3.14's
  ``thread_inherit_context``) starts threads with an empty context. ``threading.Thread(target=
  contextvars.copy_context().run, args=(f,))`` takes it along. Guessing whose thread it is would
  put one job's output into another's log;
- native code and child processes, which write to descriptor 1. ``subprocess.run(…,
  stdout=sys.stdout)`` does reach the log, for ``fileno()`` is the log's;
- loggers whose handlers took hold of ``sys.stderr`` before: they keep on writing there. A handler
  that takes hold of a proxy keeps working when the proxy is gone from ``sys``: it passes on.

A job for which that is not enough asks for a process.
"""

from __future__ import annotations

import io
import sys
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, TextIO, cast

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from fray.cluster.worker.logs import LogWriter

    StreamName = Literal["stdout", "stderr"]

_LINE_CHARS_MAX = 8192
"""A line that grows longer than this is written in pieces."""

_install_lock = threading.Lock()
"""Guards the exchange of ``sys.stdout`` and ``sys.stderr``, which are this process's."""


@contextmanager
def routed(log: LogWriter) -> Generator[None]:
    """Sends what this context writes to standard output and error to a log.

    Lines are written whole, so that threads of one job do not mix within a line; an unfinished line
    is written at a flush or at the end. Routes nest: the inner one holds. The log is not closed.

    Args:
        log: Where to.
    """
    route = _Route(log)
    token = _current.set(route)
    proxies = _install()
    try:
        yield
    finally:
        _uninstall(proxies)
        route.flush_all()
        _current.reset(token)


class _Route:
    """A job's log, with the unfinished lines of its threads.

    ``print`` writes a line in several pieces, so each thread has an unfinished line of its own, for
    each stream.
    """

    def __init__(self, log: LogWriter) -> None:
        self.log = log
        self._lock = threading.RLock()  # a signal handler or finalizer may print during a print
        self._unfinished: dict[tuple[StreamName, int], str] = {}

    def write(self, name: StreamName, text: str) -> None:
        key = (name, threading.get_ident())
        with self._lock:
            text = self._unfinished.pop(key, "") + text
            end = text.rfind("\n") + 1
            if len(text) - end > _LINE_CHARS_MAX:
                end = len(text)
            if end < len(text):
                self._unfinished[key] = text[end:]
            if end:
                self._append(text[:end])

    def flush(self, name: StreamName) -> None:
        """Writes the calling thread's unfinished line."""
        with self._lock:
            text = self._unfinished.pop((name, threading.get_ident()), "")
            if text:
                self._append(text)

    def flush_all(self) -> None:
        """Writes what any thread has not finished."""
        with self._lock:
            texts = list(self._unfinished.values())
            self._unfinished.clear()
            for text in texts:
                self._append(text)

    def _append(self, text: str) -> None:
        self.log.append(text.encode("utf-8", "backslashreplace"))


_current: ContextVar[_Route | None] = ContextVar("fray_output_route", default=None)


class _RoutedStream(io.TextIOBase):
    """Stands in for ``sys.stdout`` or ``sys.stderr``."""

    def __init__(self, name: StreamName, original: TextIO | None) -> None:
        super().__init__()
        self.stream_name: StreamName = name
        self.original = original
        self.beneath = original if original is not None else cast("TextIO", _Nowhere())
        self.routes = 0

    def __repr__(self) -> str:
        return f"<fray {self.stream_name}, {self.routes} routes, else {self.beneath!r}>"

    def __getattr__(self, name: str) -> Any:
        # Whatever else the stream beneath can do: reconfigure(), IPython's own methods, ...
        if name == "beneath":  # not there before __init__
            raise AttributeError(name)
        return getattr(self.beneath, name)

    def write(self, text: str, /) -> int:
        """See `io.TextIOBase.write`."""
        route = _current.get()
        if route is None:
            return self.beneath.write(text)
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        route.write(self.stream_name, text)
        return len(text)

    def writelines(self, lines: Iterable[str], /) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """See `io.IOBase.writelines`."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """See `io.IOBase.flush`."""
        route = _current.get()
        if route is None:
            self.beneath.flush()
        else:
            route.flush(self.stream_name)

    def fileno(self) -> int:
        """See `io.IOBase.fileno`: the log's, inside a job."""
        route = _current.get()
        if route is None:
            return self.beneath.fileno()
        route.flush(self.stream_name)
        return route.log.fileno()

    def isatty(self) -> bool:
        """See `io.IOBase.isatty`: a log is none."""
        return _current.get() is None and self.beneath.isatty()

    def readable(self) -> bool:
        """See `io.IOBase.readable`."""
        return False

    def writable(self) -> bool:
        """See `io.IOBase.writable`."""
        return True

    def close(self) -> None:
        """Does nothing: neither a job nor the garbage collector closes the process's stream."""

    @property
    def closed(self) -> bool:
        """See `io.IOBase.closed`."""
        return _current.get() is None and self.beneath.closed

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """See `io.TextIOBase.encoding`."""
        return self.beneath.encoding if _current.get() is None else "utf-8"

    @property
    def errors(self) -> str | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """See `io.TextIOBase.errors`."""
        return self.beneath.errors if _current.get() is None else "backslashreplace"

    @property
    def line_buffering(self) -> bool:
        """See `io.TextIOWrapper.line_buffering`."""
        return True

    @property
    def buffer(self) -> Any:
        """See `io.TextIOBase`: what takes bytes."""
        if _current.get() is None:
            return self.beneath.buffer
        return _RoutedBuffer(self)


class _RoutedBuffer(io.BufferedIOBase):
    """What a job finds as ``sys.stdout.buffer``: bytes, written at once."""

    def __init__(self, stream: _RoutedStream) -> None:
        super().__init__()
        self._stream = stream

    def write(self, data: Any, /) -> int:
        """See `io.BufferedIOBase.write`."""
        route = _current.get()
        if route is None:
            return self._stream.beneath.buffer.write(data)
        self._stream.flush()
        view = memoryview(data)
        route.log.append(view.tobytes())
        return view.nbytes

    def flush(self) -> None:
        """See `io.IOBase.flush`."""
        self._stream.flush()

    def fileno(self) -> int:
        """See `io.IOBase.fileno`."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """See `io.IOBase.isatty`."""
        return self._stream.isatty()

    def writable(self) -> bool:
        """See `io.IOBase.writable`."""
        return True


class _Nowhere(io.TextIOBase):
    """Beneath a proxy where the process has no such stream (a daemon that closed it)."""

    def write(self, text: str, /) -> int:
        """See `io.TextIOBase.write`: forgets it, as `print` does without a stream."""
        return len(text)


def _install() -> list[_RoutedStream]:
    """Puts the proxies in place, or finds them there. Returns them, to be given back."""
    proxies: list[_RoutedStream] = []
    names: tuple[StreamName, ...] = ("stdout", "stderr")
    with _install_lock:
        for name in names:
            stream = getattr(sys, name)
            if not isinstance(stream, _RoutedStream):
                stream = _RoutedStream(name, stream)
                setattr(sys, name, stream)
            stream.routes += 1
            proxies.append(stream)
    return proxies


def _uninstall(proxies: list[_RoutedStream]) -> None:
    with _install_lock:
        for proxy in proxies:
            proxy.routes -= 1
            # Somebody may have put another stream in its place meanwhile (a test runner, a
            # notebook); what they put there stays, and may pass on to the proxy.
            if proxy.routes == 0 and getattr(sys, proxy.stream_name) is proxy:
                setattr(sys, proxy.stream_name, proxy.original)


__all__ = ["routed"]
