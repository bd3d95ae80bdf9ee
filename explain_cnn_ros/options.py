"""Settings that describe and validate themselves: frozen dataclasses of options.

An option keeps its description and its range in the metadata of the field. Error messages, node parameters,
command-line arguments and documentation are all made from this one declaration.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from explain_cnn_ros.files import quoted

#: Required type of a value and its name, by the type of the default.
KINDS: dict[type, tuple[type, str]] = {
    bool: (bool, "true or false"),
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "a text"),
}


@dataclass(frozen=True)
class Option:
    """Description of a field.

    Attributes:
        description: Meaning of the field, with its unit.
        minimum: Minimum of a number, or of each number of a sequence; inclusive.
        maximum: Maximum of a number, or of each number of a sequence; inclusive.
        allowed: Allowed values, or allowed members of a sequence; empty for any. It is a function if the choices may
            grow, as those of a registry do.
        read_only: Whether the field, as a node parameter, can be set only at the start.
    """

    description: str
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[str, ...] | Callable[[], tuple[str, ...]] = ()
    read_only: bool = False

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed values as of now; empty for any."""
        return self.allowed() if callable(self.allowed) else self.allowed


def option(
    default: Any,
    description: str,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[str] | Callable[[], tuple[str, ...]] = (),
    read_only: bool = False,
) -> Any:
    """Declare a dataclass field that is an option; see `Option` for the arguments."""
    allowed = choices if callable(choices) else tuple(choices)
    return dataclasses.field(
        default=default, metadata={"option": Option(description, minimum, maximum, allowed, read_only)}
    )


def options(settings: Any) -> dict[str, Option]:
    """Return the options of a dataclass, or of one of its objects, by field name."""
    return {f.name: f.metadata["option"] for f in dataclasses.fields(settings) if "option" in f.metadata}


def validate(settings: Any) -> None:
    """Check every option of a dataclass object, and convert lists to tuples. `__post_init__` calls this.

    Raises:
        ValueError: A value is not allowed; the message names the field, the value and what is expected.
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
        # The empty text is a choice of some options. Without quotes, it would look like a gap in the list.
        named = ", ".join(choice or "''" for choice in declared.choices)
        require(value in declared.choices, name, value, f"one of {named}")
    if declared.minimum is not None:
        require(value >= declared.minimum, name, value, f"at least {declared.minimum:g}")
    if declared.maximum is not None:
        require(value <= declared.maximum, name, value, f"at most {declared.maximum:g}")


def require(fine: bool, name: str, value: object, expected: str) -> None:
    """Raise a ValueError that names a field unless its value is fine."""
    if not fine:
        raise ValueError(f"{name} is {quoted(value)}: it must be {expected}")
