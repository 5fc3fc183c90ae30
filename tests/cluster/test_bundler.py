"""What a client says where it cannot send a project folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from fray.cluster.bundler import Bundler
from fray.errors import InvalidRequestError

NOBODY = 65534


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder that this account may not read, which root always may."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0)
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    yield folder
    os.seteuid(before)


async def test_folder_with_something_that_may_not_be_read_is_refused(closed: Path) -> None:
    with pytest.raises(InvalidRequestError, match=r"may not be read; name it in \.frayignore"):
        await Bundler(cast("Any", None)).send(str(closed))  # it asks for no blob
