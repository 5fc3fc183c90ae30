from __future__ import annotations

from fray.cli.tokens import revoked_line


def test_revoked_tokens_are_counted() -> None:
    assert revoked_line({"user": "ann", "tokens": 1, "jobs": 0}) == "1 token is revoked of ann"
    assert revoked_line({"user": "ann", "tokens": 2, "jobs": 1}) == (
        "2 tokens are revoked of ann, and those of 1 job"
    )
