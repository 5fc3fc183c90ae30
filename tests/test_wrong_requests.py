"""The page of wrong requests says what fray says."""

from __future__ import annotations

import pytest

from tests.wrong_requests import PAGE, rows, updated

pytestmark = pytest.mark.leftovers("the cluster keeps idle threads for its next calls")


def test_every_wrong_request_gets_the_answer_of_the_page() -> None:
    text = PAGE.read_text()
    assert len(rows(text)) >= 40
    assert (
        updated(text).splitlines() == text.splitlines()
    )  # python -m tests.wrong_requests --update
