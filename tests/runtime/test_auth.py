"""Who may come in: tokens as such, and the door as an HTTP client finds it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fray.runtime.auth import TOKEN_BYTES_MAX, TokenAuthenticator, bearer_token, check_token
from fray.runtime.clock import SystemClock
from fray.runtime.transport import Link, Principal
from fray.runtime.websocket import WebSocketTransport
from fray.runtime.wsdoor import format_principal, parse_principal
from fray.runtime.wsgate import Refusals

TOKEN = "right-token"
WRONG = "wrong-token"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol": "fray.1",
}
RIGHT = {"Authorization": f"Bearer {TOKEN}"}

visible = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=100)


# --- tokens


@given(visible, visible)
def test_only_the_same_token_is_right(token: str, given_token: str):
    alice = Principal("alice", "user")
    judge = TokenAuthenticator(token, alice)
    assert judge.verify(token) is alice
    assert (judge.verify(given_token) is alice) == (given_token == token)
    assert judge.verify(token + "x") is None
    assert judge.verify(token[:-1]) is None


def test_without_a_principal_the_bearer_is_the_local_administrator():
    assert TokenAuthenticator(TOKEN).verify(TOKEN) == Principal("local", "admin")


def test_an_authenticator_does_not_keep_the_token_itself():
    assert TOKEN not in repr(vars(TokenAuthenticator(TOKEN)))


@given(st.text(max_size=50))
def test_any_text_can_be_judged(text: str):
    assert TokenAuthenticator(TOKEN).verify(text) is None or text == TOKEN


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("", "empty"),
        ("secret\n", "line end"),
        ("sec ret", "visible ASCII"),
        ("sécret", "visible ASCII"),
        ("secret\r\nX-Injected: 1", "visible ASCII"),
        ("s" * (TOKEN_BYTES_MAX + 1), "longer"),
    ],
)
def test_a_token_that_no_header_can_carry_is_refused_without_showing_it(token: str, words: str):
    for refuse in (check_token, TokenAuthenticator):
        with pytest.raises(ValueError, match=words) as caught:
            refuse(token)
        assert not token or token.strip() not in str(caught.value)


@given(visible)
def test_a_bearer_header_gives_its_token(token: str):
    for header in (f"Bearer {token}", f"bearer  {token} ", f"BEARER {token}"):
        assert bearer_token(header) == token


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic Zm9v", "Token x", "Bearer a b", "Bearer\ta", "x"]
)
def test_other_authorization_headers_give_none(header: str):
    assert bearer_token(header) is None


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_principal_survives_its_header(user: str, role: str):
    header = format_principal(Principal(user, role))
    assert header.isascii()
    assert header.isprintable()
    assert parse_principal(header) == Principal(user, role)


# --- the door


class Nobody:
    def __init__(self, link: Link) -> None:
        pass

    def message_received(self, data: memoryview) -> None:
        pass

    def writable(self) -> None:
        pass

    def link_lost(self, exc: Exception | None) -> None:
        pass


class Failing:
    """An authenticator with a bug."""

    def verify(self, token: str) -> Principal | None:
        raise ZeroDivisionError(token)


class Site:
    """A door on loopback and an HTTP client in front of it."""

    def __init__(self, address: str, session: aiohttp.ClientSession, caplog) -> None:
        self._address = address
        self._session = session
        self._caplog = caplog

    async def ask(self, path: str = "/fray", *, method: str = "GET", headers=()) -> tuple[int, str]:
        url = f"http://{self._address}{path}"
        async with self._session.request(method, url, headers=headers) as answer:
            text = "" if answer.status == 101 else await answer.text()
            assert TOKEN not in text
            assert WRONG not in text
            return answer.status, text.strip()

    @property
    def logged(self) -> list[str]:
        lines = [each.getMessage() for each in self._caplog.records if each.levelno > logging.DEBUG]
        assert TOKEN not in "".join(lines)
        assert WRONG not in "".join(lines)
        return lines


async def metrics() -> tuple[str, bytes]:
    return "text/plain; version=0.0.4", b"fray_links 1\n"


async def broken() -> tuple[str, bytes]:
    raise ZeroDivisionError("a bug in the page")


@pytest.fixture(params=["token"])
async def site(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Site]:
    judge = TokenAuthenticator(TOKEN) if request.param == "token" else Failing()
    transport = WebSocketTransport(
        SystemClock(),
        authenticator=judge,
        token=TOKEN,
        pages={"/metrics": metrics, "/broken": broken},
    )
    listener = await transport.listen("127.0.0.1", 0, Nobody)
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield Site(listener.address, session, caplog)
    await transport.close()


async def test_the_right_token_opens_the_door(site: Site):
    assert await site.ask(headers=UPGRADE | RIGHT) == (101, "")
    assert site.logged == []


@pytest.mark.parametrize(
    ("headers", "status", "told", "logged"),
    [
        ({}, 401, "a bearer token is needed", "has no token"),
        ({"Authorization": f"Bearer {WRONG}"}, 401, "not valid here", "has a wrong token"),
        ({"Authorization": f"Bearer {TOKEN}x"}, 401, "not valid here", "has a wrong token"),
        ({"Authorization": f"Basic {TOKEN}"}, 401, "token is needed", "malformed"),
        ({"Authorization": TOKEN}, 401, "token is needed", "malformed"),
        ({"Cookie": f"token={TOKEN}"}, 401, "token is needed", "has no token"),
        (RIGHT | {"Origin": "http://evil.example"}, 403, "web pages", "'http://evil.example'"),
        (RIGHT | {"Origin": "null"}, 403, "web pages", "'null'"),
        (RIGHT | {"Origin": ""}, 403, "web pages", "comes from a web page"),
    ],
)
@pytest.mark.parametrize("path", ["/fray", "/metrics", "/nothing", "/fray?token=" + TOKEN])
async def test_whoever_may_not_come_in_is_told_why_and_logged(
    site: Site, path: str, headers: dict[str, str], status: int, told: str, logged: str
):
    got, text = await site.ask(path, headers=UPGRADE | headers)
    assert got == status
    assert told in text
    (line,) = site.logged
    assert line.startswith("refused 127.0.0.1:")
    assert logged in line


async def test_two_tokens_are_one_too_many(site: Site):
    headers = [*UPGRADE.items(), *RIGHT.items(), *RIGHT.items()]
    status, _ = await site.ask(headers=headers)
    assert status == 401


@pytest.mark.parametrize("site", ["failing"], indirect=True)
async def test_an_authenticator_that_fails_lets_nobody_in(site: Site):
    status, text = await site.ask(headers=UPGRADE | RIGHT)
    assert (status, text) == (401, "the token could not be judged")
    assert "ZeroDivisionError" in site.logged[0]


async def test_health_needs_no_token_and_says_nothing_else(site: Site):
    assert await site.ask("/healthz") == (200, "ok")
    assert site.logged == []


async def test_health_is_not_for_web_pages(site: Site):
    status, _ = await site.ask("/healthz", headers={"Origin": "http://evil.example"})
    assert status == 403


async def test_pages_are_served_to_whoever_has_a_token(site: Site):
    assert await site.ask("/metrics", headers=RIGHT) == (200, "fray_links 1")


async def test_a_page_that_fails_is_a_500_and_logged(site: Site):
    status, text = await site.ask("/broken", headers=RIGHT)
    assert (status, text) == (500, "this page is broken here")
    assert "/broken" in site.logged[0]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/nothing"), ("POST", "/fray"), ("PUT", "/healthz"), ("HEAD", "/x")],
)
async def test_everything_else_is_not_there(site: Site, method: str, path: str):
    status, _ = await site.ask(path, method=method, headers=RIGHT)
    assert status == 404


@pytest.mark.parametrize(
    "change",
    [
        {"Sec-WebSocket-Protocol": "chat, fray.2"},
        {"Sec-WebSocket-Protocol": ""},
        {"Sec-WebSocket-Version": "12"},
        {"Sec-WebSocket-Key": "short"},
        {"Upgrade": "h2c"},
    ],
)
async def test_an_upgrade_to_something_else_is_refused(site: Site, change: dict[str, str]):
    status, _ = await site.ask(headers=UPGRADE | RIGHT | change)
    assert status == 400
    assert len(site.logged) == 1


async def test_our_sub_protocol_is_found_among_others(site: Site):
    headers = UPGRADE | RIGHT | {"Sec-WebSocket-Protocol": "chat ,fray.1, fray.2"}
    assert (await site.ask(headers=headers))[0] == 101


async def test_compression_is_never_agreed_to(site: Site):
    headers = UPGRADE | RIGHT | {"Sec-WebSocket-Extensions": "permessage-deflate"}
    url = f"http://{site._address}/fray"
    async with site._session.get(url, headers=headers) as answer:
        assert answer.status == 101
        assert "Sec-WebSocket-Extensions" not in answer.headers


# --- the log


async def test_a_flood_of_refusals_does_not_flood_the_log(site: Site):
    for _ in range(40):
        await site.ask(headers=UPGRADE)
    assert len(site.logged) == 10


async def test_what_was_not_logged_is_counted_at_the_end_of_the_window(
    caplog: pytest.LogCaptureFixture,
):
    counted = asyncio.Event()

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "more connections" in record.getMessage():
                counted.set()

    watch = Watch()
    logger = logging.getLogger("fray.runtime.wsgate")
    logger.addHandler(watch)
    refusals = Refusals(lines_max=2, window_s=0.01)
    for number in range(7):
        refusals.refused("10.0.0.1:99", f"reason {number}")
    try:
        await asyncio.wait_for(counted.wait(), 10)
    finally:
        logger.removeHandler(watch)
    assert [each.getMessage() for each in caplog.records] == [
        "refused 10.0.0.1:99: reason 0",
        "refused 10.0.0.1:99: reason 1",
        "refused 5 more connections in the last 0.01 s",
    ]
    refusals.refused("10.0.0.1:99", "in the next window")
    assert caplog.records[-1].getMessage().endswith("in the next window")
    refusals.flush()
    assert len(caplog.records) == 4
