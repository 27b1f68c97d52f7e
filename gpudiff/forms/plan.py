"""Where the rows of forms go: what can be decided once for all problems of the same forms and shapes.

A form says in its `lay` how its rows of A and b are made of its arguments, in which cones they are, and how its own y
and s are made of those of the cone program. All of it is a list of `Link`s, each one

    target[..., at] += factor · source[..., of],

and nothing else is known of a form afterwards. gpudiff/forms/stack.py reads the links forwards for data and tangents,
and backwards for cotangents.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from gpudiff._cones import Cone, Nonnegative, Product, Zero, as_product
from gpudiff._errors import ShapeError
from gpudiff._problem import Array, check_shape, common_batch, show
from gpudiff.forms.base import Form

ALL = slice(None)
At: TypeAlias = tuple[Any, ...]  # an index of the last axes; a None in it is an axis that one of the two sides lacks


class Link(NamedTuple):
    """target[..., at] += factor · source[..., of].

    Attributes:
        at: index of the last axes of the target.
        source: name of an argument; "" is a constant: ones, or the rows of an identity matrix.
        of: index of the last axes of the source; None is all of it.
        factor: what the source is multiplied by.
        first: whether nothing has been added there yet.
        lifted: whether the source lacks the axis of rows and is one row, or the same number in all of them.
    """

    at: At
    source: str
    of: At | None
    factor: float
    first: bool
    lifted: bool


class Field(NamedTuple):
    """How a form's own y or s is made of the y or s of the cone program.

    Attributes:
        shape: of the field, without the batch axis.
        source: "y" or "s".
        links: from rows of the source (`of`) to the field (`at`).
        gaps: where no link leads to, and what stands there.
        square: rows of the source, half of whose sum of squares is subtracted, if any.
    """

    shape: tuple[int, ...]
    source: str
    links: tuple[Link, ...]
    gaps: tuple[tuple[At, float], ...]
    square: slice | None


class Present(NamedTuple):
    """The rows whose bound is finite in some problem: their index, how many, and the others (None: there are none)."""

    rows: Any
    extent: int
    others: Any


class Part(NamedTuple):
    """What rows take from an argument: `factor` times those of its rows; name "" for ones or rows of the identity."""

    name: str
    factor: float = 1.0
    rows: Any = ALL


class Placed:
    """A form in its place: which names its arguments and fields have in the whole problem. Compared by identity.

    Args:
        kind: of form.
        arguments: its own name of each argument → the name in the problem.
        fields: its own name of each field that is wanted → the name in the problem.
        optional: whether it may come without its arguments, and then has no rows.
    """

    __slots__ = ("arguments", "fields", "kind", "optional")

    def __init__(
        self, kind: type[Form], arguments: dict[str, str], fields: dict[str, str], optional: bool = False
    ) -> None:
        self.kind = kind
        self.arguments = arguments
        self.fields = fields
        self.optional = optional


class Plan(NamedTuple):
    """The cone program of a list of forms, up to its numbers.

    Attributes:
        A: links from arguments to the matrix.
        b: links from arguments to the vector.
        whole_A: whether the links lead to all of the matrix,
        whole_b: and to all of the vector.
        arguments: for each argument its links, with 2 for those to the matrix and 1 for those to the vector.
        fields: by name.
        cores: shape of each argument that is there, without the batch axis.
        cones: of the program.
        counts: rows of each form.
        n: number of variables.
        batch: how many problems.
        batched: whether results have a batch axis.
    """

    A: tuple[Link, ...]
    b: tuple[Link, ...]
    whole_A: bool
    whole_b: bool
    arguments: dict[str, list[tuple[int, Link]]]
    fields: dict[str, Field]
    cores: dict[str, tuple[int, ...]]
    cones: Product
    counts: tuple[int, ...]
    n: int
    batch: int
    batched: bool


class Site:
    """Where a form lays its rows; what `Form.lay` is given.

    Args:
        placed: the form.
        sizes: letter of an axis → extent.
        ranks: axes of each argument that is there, by its own name.
        present: rows of bounds that are finite somewhere, by the bounds' own names.
        constants: see `Form.constants`.
        start: the number of its first row.

    Attributes:
        stop: the number of the row after the last one so far.
        product: the cones so far.
        links: to the matrix, and to the vector.
        bare: whether there are rows without a link to the matrix, and to the vector.
        fields: those that are wanted, by their names in the problem.
    """

    def __init__(
        self,
        placed: Placed,
        sizes: dict[str, int],
        ranks: dict[str, int],
        present: dict[str, Present],
        constants: Any,
        start: int,
    ) -> None:
        self.sizes = sizes
        self.constants = constants
        self.start = self.stop = start
        self.product: list[Cone] = []
        self.links: tuple[list[Link], list[Link]] = ([], [])
        self.bare = [False, False]
        self.fields: dict[str, Field] = {}
        self._placed = placed
        self._ranks = ranks
        self._present = present

    def name(self, argument: str) -> str:
        """What an argument is called in messages."""
        return self._placed.arguments[argument]

    def has(self, argument: str) -> bool:
        """Whether an argument is there."""
        return argument in self._ranks

    def present(self, argument: str) -> Present:
        """The rows in which a bound is."""
        return self._present[argument]

    def rows(self, count: int, A: Sequence[Part] = (), b: Sequence[Part] = ()) -> slice:
        """Lay rows: each the sum of its parts, of which those of absent arguments are zero.

        Returns:
            Where they are in the cone program.
        """
        rows = slice(self.stop, self.stop + count)
        self.stop += count
        if count:
            for which, parts in enumerate((A, b)):
                across = (ALL,) if which == 0 else ()
                first = True
                for name, factor, of in parts:
                    if name and name not in self._ranks:
                        continue
                    lifted = bool(name) and self._ranks[name] == len(across)
                    index = (None, *across) if lifted else None if of is ALL else (of, *across)
                    source = self._placed.arguments[name] if name else ""
                    self.links[which].append(Link((rows, *across), source, index, factor, first, lifted))
                    first = False
                self.bare[which] |= first
        return rows

    def cone(self, *cones: Cone) -> None:
        """Say in which cones the rows are that have been laid since the last call."""
        self.product += cones

    def same(self, rows: slice) -> None:
        """Say that the form's y and s are those of its rows."""
        for name in ("y", "s"):
            self.field(name, name, (rows.stop - rows.start,), [((ALL,), rows, 1)])

    def field(
        self,
        name: str,
        source: str,
        shape: tuple[int, ...],
        links: Iterable[tuple[At, slice, float]],
        gaps: Iterable[tuple[At, float]] = (),
        square: slice | None = None,
    ) -> None:
        """Say how the field called `name` is made of y or s, its `source`; links are (where to, rows, factor)."""
        if name in self._placed.fields:
            filled = ((at, rows, factor) for at, rows, factor in links if rows.stop > rows.start)
            made = tuple(Link(at, source, (rows,), factor, False, False) for at, rows, factor in filled)
            self.fields[self._placed.fields[name]] = Field(shape, source, made, tuple(gaps), square)


def make_plan(
    placed: Sequence[Placed],
    arrays: dict[str, Array | None],
    masks: dict[str, Array | bool | None],
    constants: Sequence[Any],
) -> Plan:
    """Check every shape and lay the rows.

    Args:
        placed: the forms.
        arrays: all arguments by name; those of P and q first.
        masks: bounds by name → in which rows they are: all (True), none (False), or a mask; None where there is none.
        constants: of each form, see `Form.constants`.

    Raises:
        ShapeError: an argument is missing or has a wrong shape.
    """
    cost = arrays["q"]
    assert cost is not None
    n = int(cost.shape[-1])
    if arrays["P"] is not None:
        check_shape("P", arrays["P"], (n, n), f"n={n} from q")
    cores: dict[str, tuple[int, ...]] = {"q": (n,)} if arrays["P"] is None else {"P": (n, n), "q": (n,)}
    sites: list[Site] = []
    start = 0
    for form, constant in zip(placed, constants, strict=True):
        sizes, ranks = _sizes(form, arrays, n, constant)
        for own, rank in ranks.items():
            shape = arrays[form.arguments[own]].shape  # pyright: ignore[reportOptionalMemberAccess]
            cores[form.arguments[own]] = shape[len(shape) - rank :]
        present = {own: _present(masks[form.arguments[own]], sizes[form.kind.AXES[own]]) for own in form.kind.INFINITE}
        site = Site(form, sizes, ranks, present, constant, start)
        form.kind.lay(site)
        start = site.stop
        sites.append(site)
    batch, batched = common_batch((name, arrays[name], len(core)) for name, core in cores.items())
    matrix, vector = (tuple(link for site in sites for link in site.links[which]) for which in (0, 1))
    arguments: dict[str, list[tuple[int, Link]]] = {name: [] for name in cores}
    for core, links in ((2, matrix), (1, vector)):
        for link in links:
            if link.source:
                arguments[link.source].append((core, link))
    return Plan(
        A=matrix,
        b=vector,
        whole_A=not any(site.bare[0] for site in sites),
        whole_b=not any(site.bare[1] for site in sites),
        arguments=arguments,
        fields={name: field for site in sites for name, field in site.fields.items()},
        cores=cores,
        cones=as_product(tuple(_merged(cone for site in sites for cone in site.product))),
        counts=tuple(site.stop - site.start for site in sites),
        n=n,
        batch=batch,
        batched=batched,
    )


def _sizes(
    form: Placed, arrays: dict[str, Array | None], n: int, constant: Any
) -> tuple[dict[str, int], dict[str, int]]:
    """Extents by letter, and the axes of each argument that is there, having checked every shape."""
    kind, names = form.kind, form.arguments
    given = {own: array for own, name in names.items() if (array := arrays[name]) is not None}
    missing = [own for own in kind.REQUIRED if own not in given]
    if missing and (given or not form.optional):
        other = next((names[own] for own in kind.REQUIRED if own in given), None)
        why = f", for {other} is given" if other else ""
        raise ShapeError(f"{names[missing[0]]}: expected an array{why}, got None")
    sizes, why = {"n": n}, {"n": f"n={n} from q"}
    if isinstance(constant, Product):
        sizes["m"], why["m"] = constant.rows, f"{constant.rows} rows of the cones"
    ranks: dict[str, int] = {}
    for own in sorted(given, key=lambda own: len(kind.AXES[own])):
        shape, letters = given[own].shape, kind.AXES[own]
        if own in kind.NUMBERS and not shape:
            ranks[own] = 0
            continue
        rank = ranks[own] = len(letters)
        if any(letter not in sizes for letter in letters):
            if not rank <= len(shape) <= rank + 1:
                core = tuple(str(sizes.get(letter, "rows")) for letter in letters)
                raise ShapeError(
                    f"{names[own]}: expected shape {show(core)} or {show(('B', *core))}, got {show(shape)}"
                )
            for letter, extent in zip(letters, shape[len(shape) - rank :], strict=True):
                if letter not in sizes:
                    sizes[letter], why[letter] = extent, f"{extent} rows from {names[own]}"
        reasons = [why[letter] for letter in dict.fromkeys(letters)]
        check_shape(
            names[own], given[own], tuple(sizes[letter] for letter in letters), ", ".join(reasons) or "a number"
        )
    for letters in kind.AXES.values():
        for letter in letters:
            sizes.setdefault(letter, 0)
    return sizes, ranks


def _present(mask: Array | bool | None, extent: int) -> Present:
    if mask is True:
        return Present(ALL, extent, None)
    if mask is None or mask is False:
        return Present(slice(0, 0), 0, ALL if extent else None)
    rows = np.flatnonzero(mask)
    return Present(rows, rows.size, np.flatnonzero(~mask))


def _merged(cones: Iterable[Cone]) -> Iterable[Cone]:
    """The same rows in fewer cones: neighbours of zero or nonnegative ones are one."""
    last: Cone | None = None
    for cone in cones:
        if not cone.rows:
            continue
        if last is not None and type(cone) is type(last) and isinstance(cone, Zero | Nonnegative):
            last = type(cone)(last.rows + cone.rows)
            continue
        if last is not None:
            yield last
        last = cone
    if last is not None:
        yield last
