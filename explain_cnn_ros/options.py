"""Settings that describe and validate themselves: frozen dataclasses of options.

An option carries its description and range in the field's metadata, so that error messages, node parameters and
documentation all come from the one place where it is declared.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

#: What a value must be, by the type of its option's default.
KINDS: dict[type, tuple[type, str]] = {
    bool: (bool, "true or false"),
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "a text"),
}


@dataclass(frozen=True)
class Option:
    """Description of a field.

    description: what it means, with its unit.
    minimum, maximum: inclusive range of a number, or of each number of a sequence.
    choices: the values, or the members of a sequence, that are allowed; empty: any.
    read_only: as a node parameter, it is set at the start or never.
    """

    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = False


def option(
    default: Any,
    description: str,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[str] = (),
    read_only: bool = False,
) -> Any:
    """A dataclass field that carries an Option."""
    return dataclasses.field(
        default=default, metadata={"option": Option(description, minimum, maximum, tuple(choices), read_only)}
    )


def options(settings: Any) -> dict[str, Option]:
    """The options of a dataclass, or of one of its objects, by field name."""
    return {f.name: f.metadata["option"] for f in dataclasses.fields(settings) if "option" in f.metadata}


def validate(settings: Any) -> None:
    """Check every option of a dataclass object, for its `__post_init__`; lists become tuples.

    Raises:
        ValueError: names the field, its value, and what is expected.
    """
    defaults: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(settings)}
    for name, declared in options(settings).items():
        value, default = getattr(settings, name), defaults[name]
        if isinstance(value, list):
            value = tuple(value)
            object.__setattr__(settings, name, value)
        several = isinstance(default, tuple)
        require(isinstance(value, tuple) == several, name, value, "a list" if several else "a single value")
        members = value if several else (value,)
        kind, called = KINDS[type(default[0] if several else default)]
        for member in members:
            require(isinstance(member, kind), name, value, called)
        require(len(members) > 0, name, value, "at least one")
        require(len(set(members)) == len(members), name, value, "without repetition")
        for member in members:
            _validate_member(name, member, declared)


def _validate_member(name: str, value: Any, declared: Option) -> None:
    if isinstance(value, float):
        require(math.isfinite(value), name, value, "a finite number")
    if declared.choices:
        require(value in declared.choices, name, value, f"one of {', '.join(declared.choices)}")
    if declared.minimum is not None:
        require(value >= declared.minimum, name, value, f"at least {declared.minimum:g}")
    if declared.maximum is not None:
        require(value <= declared.maximum, name, value, f"at most {declared.maximum:g}")


def require(fine: bool, name: str, value: object, expected: str) -> None:
    """Raise a ValueError that names the field unless it is fine."""
    if not fine:
        raise ValueError(f"{name} is {value!r}: it must be {expected}")
