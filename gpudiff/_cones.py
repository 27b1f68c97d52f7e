"""The cones: one frozen class each, and how a list or an SCS-style dict of them is read.

Adding a cone is one class here (and one file in kernels/cones): subclassing `Cone` is all the registration there is.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, SupportsFloat

from gpudiff._errors import ConeError

_KINDS: list[type[Cone]] = []  # the classes below
_BY_KEY: dict[str, type[Cone]] = {}  # SCS key → class, in the order of the keys' rows: that of the classes below

SMALLEST_ALPHA = 1e-6  # of a power cone, which is as far from 1, too


class Cone:
    """Base class of the cones.

    Attributes:
        code: number in `enum gd_cone` of kernels/entry/gpudiff.h.
        key: key in an SCS or diffcp cone dict, if it has one of its own.
        rows: rows of A, b, s and y that belong to this cone.
    """

    code: ClassVar[int]
    key: ClassVar[str]
    rows: int

    def __init_subclass__(cls) -> None:
        if "code" in cls.__dict__:
            _KINDS.append(cls)
        if "key" in cls.__dict__:
            _BY_KEY[cls.key] = cls

    @property
    def parameter(self) -> float:
        """The exponent of a power cone; others have none."""
        return 0.0

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
        rows = _integer(self.rows, self.fewest, f"{type(self).__name__}: expected a number of rows")
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


@dataclass(frozen=True)
class PSD(Cone):
    """The positive semidefinite matrices of an order, as vectors: `gpudiff.svec`. It is its own dual.

    Args:
        order: k; the cone has k(k+1)/2 rows.

    Raises:
        ConeError: `order` is not an integer of at least 1.
    """

    order: int
    rows: int = field(init=False, repr=False)
    code = 3
    key = "s"

    def __post_init__(self) -> None:
        order = _integer(self.order, 1, "PSD: expected an order")
        object.__setattr__(self, "order", order)
        object.__setattr__(self, "rows", order * (order + 1) // 2)

    @classmethod
    def from_entry(cls, numbers: list[Any]) -> list[Cone]:
        """One cone for each order; a single zero stands for none, as in SCS."""
        return [] if numbers == [0] else [cls(order) for order in numbers]


@dataclass(frozen=True)
class _Triples(Cone):
    """Several equal cones of three rows, one behind the other."""

    count: int = 1
    rows: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        count = _integer(self.count, 0, f"{type(self).__name__}: expected a number of cones")
        object.__setattr__(self, "count", count)
        object.__setattr__(self, "rows", 3 * count)

    @classmethod
    def from_entry(cls, numbers: list[Any]) -> list[Cone]:
        """One entry, the number of cones."""
        if len(numbers) > 1:
            raise ConeError(f"{cls.__name__}: expected one number of cones, got {numbers!r}")
        return [cls(count) for count in numbers if count != 0]


class Exponential(_Triples):
    """`count` exponential cones cl{(x, y, z): y > 0, y·exp(x/y) ≤ z}.

    Raises:
        ConeError: `count` is not an integer of at least 0.
    """

    code = 4
    key = "ep"


class DualExponential(_Triples):
    """`count` duals of the exponential cone, cl{(u, v, w): u < 0, −u·exp(v/u) ≤ e·w}.

    Raises:
        ConeError: `count` is not an integer of at least 0.
    """

    code = 5
    key = "ed"


@dataclass(frozen=True)
class Power(Cone):
    """The power cone {(x, y, z): xᵅ y¹⁻ᵅ ≥ |z|, x ≥ 0, y ≥ 0}.

    Args:
        alpha: α.

    Raises:
        ConeError: `alpha` is not a number from 1e-6 to 1 − 1e-6.
    """

    alpha: float
    rows: int = field(init=False, repr=False, default=3)
    code = 6
    key = "p"

    def __post_init__(self) -> None:
        expected = f"{type(self).__name__}: expected an exponent from 1e-6 to 1 - 1e-6, got {self.alpha!r}"
        try:
            alpha = float(self.alpha)
        except (TypeError, ValueError) as error:
            raise ConeError(expected) from error
        if not SMALLEST_ALPHA <= alpha <= 1 - SMALLEST_ALPHA:
            raise ConeError(expected)
        object.__setattr__(self, "alpha", alpha)

    @property
    def parameter(self) -> float:
        """α."""
        return self.alpha

    @classmethod
    def from_entry(cls, numbers: list[Any]) -> list[Cone]:
        """One cone for each exponent, where a negative one stands for the dual cone; a single zero for none."""
        if numbers == [0]:
            return []
        return [DualPower(-alpha) if _negative(alpha) else Power(alpha) for alpha in numbers]


class DualPower(Power):
    """The dual of the power cone, {(u, v, w): (u/α)ᵅ (v/(1−α))¹⁻ᵅ ≥ |w|, u ≥ 0, v ≥ 0}; as `Power` otherwise.

    Raises:
        ConeError: `alpha` is not a number from 1e-6 to 1 − 1e-6.
    """

    code = 7


def _negative(alpha: Any) -> bool:
    return isinstance(alpha, SupportsFloat) and float(alpha) < 0


def _integer(value: Any, fewest: int, expected: str) -> int:
    """An integer of at least `fewest`.

    Raises:
        ConeError: it is none; the message begins with what was expected.
    """
    message = f"{expected}, an integer of at least {fewest}, got {value!r}"
    try:
        number = operator.index(value)
    except TypeError as error:
        raise ConeError(message) from error
    if isinstance(value, bool) or number < fewest:
        raise ConeError(message)
    return number


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
    linear = all(isinstance(cone, Zero | Nonnegative) for cone in cones)
    return Product(cones, sum(cone.rows for cone in cones), linear)


def as_product(cones: Any) -> Product:
    """Read a list of cones or an SCS-style dict.

    Args:
        cones: iterable of cones, in the order of the rows of A, b, s and y; or a dict with the keys of SCS and diffcp,
            `{"z": rows, "l": rows, "q": [rows, …], "s": [order, …], "ep": count, "ed": count, "p": [alpha, …]}`, whose
            rows come in that order; a negative exponent stands for a dual power cone.

    Raises:
        ConeError: anything else, or a key that is unknown.
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
    return ", ".join(cone.__name__ for cone in _KINDS)


def _from_dict(entries: Mapping[Any, Any]) -> Iterable[Cone]:
    for key in entries:
        if key not in _BY_KEY:
            known = ", ".join(map(repr, _BY_KEY))
            raise ConeError(f"cones[{key!r}]: unknown key; expected keys among {known}")
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
