"""Changes that are not made yet."""

from __future__ import annotations

from fray.cluster.controller.draft import Overlay


class Compared:
    """Counts how often it is compared."""

    def __init__(self, value: int) -> None:
        self.value = value
        self.times = 0

    def __eq__(self, other: object) -> bool:
        self.times += 1
        return isinstance(other, Compared) and self.value == other.value

    __hash__ = None  # type: ignore[assignment]


def test_records_are_compared_once_however_often_changes_are_asked_for():
    old, same = Compared(1), Compared(2)
    overlay = Overlay({"a": old, "b": same})
    overlay["a"], overlay["b"] = Compared(3), Compared(2)
    for _ in range(3):
        assert [key for key, _, _ in overlay.changes()] == ["a"]
    assert (old.times, same.times) == (1, 1)
    overlay["b"] = Compared(4)
    assert [key for key, _, _ in overlay.changes()] == ["a", "b"]
    del overlay["a"]
    assert [(key, new is None) for key, _, new in overlay.changes()] == [("a", True), ("b", False)]
