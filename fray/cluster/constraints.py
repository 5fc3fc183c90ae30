"""What a job demands of, or would like about, the hosts it runs on.

A constraint is one line about one property of a host: ``rack=r1``, ``zone!=us-a``,
``gpu in H100,A100``, ``disk-kind`` (has that label), ``!maintenance`` (has not). The properties are
the labels of the host and those that fray knows itself (`BUILT_IN`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from fray.errors import InvalidRequestError

BUILT_IN = ("region", "zone", "preemptible", "device", "tpu_type", "topology")
"""Properties of hosts that fray knows itself: where they are, whether the cloud may take them back
(``true`` or ``false``), their accelerators' variants (``cpu`` without), and the type and topology
of the TPU slice that they are part of. They win over labels of the same name."""

_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_./-]{0,126}[A-Za-z0-9])?")
_VALUE = re.compile(r"[^\s,=!]{1,128}")
_FORMS = re.compile(
    r"(?P<absent>!\s*)?(?P<name>[^\s=!]+)\s*(?:(?P<op>=|!=|\s(?:not\s+)?in\s)\s*(?P<values>.*))?"
)


class Operator(StrEnum):
    """How a property is compared."""

    IN = "in"
    NOT_IN = "not in"
    EXISTS = "exists"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Constraint:
    """A demand on one property of a host.

    Attributes:
        name: The property.
        operator: How it is compared.
        values: With what; empty for EXISTS and ABSENT.
    """

    name: str
    operator: Operator
    values: tuple[str, ...] = ()

    def holds(self, properties: Mapping[str, tuple[str, ...]]) -> bool:
        """Whether a host satisfies it.

        Args:
            properties: The host's values by property; several devices are several values.
        """
        there = properties.get(self.name, ())
        match self.operator:
            case Operator.IN:
                return any(value in self.values for value in there)
            case Operator.NOT_IN:
                return not any(value in self.values for value in there)
            case Operator.EXISTS:
                return bool(there)
            case Operator.ABSENT:
                return not there

    def __str__(self) -> str:
        match self.operator:
            case Operator.EXISTS:
                return self.name
            case Operator.ABSENT:
                return f"!{self.name}"
            case Operator.IN | Operator.NOT_IN:
                negated = self.operator is Operator.NOT_IN
                if len(self.values) == 1:
                    return f"{self.name}{'!=' if negated else '='}{self.values[0]}"
                return f"{self.name} {self.operator} {','.join(self.values)}"


@functools.lru_cache(maxsize=4096)
def parse_constraint(text: str) -> Constraint:
    """Reads a constraint.

    Args:
        text: As the module describes.

    Raises:
        InvalidRequestError: It cannot be read.
    """
    match = _FORMS.fullmatch(text.strip()) if isinstance(text, str) else None  # pyright: ignore[reportUnnecessaryIsInstance]
    if match is None or _LABEL.fullmatch(match["name"]) is None:
        raise _unreadable(text)
    name, op = match["name"], " ".join((match["op"] or "").split())
    if not op:
        return Constraint(name, Operator.ABSENT if match["absent"] else Operator.EXISTS)
    values = tuple(value.strip() for value in match["values"].split(","))
    single = op in ("=", "!=")
    if match["absent"] or not all(_VALUE.fullmatch(value) for value in values):
        raise _unreadable(text)
    if single and len(values) > 1:
        raise InvalidRequestError(
            f"constraint {text!r} compares with several values; write "
            f"'{name} {'not in' if op == '!=' else 'in'} {','.join(values)}'"
        )
    operator = Operator.NOT_IN if op in ("!=", "not in") else Operator.IN
    return Constraint(name, operator, values)


def _unreadable(text: object) -> InvalidRequestError:
    return InvalidRequestError(
        f"a constraint is written like 'rack=r1', 'zone!=us-a', 'device in H100,A100', 'label' or "
        f"'!label'; not {text!r}"
    )


def check_labels(labels: Mapping[str, str], what: str = "labels") -> None:
    """Checks labels, of a host or wanted by a job.

    Args:
        labels: Values by name.
        what: What they are, for the error.

    Raises:
        InvalidRequestError: One cannot be a label; the message names it.
    """
    if not isinstance(labels, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidRequestError(f"{what} must be a mapping of names to values, not {labels!r}")
    for name, value in labels.items():
        if not isinstance(name, str) or _LABEL.fullmatch(name) is None:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidRequestError(
                f"a label's name has letters, digits and inner '-', '_', '.', '/'; not {name!r}"
            )
        if not isinstance(value, str) or _VALUE.fullmatch(value) is None:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidRequestError(
                f"label {name}={value!r} of {what} needs a text without spaces, ',', '=' and '!'"
            )


__all__ = [
    "BUILT_IN",
    "Constraint",
    "Operator",
    "check_labels",
    "parse_constraint",
]
