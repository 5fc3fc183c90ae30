"""Signed tokens: what is made here others accept, and what is forged nobody does."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from fray.cluster.security.claims import (
    HEADER,
    Audience,
    Claims,
    Role,
    b64,
    is_signed,
    read_claims,
    unb64,
)
from fray.cluster.security.revocations import Revocations
from fray.cluster.security.tokens import LEEWAY_S, SignedAuthenticator, TokenSigner
from fray.errors import InvalidRequestError
from fray.runtime.auth import TokenRefused
from fray.runtime.clock import SystemClock

SECRET = bytes(range(32))
NOW = 1_800_000_000.0
HOUR_S = 3600.0


class FixedClock(SystemClock):
    """A clock that stands where a test puts it."""

    now = NOW

    def time(self) -> float:
        return self.now


def signer(secret: bytes = SECRET, cluster: str = "one") -> TokenSigner:
    return TokenSigner(secret, cluster, FixedClock())


def judge(clock: FixedClock | None = None, **options: Any) -> SignedAuthenticator:
    return SignedAuthenticator(signer().public, "one", clock or FixedClock(), **options)


def token(**changes: Any) -> str:
    made = signer()
    claims = made.claims("alice", Role.USER, HOUR_S)
    return made.sign(dataclasses.replace(claims, **changes))


def forged(header: dict[str, Any], payload: bytes, key: Ed25519PrivateKey | None = None) -> str:
    signed = b64(json.dumps(header).encode()) + b"." + b64(payload)
    signature = b"" if key is None else key.sign(signed)
    return (signed + b"." + b64(signature)).decode()


# ---- good tokens


def test_token_says_who_its_bearer_is() -> None:
    made = signer()
    claims = made.claims(
        "alice", Role.JOB, HOUR_S, job_id="alice/a", attempt_id="alice/a/0#0", namespace="ns"
    )
    principal = judge().verify(made.sign(claims))
    assert (principal.user, principal.role, principal.namespace) == ("alice", "job", "ns")
    assert (principal.job_id, principal.attempt_id) == ("alice/a", "alice/a/0#0")
    assert (principal.token_id, principal.expires_at) == (claims.jti, NOW + HOUR_S)


def test_tokens_are_plain_jwts_that_another_library_accepts() -> None:
    key = Ed25519PublicKey.from_public_bytes(signer().public)
    far = dataclasses.replace(
        signer().claims("alice", Role.ADMIN, HOUR_S), iat=1, exp=int(NOW) + 10**9
    )
    read = jwt.decode(
        signer().sign(far), key, algorithms=["EdDSA"], audience="control", issuer="one"
    )
    assert (read["sub"], read["role"], read["jti"]) == ("alice", "admin", far.jti)


def test_token_that_another_library_makes_is_accepted() -> None:
    claims = json.loads(signer().claims("bob", Role.USER, HOUR_S).encode())
    key = Ed25519PrivateKey.from_private_bytes(SECRET)
    assert judge().verify(jwt.encode(claims, key, algorithm="EdDSA")).user == "bob"


def test_token_is_known_again_without_its_signature_being_checked_anew() -> None:
    door, good = judge(), token()
    assert door.verify(good) == door.verify(good)


def test_renewed_token_is_the_same_somebody() -> None:
    door = judge()
    assert door.verify(token()) == door.verify(token(jti="t-2", exp=int(NOW) + 9999))


def test_own_claims_are_read_without_a_key() -> None:
    assert read_claims(token()).key == signer().public
    assert is_signed(token())
    assert not is_signed("0123456789abcdef")


# ---- forged ones


def payload(**changes: Any) -> bytes:
    return dataclasses.replace(signer().claims("eve", Role.ADMIN, HOUR_S), **changes).encode()


OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "guess",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        token() + ".x",
        token()[:-1],
        token()[1:],
        token() + "=",
        token() + "A",
        forged({"alg": "none", "typ": "JWT"}, payload()),
        forged({"alg": "EdDSA", "typ": "JWT"}, payload(), OTHER),
        forged(json.loads(HEADER), payload(), OTHER),
        forged({"alg": "EdDSA", "typ": "JWT", "jwk": {"x": "mine"}}, payload(), OTHER),
        jwt.encode({"sub": "eve"}, "", algorithm="none"),
        jwt.encode(json.loads(payload()), signer().public, algorithm="HS256"),
        b64(HEADER).decode() + "." + b64(payload()).decode() + ".",
        token().rpartition(".")[0] + "." + b64(bytes(64)).decode(),
        b64(HEADER).decode() + "." + b64(payload()).decode() + "." + token().rpartition(".")[2],
        "\udcff.\udcff.\udcff",
    ],
)
def test_forged_token_opens_nothing(bad: str) -> None:
    with pytest.raises(TokenRefused) as refused:
        judge().verify(bad)
    assert "eve" not in str(refused.value)


def test_token_of_another_cluster_opens_nothing() -> None:
    other = signer(bytes(reversed(SECRET)))
    with pytest.raises(TokenRefused, match="not signed by this cluster"):
        judge().verify(other.sign(other.claims("alice", Role.ADMIN, HOUR_S)))
    copied = signer(cluster="two")  # whoever copies a home has its key, too
    with pytest.raises(TokenRefused, match="for the cluster 'two'"):
        judge().verify(copied.sign(copied.claims("alice", Role.ADMIN, HOUR_S)))


def test_signed_nonsense_opens_nothing() -> None:
    key = Ed25519PrivateKey.from_private_bytes(SECRET)
    for nonsense in (b"", b"[]", b"{}", b'{"sub":1}', payload()[:-1] + b',"exp":"x"}', b"\xff"):
        signed = b64(HEADER) + b"." + b64(nonsense)
        with pytest.raises(TokenRefused, match="damaged"):
            judge().verify((signed + b"." + b64(key.sign(signed))).decode())


@given(st.integers(0, len(token()) - 1), st.characters(min_codepoint=33, max_codepoint=126))
def test_no_character_of_a_token_can_be_changed(at: int, character: str) -> None:
    good = token()
    changed = good[:at] + character + good[at + 1 :]
    if changed != good:
        with pytest.raises(TokenRefused):
            judge().verify(changed)


@given(st.text(max_size=200))
def test_any_text_is_judged_without_an_accident(text: str) -> None:
    with pytest.raises(TokenRefused):
        judge().verify(text)


@given(st.binary(max_size=100))
def test_base64_has_one_spelling(data: bytes) -> None:
    assert unb64(b64(data)) == data


@pytest.mark.parametrize("text", [b"=", b"a", b"YQ==", b"YR", b"a+b/", b"a b"])
def test_other_spellings_of_base64_are_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="base64"):
        unb64(text)


def test_what_is_no_token_is_told_to_its_bearer() -> None:
    with pytest.raises(InvalidRequestError, match="cut short"):
        read_claims(token()[:40])


# ---- time, audience, revocation


def test_expired_token_is_refused_and_its_bearer_cut_off() -> None:
    clock = FixedClock()
    door = judge(clock)
    principal = door.verify(token())
    clock.now = NOW + HOUR_S + LEEWAY_S
    assert door.is_good(door.verify(token()))
    clock.now += 1
    assert not door.is_good(principal)
    with pytest.raises(TokenRefused, match="has expired"):
        door.verify(token())


def test_token_from_the_future_is_told_to_be_a_matter_of_clocks() -> None:
    assert judge().verify(token(iat=int(NOW + LEEWAY_S)))
    with pytest.raises(TokenRefused, match="set the clocks"):
        judge().verify(token(iat=int(NOW + LEEWAY_S) + 1))


def test_token_for_peers_opens_no_controller() -> None:
    peer = token(aud=Audience.PEER)
    assert judge().verify(peer)
    with pytest.raises(TokenRefused, match="for peer doors"):
        judge(audiences=frozenset({Audience.CONTROL})).verify(peer)


def test_revoked_token_is_refused_and_its_bearer_cut_off() -> None:
    door = judge()
    principal = door.verify(token(jti="t-1"))
    door.revoked = Revocations().with_token("t-1", NOW + HOUR_S)
    assert not door.is_good(principal)
    with pytest.raises(TokenRefused, match="revoked"):
        door.verify(token(jti="t-1"))
    assert door.verify(token(jti="t-2"))


def test_all_tokens_that_a_user_has_so_far_are_revoked_and_no_later_ones() -> None:
    door = judge()
    door.revoked = Revocations().with_user("alice", NOW)
    with pytest.raises(TokenRefused, match="revoked"):
        door.verify(token())
    assert door.verify(token(iat=int(NOW) + 1))
    assert door.verify(token(sub="bob"))


@given(
    st.builds(
        Claims,
        sub=st.text(),
        role=st.sampled_from(Role),
        iss=st.text(),
        aud=st.sampled_from(Audience),
        jti=st.text(),
        iat=st.integers(0, 2**40),
        exp=st.integers(0, 2**40),
        job=st.text(),
        att=st.text(),
        ns=st.text(),
        wrk=st.text(),
        key=st.binary(max_size=40),
        ca=st.binary(),
    )
)
def test_claims_survive_their_journey(claims: Claims) -> None:
    needed = claims.sub and claims.iss and claims.jti and claims.iat and claims.exp
    if needed:
        assert Claims.decode(claims.encode()) == claims
    else:  # what is empty is left out, and these may not be
        with pytest.raises(ValueError, match="missing"):
            Claims.decode(claims.encode())
