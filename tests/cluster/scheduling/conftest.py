import pytest

from .view_builder import Builder


@pytest.fixture
def build() -> Builder:
    return Builder()
