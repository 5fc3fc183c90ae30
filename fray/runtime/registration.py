"""What is said about names: registrations, entries, changes, refusals; and the bounds of them.

The rules by which registrations become entries are in `fray.runtime.leases`; this room has only the
words. It knows no wire and no actors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from fray.errors import InvalidRequestError
from fray.ids import ActorId, Namespace, ProcessId

NAME_BYTES_MAX = 255
"""Of a name or namespace, in UTF-8; what a file name may have."""

KEY_BYTES_MAX = 1024
"""Of a key, address or id."""

METADATA_ENTRIES_MAX = 32
METADATA_BYTES_MAX = 4096
"""All keys and values of a registration's metadata together."""

TTL_S_MAX = 3600.0
"""A lease that nobody renews must not block a name for longer than people wait."""

GLOB_CHARACTERS = "*?[]"
"""Not allowed in names, so that a pattern is told from a name by its looks."""


class Epoch(NamedTuple):
    """Orders leases: later ones are larger.

    Attributes:
        generation: Which life of the table's owner.
        counter: Which lease of that life, from 1.
    """

    generation: int
    counter: int


@dataclass(frozen=True, slots=True)
class Registration:
    """What an actor asks for.

    Attributes:
        namespace: Where the name is.
        name: The name.
        actor_id: The actor.
        incarnation: Orders the registrations of one key, from 0: restarts, or attempts of a task.
        address: ``host:port`` of the process.
        process_id: The process.
        key: Who holds the name, over restarts (a slash separates its parts).
        exclusive: Whether nobody else may have the name.
        metadata: Facts for whoever looks the name up.
        ttl_s: How long the lease lasts unless it is renewed, in seconds, at most `TTL_S_MAX`.
    """

    namespace: Namespace
    name: str
    actor_id: ActorId
    incarnation: int
    address: str
    process_id: ProcessId
    key: str
    exclusive: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict[str, str], hash=False)
    ttl_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A registration that the table has accepted.

    Attributes:
        registration: What was asked for.
        epoch: When, in the order of all that were accepted.
    """

    registration: Registration
    epoch: Epoch


class Reason(Enum):
    """Why an entry came or went."""

    REGISTERED = "registered"
    REPLACED = "replaced by a later registration of the same key"
    RECLAIMED = "given back to who held the name when the controller started"
    UNREGISTERED = "unregistered"
    EXPIRED = "not renewed"
    PROCESS_GONE = "its process is gone"
    OWNER_GONE = "its owner is gone"


class Change(NamedTuple):
    """What watchers of a name are told.

    Attributes:
        added: Whether the entry came, not went.
        entry: The entry.
        reason: Why.
    """

    added: bool
    entry: Entry
    reason: Reason


class Refusal(Enum):
    """Why a registration was not accepted."""

    NAME_TAKEN = "name taken"
    """Somebody else has the name, and one of the two wants it exclusively."""
    STALE = "stale incarnation"
    """A later incarnation of the key has registered, or another process as the same one."""
    TOO_EARLY = "too early after a start"
    """Who held the exclusive name before the controller started may still come back."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A registration was accepted, or was known and has been renewed.

    Attributes:
        entry: The entry.
        changes: What changed; nothing where it was known.
    """

    entry: Entry
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """A registration was not accepted.

    Attributes:
        refusal: Why not.
        message: The same for people.
        holder: Who stands in the way, where it is one that lives.
        retry_at: From when on it may be accepted, where that is known.
        changes: What was found to have lapsed meanwhile.
    """

    refusal: Refusal
    message: str
    holder: Entry | None = None
    retry_at: float | None = None
    changes: tuple[Change, ...] = ()


def check_registration(wanted: Registration) -> None:
    """Checks that every field of a registration is within its bounds.

    Args:
        wanted: The registration.

    Raises:
        InvalidRequestError: A field is not; the message names it.
    """
    check_name(wanted.namespace, what="namespace")
    check_name(wanted.name)
    for what, text in (
        ("key", wanted.key),
        ("actor id", wanted.actor_id),
        ("process id", wanted.process_id),
        ("address", wanted.address),
    ):
        _check_length(what, text, KEY_BYTES_MAX)
    if not wanted.key or not wanted.actor_id or not wanted.process_id:
        raise InvalidRequestError("a registration needs a key, an actor id and a process id")
    if wanted.incarnation < 0:
        raise InvalidRequestError(f"an incarnation is at least 0, not {wanted.incarnation}")
    if not 0 < wanted.ttl_s <= TTL_S_MAX:
        raise InvalidRequestError(
            f"ttl_s must be above 0 and at most {TTL_S_MAX:g} seconds, not {wanted.ttl_s:g}"
        )
    size = sum(len(k.encode()) + len(v.encode()) for k, v in wanted.metadata.items())
    if len(wanted.metadata) > METADATA_ENTRIES_MAX or size > METADATA_BYTES_MAX:
        raise InvalidRequestError(
            f"the metadata of {wanted.name!r} has {len(wanted.metadata)} entries of {size} bytes; "
            f"at most {METADATA_ENTRIES_MAX} of {METADATA_BYTES_MAX} bytes together are kept"
        )


def check_name(name: str, *, what: str = "name") -> None:
    """Checks a name that something is to be registered under.

    Args:
        name: The name.
        what: What it is, for the error.

    Raises:
        InvalidRequestError: It is empty, too long, not printable, or would be a glob.
    """
    if not name:
        raise InvalidRequestError(f"a {what} must not be empty")
    _check_length(what, name, NAME_BYTES_MAX)
    if not name.isprintable():
        raise InvalidRequestError(f"a {what} must be printable, not {name!r}")
    if any(character in name for character in GLOB_CHARACTERS):
        raise InvalidRequestError(
            f"a {what} must not contain any of {GLOB_CHARACTERS}, which look names up: {name!r}"
        )


def _check_length(what: str, text: str, bytes_max: int) -> None:
    size = len(text.encode("utf-8", "backslashreplace"))
    if size > bytes_max:
        raise InvalidRequestError(
            f"a registration's {what} has {size} bytes, more than {bytes_max}: {text[:40]!r}…"
        )


__all__ = [
    "GLOB_CHARACTERS",
    "KEY_BYTES_MAX",
    "METADATA_BYTES_MAX",
    "METADATA_ENTRIES_MAX",
    "NAME_BYTES_MAX",
    "TTL_S_MAX",
    "Change",
    "Entry",
    "Epoch",
    "Reason",
    "Refusal",
    "Refused",
    "Registered",
    "Registration",
    "check_name",
    "check_registration",
]
