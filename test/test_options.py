"""Options describe themselves, and check the values of their fields."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

import numpy as np
import pytest

from explain_cnn_ros.options import Option, option, options, require, validate


@dataclass(frozen=True)
class Kitchen:
    ovens: int = option(2, "How many ovens.", 1, 9)
    heat: float = option(180.0, "Degrees.", 50.0, 300.0)
    fan: bool = option(False, "Whether air moves.")
    fuel: str = option("gas", "What burns.", choices=("gas", "wood"), read_only=True)
    sizes: tuple[int, ...] = option((1, 2), "Sizes of the trays.", 1, 5)
    herbs: tuple[str, ...] = option(("sage",), "What grows.", choices=("sage", "dill"))
    plain: list = field(default_factory=list)

    def __post_init__(self) -> None:
        validate(self)


def test_options_are_listed_in_order() -> None:
    described = options(Kitchen)
    assert list(described) == ["ovens", "heat", "fan", "fuel", "sizes", "herbs"]
    assert described["ovens"] == Option("How many ovens.", 1, 9)
    assert described["fuel"] == Option("What burns.", allowed=("gas", "wood"), read_only=True)
    assert options(Kitchen()) == described


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ovens": 0}, "ovens is 0: it must be at least 1"),
        ({"ovens": 10}, "ovens is 10: it must be at most 9"),
        ({"ovens": 1.5}, "ovens is 1.5: it must be a whole number"),
        ({"ovens": "2"}, "ovens is '2': it must be a whole number"),
        ({"ovens": (2,)}, "ovens is (2,): it must be a single value"),
        ({"heat": math.nan}, "heat is nan: it must be a finite number"),
        ({"heat": math.inf}, "heat is inf: it must be a finite number"),
        ({"heat": "hot"}, "heat is 'hot': it must be a number"),
        ({"heat": 49.9}, "heat is 49.9: it must be at least 50"),
        ({"fan": 1}, "fan is 1: it must be true or false"),
        ({"fuel": "coal"}, "fuel is 'coal': it must be one of gas, wood"),
        ({"fuel": None}, "fuel is None: it must be a text"),
        ({"sizes": ()}, "sizes is (): it must be at least one"),
        ({"sizes": (1, 1)}, "sizes is (1, 1): it must be without repetition"),
        ({"sizes": [1, 6]}, "sizes is 6: it must be at most 5"),
        ({"sizes": 3}, "sizes is 3: it must be a list"),
        ({"sizes": [[1]]}, "sizes is ([1],): it must be a whole number"),
        ({"herbs": "sage"}, "herbs is 'sage': it must be a list"),
        ({"herbs": ["sage", "mint"]}, "herbs is 'mint': it must be one of sage, dill"),
    ],
)
def test_what_does_not_fit_is_named(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Kitchen(**values)


def test_what_fits() -> None:
    kitchen = Kitchen(ovens=9, heat=50, fan=True, fuel="wood", sizes=[5, 1], herbs=["dill", "sage"])
    assert kitchen.sizes == (5, 1)
    assert kitchen.herbs == ("dill", "sage")
    assert Kitchen(ovens=np.int64(3), heat=np.float32(99)).heat == 99


def test_choices_may_grow() -> None:
    """The choices of a registry are those at the time when a value is checked."""
    fuels = ["gas"]

    @dataclass(frozen=True)
    class Stove:
        fuel: str = option("gas", "What burns.", choices=lambda: tuple(fuels))
        spare: tuple[str, ...] = option(("gas",), "What burns later.", choices=lambda: tuple(fuels))

        def __post_init__(self) -> None:
            validate(self)

    assert options(Stove)["fuel"].choices == ("gas",)
    with pytest.raises(ValueError, match=r"^fuel is 'wood': it must be one of gas$"):
        Stove(fuel="wood")
    fuels.append("wood")
    assert options(Stove)["fuel"].choices == ("gas", "wood")
    assert Stove(fuel="wood", spare=["wood", "gas"]).spare == ("wood", "gas")
    with pytest.raises(ValueError, match=r"^spare is 'coal': it must be one of gas, wood$"):
        Stove(spare=("gas", "coal"))


def test_choices_are_those_of_the_declaration() -> None:
    described = options(Kitchen)
    assert described["fuel"].choices == ("gas", "wood")
    assert described["heat"].choices == ()


def test_require() -> None:
    require(True, "x", 1, "anything")
    with pytest.raises(ValueError, match=r"^x is 1: it must be two$"):
        require(False, "x", 1, "two")
