"""The cones: one frozen class each, and how a list or an SCS-style dict of them is read.

Adding a cone is one class here (and one file in kernels/cones): subclassing `Cone` is all the registration there is.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

from gpudiff._errors import ConeError

_BY_KEY: dict[str, type[Cone]] = {}  # SCS key → class, in the order of the keys' rows: that of the classes below

# Cones of the SCS and diffcp format that this version does not solve; an entry that asks for none of them is fine.
_NOT_YET = {"s": "positive semidefinite", "ep": "exponential", "ed": "dual exponential", "p": "power"}


class Cone:
    """Base class of the cones.

    Attributes:
        code: number in `enum gd_cone` of kernels/entry/gpudiff.h.
        key: key in an SCS or diffcp cone dict.
        rows: rows of A, b, s and y that belong to this cone.
    """

    code: ClassVar[int]
    key: ClassVar[str]
    rows: int

    def __init_subclass__(cls) -> None:
        if "key" in cls.__dict__:
            _BY_KEY[cls.key] = cls

    @classmethod
    def from_entry(cls, numbers: list[Any]) -> list[Cone]:
        """The cones that the numbers of an SCS or diffcp dict's entry stand for.

        Raises:
            ConeError: the numbers are not what the cone needs.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class _Rows(Cone):
    """A cone that is told by its number of rows."""

    rows: int
    fewest: ClassVar[int] = 0
    stacked: ClassVar[bool] = True  # several are one larger one: SCS gives one number rather than a list

    def __post_init__(self) -> None:
        name = type(self).__name__
        expected = f"{name}: expected a number of rows, an integer of at least {self.fewest}, got {self.rows!r}"
        try:
            rows = operator.index(self.rows)
        except TypeError as error:
            raise ConeError(expected) from error
        if isinstance(self.rows, bool) or rows < self.fewest:
            raise ConeError(expected)
        object.__setattr__(self, "rows", rows)

    @classmethod
    def from_entry(cls, numbers: list[Any]) -> list[Cone]:
        """One cone for each number of rows."""
        if cls.stacked and len(numbers) != 1:
            raise ConeError(f"{cls.__name__}: expected one number of rows, got {numbers!r}")
        return [cls(rows) for rows in numbers]


class Zero(_Rows):
    """The zero cone s = 0 in `rows` rows: equality constraints. Its dual is free.

    Raises:
        ConeError: `rows` is not an integer of at least 0.
    """

    code = 0
    key = "z"


class Nonnegative(_Rows):
    """The nonnegative orthant s ≥ 0 in `rows` rows: inequality constraints. It is its own dual.

    Raises:
        ConeError: `rows` is not an integer of at least 0.
    """

    code = 1
    key = "l"


class SecondOrder(_Rows):
    """The second-order (Lorentz) cone s₀ ≥ ‖(s₁, …)‖₂ in `rows` rows. It is its own dual; one row is a half-line.

    Raises:
        ConeError: `rows` is not an integer of at least 1.
    """

    code = 2
    key = "q"
    stacked = False
    fewest = 1


@dataclass(frozen=True, eq=False)
class Product:
    """K = K₁ × K₂ × …, rows in the order of the list; compared by identity, and one object per list of cones.

    Attributes:
        cones: the cones.
        rows: of all of them together.
        linear: whether there are zero and nonnegative cones alone: the constraints of QPs and LPs.
    """

    cones: tuple[Cone, ...]
    rows: int
    linear: bool


@lru_cache(maxsize=1024)
def _product(cones: tuple[Cone, ...]) -> Product:
    return Product(cones, sum(cone.rows for cone in cones), all(isinstance(cone, Zero | Nonnegative) for cone in cones))


def as_product(cones: Any) -> Product:
    """Read a list of cones or an SCS-style dict.

    Args:
        cones: iterable of cones, in the order of the rows of A, b, s and y; or a dict with the keys of SCS and diffcp,
            `{"z": rows, "l": rows, "q": [rows, …]}`, whose rows come in that order.

    Raises:
        ConeError: anything else, a key that is unknown, or a cone that this version does not solve.
    """
    if isinstance(cones, Product):
        return cones
    if type(cones) is list or type(cones) is tuple:  # the usual case, before the slower checks of the others
        return _from_list(cones)
    if isinstance(cones, Mapping):
        return _product(tuple(_from_dict(cones)))
    if isinstance(cones, str | bytes | Cone) or not isinstance(cones, Iterable):
        raise ConeError(
            f"cones: expected a list of cones such as [Zero(1), Nonnegative(4)] or a dict such as "
            f"{{'z': 1, 'l': 4}}, got {cones!r}"
        )
    return _from_list(cones)


def _from_list(cones: Iterable[Any]) -> Product:
    global _latest
    listed, latest = tuple(cones), _latest
    # A loop passes the very same cones again and again: to see that costs a tenth of checking and hashing them.
    if len(listed) == len(latest.cones) and all(map(operator.is_, listed, latest.cones)):
        return latest
    for position, cone in enumerate(listed):
        if not isinstance(cone, Cone):
            raise ConeError(f"cones[{position}]: expected one of {_names()}, got {cone!r}")
    _latest = product = _product(listed)
    return product


_latest = _product(())  # what a list was last read as


def _names() -> str:
    return ", ".join(cone.__name__ for cone in _BY_KEY.values())


def _from_dict(entries: Mapping[Any, Any]) -> Iterable[Cone]:
    for key, entry in entries.items():
        if key in _BY_KEY:
            continue
        if key not in _NOT_YET:
            known = ", ".join(map(repr, _BY_KEY))
            raise ConeError(f"cones[{key!r}]: unknown key; expected keys among {known}")
        if _numbers(key, entry, _NOT_YET[key]) not in ([], [0]):
            raise ConeError(f"cones[{key!r}]: the {_NOT_YET[key]} cone is not supported by this version")
    for key, kind in _BY_KEY.items():
        if key not in entries:
            continue
        try:
            yield from kind.from_entry(_numbers(key, entries[key], kind.__name__))
        except ConeError as error:
            raise ConeError(f"cones[{key!r}]: {error}") from error


def _numbers(key: str, entry: Any, name: str) -> list[Any]:
    """An entry as the list it stands for: SCS takes a number for a list of one, and arrays for lists."""
    if isinstance(entry, str | bytes):
        raise ConeError(f"expected the rows of the {name} cones, got {entry!r}")
    try:
        return list(entry)
    except TypeError:
        return [entry]
