"""The accepting side of the websocket transport: an HTTP server with a token at the door.

``GET /fray`` leads to a link, ``GET /healthz`` says only "ok", and the process may add pages of
its own; everything else is not there. Nobody gets anything but "ok" without a token, on loopback
neither, and nobody who comes from a web page gets anything at all. Whoever has not shown a token
yet is watched by a `fray.runtime.wsgate.Gate`.

This room knows HTTP and aiohttp, which is imported when a door is opened; it does not know what
links carry.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from urllib.parse import quote, unquote

from fray.runtime.auth import TokenRefused, bearer_token
from fray.runtime.transport import Principal
from fray.runtime.wsgate import Gate, HttpLog, Refusals, WaitingRoom, format_address
from fray.runtime.wslink import WebSocketLink
from fray.runtime.wsporch import Porch

if TYPE_CHECKING:
    from aiohttp import web

    from fray.runtime.auth import Authenticator
    from fray.runtime.clock import Clock
    from fray.runtime.tls import Tls
    from fray.runtime.transport import Accept
    from fray.runtime.wsgate import OnRefused

LINK_PATH = "/fray"
HEALTH_PATH = "/healthz"

SUBPROTOCOL = "fray.1"
"""What a link speaks, as the upgrade's Sec-WebSocket-Protocol names it."""

PRINCIPAL_HEADER = "Fray-Principal"
"""In the answer to an upgrade: who the dialler is here, as ``role/user``."""

BACKLOG = 1024
"""Connections that the kernel holds for us: a cluster may come back all at once."""

SHUTDOWN_TIMEOUT_S = 1.0
"""How long a page that is being served may delay the end."""

LOOK_S_MAX = 3600.0
"""A link whose token ends later than this is looked at meanwhile."""

EXPIRED_LOOK_S = 15.0
"""How often a link is looked at whose token ends about now: clocks differ."""

Page: TypeAlias = Callable[[], Awaitable[tuple[str, bytes]]]
"""Makes one page: content type and body."""

_log = logging.getLogger(__name__)


class Door:
    """One open door; see `fray.runtime.transport.Listener`.

    Links that came through it outlive it; `shut` ends them too.
    """

    def __init__(
        self,
        accept: Accept,
        authenticator: Authenticator,
        clock: Clock,
        *,
        pages: Mapping[str, Page],
        handshake_timeout_s: float,
        strangers_max: int,
        on_refused: OnRefused | None = None,
        tls: Tls | None = None,
    ) -> None:
        """Makes one that is not open yet; see `open`.

        Args:
            accept: Called with each link; gives its handler.
            authenticator: Judges tokens.
            clock: Says when tokens end.
            pages: More to be read over HTTP, by path; they need a token too.
            handshake_timeout_s: Seconds from the connection to the end of its request.
            strangers_max: Connections that may be open without having shown a token; as many more
                may be in their TLS handshake.
            on_refused: Told of those who were refused, and why, as often as the log is.
            tls: What this side of TLS shows; None for a plain door.
        """
        self._refusals = Refusals(on_refused=on_refused)
        self._clock = clock
        self._tls = tls
        self._handshake_timeout_s = handshake_timeout_s
        self._strangers_max = strangers_max
        self._accept = accept
        self._authenticator = authenticator
        self._pages = pages
        self._address = ""
        self._server: asyncio.Server | None = None
        self._porch: Porch | None = None
        self._closed = False
        self._links: dict[WebSocketLink, None] = {}
        self._timers: dict[WebSocketLink, asyncio.TimerHandle] = {}

    @property
    def address(self) -> str:
        """See `Listener.address`."""
        return self._address

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<Door {self._address} {state}, {len(self._links)} links>"

    async def open(self, host: str, port: int) -> None:
        """Opens it.

        Args:
            host: Address to bind.
            port: Port to bind, 0 for any.

        Raises:
            OSError: The address cannot be bound.
        """
        from aiohttp import web

        @web.middleware  # marks the function, and a bound method cannot be marked
        async def guard(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            return await self._guard(request, handler)

        app = web.Application(client_max_size=1024, middlewares=[guard])
        app.router.add_get(LINK_PATH, self._link, allow_head=False)
        app.router.add_get(HEALTH_PATH, self._health)
        for path in self._pages:
            app.router.add_get(path, self._page)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=HttpLog(self._refusals),
            keepalive_timeout=self._handshake_timeout_s,
            lingering_time=0,
            shutdown_timeout=SHUTDOWN_TIMEOUT_S,
        )
        await self._runner.setup()
        assert self._runner.server is not None, "set up just now"
        self._room = WaitingRoom(
            self._runner.server,
            self._refusals,
            handshake_timeout_s=self._handshake_timeout_s,
            strangers_max=self._strangers_max,
        )
        try:
            self._address = format_address(await self._listen(host, port))
        except BaseException:
            await self._runner.cleanup()
            raise

    async def _listen(self, host: str, port: int) -> Any:
        """Lets connections come to their gates, over TLS where there is any."""
        if self._tls is None:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(self._room.gate, host, port, backlog=BACKLOG)
            self._server = server
            return server.sockets[0].getsockname()
        self._porch = Porch(
            self._room.gate,
            self._tls.server_watched(lambda reason: self._refusals.refused("somebody", reason)),
            self._refusals,
            self._clock,
            handshake_timeout_s=self._handshake_timeout_s,
            pending_max=self._strangers_max,
        )
        return await self._porch.open(host, port, BACKLOG)

    async def close(self) -> None:
        """See `Listener.close`."""
        if self._closed:
            return
        self._closed = True
        if self._server is not None:
            self._server.close()
        if self._porch is not None:
            await self._porch.close()
        self._room.close()
        self._refusals.flush()
        if not self._links:
            await self._runner.cleanup()

    async def shut(self) -> None:
        """Closes it and aborts every link that came through it."""
        await self.close()
        links = list(self._links)
        for link in links:
            link.abort()
        for link in links:
            await link.ended.wait()
        await self._runner.cleanup()

    def cut_off(self) -> None:
        """Aborts the links of those whose tokens do not count any more."""
        for link in list(self._links):
            if not self._authenticator.is_good(link.principal):
                _log.warning("cut off %s (%s): its token ended", link.remote, link.principal)
                link.abort()

    def _watch(self, link: WebSocketLink, until: float) -> None:
        """Sees to it that a link does not outlive its token."""
        if link not in self._links:
            return
        left_s = until - self._clock.time()
        if left_s <= 0:
            self.cut_off()
        delay_s = min(max(left_s, EXPIRED_LOOK_S), LOOK_S_MAX)
        timer = asyncio.get_running_loop().call_later(delay_s, self._watch, link, until)
        self._timers[link] = timer

    def _forget(self, link: WebSocketLink) -> None:
        self._links.pop(link, None)
        timer = self._timers.pop(link, None)
        if timer is not None:
            timer.cancel()

    # --- HTTP

    async def _guard(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """Around everything that is served: who may not come in gets no further."""
        from aiohttp import web

        transport = request.transport
        gate = transport.get_protocol() if transport is not None else None
        if not isinstance(gate, Gate):
            raise ConnectionResetError("the peer is gone")
        response = self._judge(gate, request)
        if response is None:
            try:
                response = await handler(request)
            except web.HTTPException as exc:
                response = self._not_served(gate, request, exc)
            except ConnectionError:
                raise
            except Exception:
                _log.exception("%s could not be served", request.path)
                response = web.Response(status=500, text="this page is broken here\n")
        response.force_close()
        return response

    def _judge(self, gate: Gate, request: web.Request) -> web.StreamResponse | None:
        """Says why a request gets no further, or None where it does."""
        headers = request.headers
        if "Origin" in headers:
            # Only browsers send it. A page on the web must not reach into somebody's cluster with
            # that somebody's network, even if it got hold of a token.
            return self._refusal(
                gate,
                403,
                f"comes from a web page ({headers['Origin'][:100]!r})",
                "requests from web pages (with an Origin header) are refused",
            )
        if request.path == HEALTH_PATH:
            return None
        given = headers.getall("Authorization", [])
        token = bearer_token(given[0]) if len(given) == 1 else None
        if token is None:
            why = "has no token" if not given else "has a malformed Authorization header"
            return self._refusal(gate, 401, why, "a bearer token is needed")
        try:
            principal = self._authenticator.verify(token)
        except TokenRefused as exc:
            return self._refusal(gate, 401, f"has a token that is not valid ({exc})", str(exc))
        except Exception as exc:
            problem = f"its token could not be judged ({type(exc).__name__})"
            return self._refusal(gate, 401, problem, "the token could not be judged")
        if principal is None:
            return self._refusal(gate, 401, "has a wrong token", "the token is not valid here")
        gate.admit(dataclasses.replace(principal, remote=gate.peer))
        return None

    def _refusal(
        self, gate: Gate, status: int, reason: str, told: str | None = None
    ) -> web.Response:
        from aiohttp import web

        self._refusals.refused(gate.peer, f"{reason} ({status})")
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
        return web.Response(status=status, text=f"{told or reason}\n", headers=headers)

    def _not_served(
        self, gate: Gate, request: web.Request, problem: web.HTTPException
    ) -> web.Response:
        """Answers somebody who was let in, and then asked for what there is not."""
        if problem.status in (404, 405):
            asked = f"{request.method[:20]} {request.path[:100]!r}"
            return self._refusal(gate, 404, f"asks for {asked}, which is not there", "not here")
        return self._refusal(gate, problem.status, (problem.text or problem.reason)[:200])

    async def _health(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        return web.Response(text="ok")

    async def _page(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        content_type, body = await self._pages[request.path]()
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _link(self, request: web.Request) -> web.StreamResponse:
        """Upgrades, hands the connection over, and stays until it is gone."""
        from aiohttp import web

        assert request.transport is not None
        gate = cast(Gate, request.transport.get_protocol())
        assert gate.principal is not None, "nobody gets here without a token"
        offered = request.headers.get("Sec-WebSocket-Protocol", "").split(",")
        if SUBPROTOCOL not in (name.strip() for name in offered):
            return self._refusal(gate, 400, f"does not offer the sub-protocol {SUBPROTOCOL!r}")
        if self._closed:
            return self._refusal(gate, 503, "this door is being closed")
        websocket = web.WebSocketResponse(protocols=(SUBPROTOCOL,), compress=False)
        websocket.headers[PRINCIPAL_HEADER] = format_principal(gate.principal)
        # From the moment that the peer may speak, its bytes are not aiohttp's.
        gate.transport.pause_reading()
        await websocket.prepare(request)
        if self._closed or gate.transport.is_closing():
            gate.transport.abort()
            return websocket
        link = WebSocketLink(
            gate.transport,
            dialled=False,
            remote=gate.peer,
            principal=gate.principal,
            on_end=self._forget,
        )
        self._links[link] = None
        if gate.principal.expires_at is not None:
            self._watch(link, gate.principal.expires_at)
        try:
            link.start(self._accept(link))
        except Exception:
            _log.exception("the link from %s could not be accepted", gate.peer)
            link.abort()
        try:
            await link.ended.wait()
        finally:
            link.abort()  # only where this task is cancelled; a link that has ended ignores it
        return websocket


def format_principal(principal: Principal) -> str:
    """A principal as the value of `PRINCIPAL_HEADER`.

    Args:
        principal: Any.
    """
    return f"{quote(principal.role, safe='')}/{quote(principal.user, safe='')}"


def parse_principal(text: str) -> Principal:
    """The inverse of `format_principal`; of no value to anybody's security.

    Args:
        text: From the peer; what is missing is left empty.
    """
    role, _, user = text[:1024].partition("/")
    return Principal(user=unquote(user), role=unquote(role))


__all__ = [
    "HEALTH_PATH",
    "LINK_PATH",
    "PRINCIPAL_HEADER",
    "SUBPROTOCOL",
    "Door",
    "Page",
    "format_principal",
    "parse_principal",
]
