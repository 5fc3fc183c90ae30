"""What happens in the golden stories is what happened before."""

from __future__ import annotations

import pytest

from tests.sim.golden_stories import FOLDER, STORIES, file_of, told


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_it_is_told_as_before(story):
    assert told(story) == file_of(story).read_text(), (
        "if the new story is right: python -m tests.sim.golden_stories --update"
    )


def test_nothing_is_kept_of_stories_that_are_no_longer_told():
    assert sorted(FOLDER.iterdir()) == sorted(file_of(story) for story in STORIES)
