"""The text that several examples share: the language reference that comes with every Python."""

from __future__ import annotations

import pydoc_data.topics


def documents() -> dict[str, str]:
    """The chapters of the language reference, by name, sorted."""
    topics = pydoc_data.topics.topics
    return {name: topics[name] for name in sorted(topics)}
