"""The transport of production: one websocket per pair of processes, over aiohttp.

`WebSocketTransport` implements `fray.runtime.transport.Transport`. aiohttp does what HTTP is needed
for, on both sides: the upgrade and all before it. From then on the connection is a
`fray.runtime.wslink.WebSocketLink`. The accepting side is `fray.runtime.wsdoor.Door`; the dialling
side is here.

aiohttp is imported when somebody listens or dials, not with this module: it takes a third of the
time that a small program needs to start.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
from typing import TYPE_CHECKING, Any

from fray.errors import ConnectionRefused
from fray.runtime.auth import check_token
from fray.runtime.wsdoor import (
    LINK_PATH,
    PRINCIPAL_HEADER,
    SUBPROTOCOL,
    Door,
    Page,
    parse_principal,
)
from fray.runtime.wsgate import STRANGERS_MAX
from fray.runtime.wslink import WebSocketLink

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import aiohttp

    from fray.runtime.auth import Authenticator
    from fray.runtime.clock import Clock
    from fray.runtime.tls import Tls
    from fray.runtime.transport import Accept, Link, Listener
    from fray.runtime.wsgate import OnRefused

HANDSHAKE_TIMEOUT_S = 10.0
"""How long somebody who connects may take to say who they are."""

DIAL_TIMEOUT_S = 10.0
"""How long whoever is dialled may take until the link is open."""

TLS_PROBE_S = 2.0
"""How long it is tried whether a port that hung up speaks TLS, to say so."""

_REASON_BYTES_MAX = 512
_KEY_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


class WebSocketTransport:
    """See `fray.runtime.transport.Transport`.

    It belongs to the loop on which it is first used. Many can live in one process.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        authenticator: Authenticator,
        token: str | Callable[[str], str],
        token_origin: str = "this process's token",
        pages: Mapping[str, Page] | None = None,
        handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S,
        dial_timeout_s: float = DIAL_TIMEOUT_S,
        strangers_max: int = STRANGERS_MAX,
        on_refused: OnRefused | None = None,
        tls: Tls | None = None,
    ) -> None:
        """Makes one that is neither listening nor connected.

        Args:
            clock: Gives the nonces of the upgrades.
            authenticator: Judges the tokens of those who connect to us.
            token: What we show to those to whom we connect, or what gives it at each dialling,
                from the address that is dialled.
            token_origin: Where that is from, for the message of a refusal: "the token in ...".
            pages: More to be read over HTTP by whoever has a token, by path (``/metrics``).
            handshake_timeout_s: Seconds that somebody who connects has to say who they are.
            dial_timeout_s: Seconds that `dial` waits for an open link.
            strangers_max: Connections to one door that may be open without having shown a token;
                as many more may be in their TLS handshake.
            on_refused: Told of those who were refused, and why, as often as the log is.
            tls: Whom we trust, and what we show; None where nothing is encrypted.
        """
        self._clock = clock
        self._authenticator = authenticator
        self._token = token
        self._token_origin = token_origin
        self._pages = dict(pages or {})
        self._handshake_timeout_s = handshake_timeout_s
        self._dial_timeout_s = dial_timeout_s
        self._strangers_max = strangers_max
        self._on_refused = on_refused
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._doors: list[Door] = []
        self._dialling: list[asyncio.Timeout] = []
        self._dialled: dict[WebSocketLink, aiohttp.ClientResponse] = {}
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<WebSocketTransport {state}, {self._doors}, {len(self._dialled)} dialled>"

    async def listen(self, host: str, port: int, accept: Accept) -> Listener:
        """See `Transport.listen`. An `accept` that raises costs only the link it was called for."""
        if self._closed:
            raise OSError("this transport is closed")
        door = Door(
            accept,
            self._authenticator,
            self._clock,
            pages=self._pages,
            handshake_timeout_s=self._handshake_timeout_s,
            strangers_max=self._strangers_max,
            on_refused=self._on_refused,
            tls=self._tls,
        )
        await door.open(host, port)
        self._doors.append(door)
        return door

    async def dial(self, address: str, accept: Accept) -> Link:
        """See `Transport.dial`. Cancelling it leaves no connection behind.

        An exception of `accept` aborts the link and is raised here.
        """
        _check_address(address)
        try:
            async with asyncio.timeout(self._dial_timeout_s) as deadline:
                self._dialling.append(deadline)
                try:
                    response = await self._upgrade(address)
                finally:
                    self._dialling.remove(deadline)
        except TimeoutError:
            if self._closed:
                raise OSError("this transport is closed") from None
            raise TimeoutError(
                f"{address} did not open a link within {self._dial_timeout_s:g} s"
            ) from None
        connection = response.connection
        transport = connection.transport if connection is not None else None
        if self._closed or transport is None or transport.is_closing():
            response.close()
            raise ConnectionResetError(f"the connection to {address} was lost while it was opened")
        link = WebSocketLink(
            transport,
            dialled=True,
            remote=address,
            principal=parse_principal(response.headers.get(PRINCIPAL_HEADER, "")),
            on_end=self._hang_up,
        )
        # The response keeps the connection from going back to aiohttp's pool.
        self._dialled[link] = response
        try:
            link.start(accept(link))
        except BaseException:
            link.abort()
            raise
        return link

    def cut_off(self) -> None:
        """Aborts the links of those who came with a token that does not count any more."""
        for door in self._doors:
            door.cut_off()

    async def close(self) -> None:
        """See `Transport.close`. Every handler has been told when it returns."""
        self._closed = True
        for deadline in self._dialling:
            if not deadline.expired():
                deadline.reschedule(0.0)  # long ago: it is up now
        links = list(self._dialled)
        for link in links:
            link.abort()
        for link in links:
            await link.ended.wait()
        doors, self._doors = self._doors, []
        for door in doors:
            await door.shut()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _upgrade(self, address: str) -> aiohttp.ClientResponse:
        """Asks for a link, up to and including the answer.

        Raises:
            ConnectionRefused: The answer is not an open link.
            OSError: There is no answer.
        """
        import aiohttp

        key = base64.b64encode(bytes.fromhex(self._clock.token(16)))
        headers = {
            "Authorization": f"Bearer {self._our_token(address)}",
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": key.decode(),
            "Sec-WebSocket-Protocol": SUBPROTOCOL,
        }
        session = self._shared_session()
        try:
            response = await session.get(
                f"{'https' if self._tls else 'http'}://{address}{LINK_PATH}",
                headers=headers,
                allow_redirects=False,
                **self._tls_options(address),
            )
        except aiohttp.ClientResponseError as exc:
            raise _not_fray(address, f"its answer is not HTTP ({exc.message[:100]!r})") from exc
        except aiohttp.InvalidURL as exc:
            raise OSError(f"cannot dial {address!r}: it is not host:port") from exc
        except aiohttp.ClientConnectorCertificateError as exc:
            problem = str(exc.certificate_error)
            raise _wrong_certificate(address, problem) from exc
        except aiohttp.ClientConnectorSSLError as exc:
            problem = str(exc)
            raise _no_tls_spoken(address, problem) from exc
        except aiohttp.ClientConnectorError as exc:
            raise _unreachable(address, exc.os_error) from exc
        except aiohttp.ClientError as exc:
            hung_up = isinstance(exc, aiohttp.ServerDisconnectedError)
            if hung_up and self._tls is None and await _speaks_tls(address):
                raise _tls_spoken(address) from exc
            problem = str(exc) or type(exc).__name__
            raise ConnectionResetError(f"the connection to {address} was lost: {problem}") from exc
        try:
            if response.status != 101:
                raise await self._refused(address, response)
            _check_upgrade(address, response, key)
        except BaseException:
            response.close()
            raise
        return response

    def _tls_options(self, address: str) -> dict[str, Any]:
        if self._tls is None:
            return {}
        return {"ssl": self._tls.client(address), "server_hostname": self._tls.name_of(address)}

    def _shared_session(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._closed:
            raise OSError("this transport is closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # Connections become links or are dropped: none is pooled, none is counted.
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
            )
        return self._session

    def _our_token(self, address: str) -> str:
        try:
            return check_token(
                self._token if isinstance(self._token, str) else self._token(address)
            )
        except ValueError as exc:
            problem = f"{self._token_origin} cannot be shown to {address}: {exc}"
            raise ConnectionRefused(problem) from None

    async def _refused(self, address: str, response: aiohttp.ClientResponse) -> ConnectionRefused:
        """What an answer other than 101 means, and what to do about it."""
        body = await response.content.read(_REASON_BYTES_MAX)
        lines = body.decode("utf-8", "replace").strip().splitlines()
        said = f": {lines[0][:200]!r}" if lines else ""
        status = response.status
        advice = {
            401: f"{self._token_origin} is not this cluster's, or has expired; check that the "
            "address is the intended cluster's and use the token that it was started with",
            403: "something on the way makes this look like a browser's request (it adds an Origin "
            "header); dial the process directly",
            404: "an HTTP server that is not fray listens there; check host and port",
        }.get(status, "check that the address is that of a fray process")
        return ConnectionRefused(
            f"{address} refuses the link ({status}{said}). {advice[0].upper()}{advice[1:]}.",
            status=status,
        )

    def _hang_up(self, link: WebSocketLink) -> None:
        response = self._dialled.pop(link, None)
        if response is not None:
            response.close()


def _check_address(address: str) -> None:
    """Refuses what is not ``host:port`` before it becomes part of a URL.

    Raises:
        OSError: It is not.
    """
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if (
        not colon
        or not port.isascii()
        or not port.isdigit()
        or not 0 < int(port) < 0x1_0000
        or not host
        or (":" in host and not bracketed)
        or any(character in "/@?#\\" or character <= " " for character in host)
    ):
        raise OSError(f"cannot dial {address!r}: it is not host:port")


def _check_upgrade(address: str, response: aiohttp.ClientResponse, key: bytes) -> None:
    """Makes sure that the other side has understood (RFC 6455, section 4.1).

    Raises:
        ConnectionRefused: It has not.
    """
    headers = response.headers
    digest = hashlib.sha1(key + _KEY_SUFFIX, usedforsecurity=False).digest()
    upgraded = "upgrade" in headers.get("Connection", "").lower()
    if not upgraded or headers.get("Upgrade", "").lower() != "websocket":
        raise _not_fray(address, "it upgrades to something else than a websocket")
    if headers.get("Sec-WebSocket-Accept", "") != base64.b64encode(digest).decode():
        raise _not_fray(address, "its Sec-WebSocket-Accept is wrong")
    if headers.get("Sec-WebSocket-Extensions"):
        raise _not_fray(address, "it uses extensions that were not offered")
    if headers.get("Sec-WebSocket-Protocol", "") != SUBPROTOCOL:
        raise _not_fray(address, f"it does not speak {SUBPROTOCOL!r}")


def _not_fray(address: str, problem: str) -> ConnectionRefused:
    return ConnectionRefused(f"{address} is not a fray process: {problem}. Check host and port.")


async def _speaks_tls(address: str) -> bool:
    """Whether a port speaks TLS that hung up on plain HTTP without a word."""
    host, _, port = address.rpartition(":")
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE  # nothing is said to it
    try:
        async with asyncio.timeout(TLS_PROBE_S):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=anybody)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _tls_spoken(address: str) -> ConnectionRefused:
    return ConnectionRefused(
        f"{address} does not let us in: this port speaks TLS; the token that was used is from a "
        "time when the cluster did not, or of another cluster. Take a new one from the controller's"
        " machine (`fray up` there says where it is, `fray token create` makes others)."
    )


def _no_tls_spoken(address: str, problem: str) -> ConnectionRefused:
    return ConnectionRefused(
        f"{address} does not speak TLS, as the token says that its cluster does ({problem}). Check "
        "host and port; a cluster that was started anew with --insecure-no-tls has new tokens."
    )


def _wrong_certificate(address: str, problem: str) -> ConnectionRefused:
    return ConnectionRefused(
        f"{address} is not trusted: {problem}. It is not a process of the cluster that the token is"
        " from, or somebody sits in between; no token was shown to it."
    )


def _unreachable(address: str, error: OSError) -> OSError:
    """The same error (and so the same subclass) with an address for people."""
    if error.errno is None:
        return OSError(f"cannot reach {address}: {error}")
    return OSError(error.errno, f"cannot reach {address}: {error.strerror or error}")


__all__ = ["DIAL_TIMEOUT_S", "HANDSHAKE_TIMEOUT_S", "Page", "WebSocketTransport"]
