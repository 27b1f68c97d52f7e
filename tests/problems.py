"""Problems with known answers: random families whose solution is planted, and hard ones.

A planted problem starts from its solution: x at random, s and y complementary with a margin, then b = A x + s and
q = −P x − Aᵀy. The answer is thus known to rounding and no solver needs to be believed. `WELL_POSED` families have a
unique, strictly complementary solution whose residual map has a Jacobian of condition below 1e5; `HARD` ones lack one
of these in a known way and say what is still to be expected.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import reference
import reference_cones

import gpudiff as gd

Array = np.ndarray
Cones = list[tuple[str, int]]
Z, N, Q = "zero", "nonnegative", "soc"
S, E, ED = "psd", "exp", "dual exp"  # and "power α", "dual power α"


@dataclass(frozen=True, eq=False)
class Problem:
    """One problem, or a batch of them along a leading axis of every array; x, y, s, obj are None where not unique."""

    P: Array | None
    q: Array
    A: Array
    b: Array
    cones: Cones
    x: Array | None = None
    y: Array | None = None
    s: Array | None = None
    obj: Array | None = None
    status: str = "SOLVED"
    note: str = field(default="", compare=False)

    @property
    def data(self) -> tuple[Array | None, Array, Array, Array]:
        return self.P, self.q, self.A, self.b

    @property
    def gd_cones(self) -> list:
        return gd_cones(self.cones)

    @property
    def args(self) -> tuple:
        """The positional arguments of `gpudiff.solve`."""
        return *self.data, self.gd_cones

    def item(self, i: int) -> Problem:
        """Problem i of a batch."""
        taken = {k: v if (v := getattr(self, k)) is None else v[i] for k in ("P", "q", "A", "b", "x", "y", "s", "obj")}
        return replace(self, **taken)

    def items(self) -> Iterator[Problem]:
        return (self.item(i) for i in range(len(self.q)))

    def astype(self, dtype) -> Problem:
        """The data in another precision (the planted answer is no longer exact, so it is dropped)."""
        P, q, A, b = (None if a is None else a.astype(dtype) for a in self.data)
        return Problem(P, q, A, b, self.cones)


def gd_cones(cones: Cones) -> list:
    classes = {Z: gd.Zero, N: gd.Nonnegative, Q: gd.SecondOrder, S: lambda rows: gd.PSD(reference_cones.order(rows))}
    classes |= {E: lambda rows: gd.Exponential(rows // 3), ED: lambda rows: gd.DualExponential(rows // 3)}

    def cone(kind: str, rows: int):
        if kind in classes:
            return classes[kind](rows)
        return (gd.DualPower if kind.startswith("dual") else gd.Power)(float(reference_cones.alpha(kind)))

    return [cone(kind, rows) for kind, rows in cones]


def dual_kind(kind: str) -> str:
    """The kind of the dual cone; the zero cone's has none."""
    if kind in (N, Q, S):
        return kind
    return kind[5:] if kind.startswith("dual") else f"dual {kind}"


def scales_as_one(kind: str) -> bool:
    """Whether all rows of a cone have to be in the same units."""
    return kind not in (Z, N)


def stack(problems: list[Problem]) -> Problem:
    """A batch of problems of the same shape."""

    def joined(name: str):
        values = [getattr(p, name) for p in problems]
        return None if any(v is None for v in values) else np.stack(values)

    return replace(problems[0], **{name: joined(name) for name in ("P", "q", "A", "b", "x", "y", "s", "obj")})


def generator(*key: str | int) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(k.encode()) if isinstance(k, str) else k for k in key])


# ---- planted problems ------------------------------------------------------------------------------------------------


def psd(rng: np.random.Generator, n: int, rank: int) -> Array:
    """A random PSD matrix of this rank with nonzero eigenvalues in [0.5, 2], bitwise symmetric."""
    basis = np.linalg.qr(rng.standard_normal((n, n)))[0][:, :rank]
    P = basis @ np.diag(rng.uniform(0.5, 2, rank)) @ basis.T
    return (P + P.T) / 2


def unit(rng: np.random.Generator, k: int) -> Array:
    u = rng.standard_normal(k)
    return u / np.linalg.norm(u)


def inside_soc(rng: np.random.Generator, k: int) -> Array:
    """A point well inside the second-order cone."""
    direction = unit(rng, k - 1) * rng.uniform(0, 0.7) if k > 1 else np.zeros(0)
    return rng.uniform(0.5, 2) * np.concatenate([[1.0], direction])


def inside(rng: np.random.Generator, cones: Cones) -> Array:
    """A point well inside K, but for the zero cones, where there is only 0."""
    parts = {Z: np.zeros, N: lambda k: rng.uniform(0.5, 2, k), Q: lambda k: inside_soc(rng, k)}
    return np.concatenate([parts[kind](k) if kind in parts else inside_other(rng, kind, k) for kind, k in cones])


def inside_other(rng: np.random.Generator, kind: str, k: int) -> Array:
    """A point well inside a PSD cone or a cone of three rows: the sum of two of K and one of K*, which is no worse."""
    if kind == S:
        basis = np.linalg.qr(rng.standard_normal((reference_cones.order(k),) * 2))[0]
        return gd.svec(basis @ np.diag(rng.uniform(0.5, 2, len(basis))) @ basis.T)
    return sum(surface_pair(rng, kind)[0] for _ in range(3)) + np.array(
        [-0.3, 0.3, 0.3] if "exp" in kind else [1, 1, 0]
    )


def surface_pair(rng: np.random.Generator, kind: str) -> tuple[Array, Array]:
    """Complementary points of the surfaces of a cone of three rows and of its dual."""
    s, y = rng.uniform(0.5, 2, 2)
    if "exp" in kind:
        ratio = rng.uniform(-1.5, 1.5)
        point, normal = np.array([ratio, 1, np.exp(ratio)]), np.array([-1, ratio - 1, np.exp(-ratio)])
    else:
        a = float(reference_cones.alpha(kind))
        x = rng.uniform(0.5, 2, 2)
        tip = x[0] ** a * x[1] ** (1 - a) * rng.choice([-1, 1])
        point, normal = np.array([*x, tip]), np.array([a / x[0], (1 - a) / x[1], -1 / tip])
    return (y * normal, s * point) if kind.startswith("dual") else (s * point, y * normal)


def pair(rng: np.random.Generator, kind: str, k: int, active: int, state: str) -> tuple[Array, Array]:
    """Complementary (s, y) of one cone: `active` rows of a nonnegative cone, a state of any other."""
    s, y = np.zeros(k), np.zeros(k)
    if kind == Z:
        y = rng.standard_normal(k)
    elif kind == N:
        rows = rng.permutation(k)
        y[rows[:active]] = rng.uniform(0.5, 2, active)
        s[rows[active:]] = rng.uniform(0.5, 2, k - active)
    elif state == "inside" or (state == "surface" and k == 1):
        s = inside(rng, [(kind, k)])
    elif state == "tip":
        y = inside(rng, [(dual_kind(kind), k)])
    elif state == "face":  # of the exponential cone: y = 0
        on_face, across = (
            np.array([-rng.uniform(0.5, 2), 0, rng.uniform(0.5, 2)]),
            np.array([0, rng.uniform(0.5, 2), 0]),
        )
        s, y = (across, on_face) if kind == ED else (on_face, across)
    elif kind == S:
        basis = np.linalg.qr(rng.standard_normal((reference_cones.order(k),) * 2))[0]
        rank = int(state.split()[1]) if state.startswith("rank") else len(basis) // 2
        values = np.full(len(basis), 1.5) if "equal" in state else rng.uniform(0.5, 2, len(basis))
        s = gd.svec(basis[:, :rank] @ np.diag(values[:rank]) @ basis[:, :rank].T)
        y = gd.svec(basis[:, rank:] @ np.diag(values[rank:]) @ basis[:, rank:].T)
    elif kind != Q:
        s, y = surface_pair(rng, kind)
    else:
        u = unit(rng, k - 1)
        s = rng.uniform(0.5, 2) * np.concatenate([[1.0], u])
        y = rng.uniform(0.5, 2) * np.concatenate([[1.0], -u])
    return s, y


def planted(
    rng: np.random.Generator, n: int, cones: Cones, rank: int | None, active: int = 0, states: tuple[str, ...] = ()
) -> Problem:
    """One planted problem; `rank` of P (None: no P), active nonnegative rows in all, a state for each other cone but
    the zero cones ("surface" where they run out)."""
    m = sum(k for _, k in cones)
    P = None if rank is None else psd(rng, n, rank)
    total = sum(k for kind, k in cones if kind == N)
    chosen = np.zeros(total, dtype=bool)
    chosen[rng.permutation(total)[:active]] = True
    parts, row, state = [], 0, iter(states)
    for kind, k in cones:
        count = int(chosen[row : row + k].sum()) if kind == N else 0
        row += k if kind == N else 0
        parts.append(pair(rng, kind, k, count, next(state, "surface") if kind not in (Z, N) else ""))
    s = np.concatenate([p[0] for p in parts]) if parts else np.zeros(0)
    y = np.concatenate([p[1] for p in parts]) if parts else np.zeros(0)
    x = rng.standard_normal(n)
    A = rng.standard_normal((m, n)) / np.sqrt(n)
    return from_answer(P, A, cones, x, y, s)


def from_answer(P: Array | None, A: Array, cones: Cones, x: Array, y: Array, s: Array) -> Problem:
    """The problem with this P and A that (x, y, s) solves."""
    Px = np.zeros_like(x) if P is None else P @ x
    q = -Px - A.T @ y
    return Problem(P, q, A, A @ x + s, cones, x, y, s, np.asarray(x @ Px / 2 + q @ x))


def well_conditioned(build: Callable[[np.random.Generator], Problem], rng: np.random.Generator) -> Problem:
    """Draw until the Jacobian of the residual map has a condition number below 1e5."""
    for _ in range(100):
        problem = build(rng)
        if np.linalg.cond(reference.jacobian(problem, problem.y - problem.s).astype(float)) < 1e5:
            return problem
    raise RuntimeError("this family is not well-posed")


EVERY: Cones = [
    (E, 3),
    (Q, 4),
    ("power 0.3", 3),
    (N, 4),
    (S, 6),
    (Z, 2),
    (ED, 3),
    ("dual power 0.7", 3),
    (S, 3),
    (N, 3),
]
EVERY += [(Q, 3), (E, 3), ("power 0.8", 3)]

# name: n, cones, rank of P (None: absent), active nonnegative rows, state of each cone but zero and nonnegative ones
WELL_POSED: dict[str, tuple] = {
    "qp": (8, [(N, 16)], 8, 4),
    "qp with equalities": (16, [(Z, 4), (N, 32)], 16, 6),
    "qp, singular P": (8, [(N, 16)], 4, 6),
    "qp, P = 0": (5, [(N, 10)], 0, 5),
    "lp": (5, [(N, 12)], None, 5),
    "lp with equalities": (7, [(Z, 3), (N, 14)], None, 4),
    "qp with equalities, singular P": (8, [(Z, 4), (N, 8)], 4, 2),
    "socp with equalities": (8, [(Z, 5), (Q, 4)], None, 0, ("surface",)),
    "equalities only": (9, [(Z, 5)], 9, 0),
    "unconstrained": (6, [], 6, 0),
    "one variable": (1, [(N, 1)], 1, 1),
    "tall": (3, [(N, 100)], 3, 2),
    "wide": (30, [(N, 3), (Z, 2)], 30, 2),
    "socp": (10, [(Q, 10), (Q, 10), (Q, 10)], None, 0, ("surface",) * 3),
    "soc of 20": (6, [(Q, 20)], 6, 0, ("surface",)),
    "soc of 1": (4, [(Q, 1), (Q, 1), (Q, 1), (Q, 1)], 4, 0, ("tip", "inside", "tip", "inside")),
    "soc of 2": (5, [(Q, 2), (Q, 2), (Q, 2)], 5, 0, ("surface", "tip", "inside")),
    "soc, slack at the tip": (8, [(Q, 3), (Q, 4)], 8, 0, ("tip", "surface")),
    "soc, multiplier at the tip": (6, [(Q, 4), (Q, 3)], 6, 0, ("inside", "inside")),
    "many small cones": (8, [(Q, 3)] * 10, 8, 0, ("surface", "inside") * 5),
    "mixed": (7, [(Q, 3), (N, 4), (Z, 2), (Q, 5), (N, 3), (Q, 1)], 7, 2, ("surface", "surface", "inside")),
    "mixed, zero cone last": (9, [(N, 5), (Q, 2), (Q, 4), (Z, 2)], 9, 3, ("surface", "surface")),
    "mixed, no P": (6, [(N, 4), (Q, 5), (Z, 2), (N, 3)], None, 2, ("surface",)),
    "sdp": (9, [(S, 15)], None, 0, ("rank 2",)),
    "sdp of order 8": (20, [(S, 36)], None, 0, ("rank 4",)),
    "small psd cones": (
        8,
        [(S, 6), (S, 1), (S, 3), (S, 10), (S, 1)],
        8,
        0,
        ("rank 1", "tip", "rank 1", "rank 3", "inside"),
    ),
    "psd, at either tip": (9, [(S, 6), (S, 10), (S, 3)], 9, 0, ("tip", "inside", "rank 1")),
    "psd, equal eigenvalues": (4, [(S, 15)], 4, 0, ("rank 3 equal",)),
    "exponential": (8, [(E, 3)] * 6, None, 0),
    "exponential, anywhere": (8, [(E, 3)] * 5, 8, 0, ("surface", "inside", "tip", "face", "surface")),
    "dual exponential": (5, [(ED, 3)] * 4, None, 0),
    "dual exponential, anywhere": (8, [(ED, 3)] * 5, 8, 0, ("surface", "inside", "tip", "face", "surface")),
    "power": (6, [("power 0.5", 3), ("power 0.2", 3), ("power 0.9", 3), ("power 0.6", 3)], None, 0),
    "power, anywhere": (5, [("power 0.3", 3)] * 3 + [("power 0.5", 3)], 5, 0, ("surface", "inside", "tip", "surface")),
    "power, extreme exponents": (4, [("power 0.01", 3), ("power 0.99", 3), ("dual power 0.99", 3)], 4, 0),
    "dual power": (6, [("dual power 0.4", 3), ("dual power 0.8", 3), ("dual power 0.15", 3)], 6, 0),
    "every cone": (20, EVERY, 20, 4),
    "every cone, no P": (20, EVERY, None, 4),
}


def well_posed(name: str, batch: int = 8, seed: int = 0) -> Problem:
    """A batch of a well-posed family."""
    n, cones, rank, active, *states = WELL_POSED[name]
    rng = generator(name, seed)

    def build(rng: np.random.Generator) -> Problem:
        return planted(rng, n, list(cones), rank, active, *states)

    return stack([well_conditioned(build, rng) for _ in range(batch)])


def feasible_qps(rng: np.random.Generator, batch: int, n: int = 5, cones: Cones | None = None) -> Problem:
    """QPs that share P, A and b and differ in q; x = 0 is strictly feasible but for the equalities, where b = 0."""
    cones = [(Z, 1), (N, 6), (Q, 3)] if cones is None else cones
    m = sum(k for _, k in cones)
    b = inside(rng, cones)
    A = rng.standard_normal((m, n))
    return Problem(psd(rng, n, n), 3 * rng.standard_normal((batch, n)), A, b, cones)


def varied_qps(rng: np.random.Generator, batch: int, shared: tuple[str, ...] = ()) -> tuple[Problem, Problem]:
    """The same strictly feasible problems twice: with these arguments shared, and with all of them expanded."""
    base = feasible_qps(rng, batch)
    n, m = base.q.shape[1], base.b.size
    data = {
        "P": base.P + np.eye(n) * rng.uniform(0, 1, (batch, 1, 1)),
        "q": base.q,
        "A": base.A + 0.1 * rng.standard_normal((batch, m, n)),
        "b": base.b * rng.uniform(0.9, 1.1, (batch, 1)),
    }
    data |= {name: data[name][0] for name in shared}
    full = {k: np.array(np.broadcast_to(v, (batch, *v.shape))) if k in shared else v for k, v in data.items()}
    return Problem(**data, cones=base.cones), Problem(**full, cones=base.cones)


# ---- hard problems ---------------------------------------------------------------------------------------------------


def scaled(problem: Problem, rows: Array, columns: Array, cost: float = 1.0) -> Problem:
    """The same problem in other units: D A E, and the objective times `cost`; D constant on each second-order cone."""
    P = None if problem.P is None else cost * columns[:, None] * problem.P * columns
    return Problem(
        P,
        cost * columns * problem.q,
        rows[:, None] * problem.A * columns,
        rows * problem.b,
        problem.cones,
        problem.x / columns,
        cost * problem.y / rows,
        rows * problem.s,
        cost * problem.obj,
    )


def row_scales(rng: np.random.Generator, cones: Cones, decades: float) -> Array:
    """Factors of 10^±decades, one per row, one for all rows of a cone that would not stay one otherwise."""
    parts = [10 ** rng.uniform(-decades, decades, 1 if scales_as_one(kind) else k) * np.ones(k) for kind, k in cones]
    return np.concatenate(parts)


def badly_scaled(rng: np.random.Generator, name: str) -> Problem:
    problem = well_posed(name, 1, int(rng.integers(1 << 30))).item(0)
    n = problem.q.size
    rows, columns = row_scales(rng, problem.cones, 4), 10 ** rng.uniform(-4, 4, n)
    return replace(scaled(problem, rows, columns), note="scaled")


def cost_scaled(rng: np.random.Generator, name: str, cost: float) -> Problem:
    problem = well_posed(name, 1, int(rng.integers(1 << 30))).item(0)
    return scaled(problem, np.ones(problem.b.size), np.ones(problem.q.size), cost)


def redundant_equalities(rng: np.random.Generator) -> Problem:
    """Equalities repeated, and their sum: x is unique, y is not."""
    p = well_posed("qp with equalities", 1, int(rng.integers(1 << 30))).item(0)
    A, b = p.A[:4], p.b[:4]
    more_A, more_b = np.vstack([A[:2], A.sum(0)]), np.concatenate([b[:2], [b.sum()]])
    cones = [(Z, 7), (N, 32)]
    return Problem(
        p.P, p.q, np.vstack([A, more_A, p.A[4:]]), np.concatenate([b, more_b, p.b[4:]]), cones, x=p.x, obj=p.obj
    )


def redundant_inequalities(rng: np.random.Generator) -> Problem:
    """Every inequality twice."""
    p = well_posed("qp", 1, int(rng.integers(1 << 30))).item(0)
    return Problem(p.P, p.q, np.vstack([p.A, p.A]), np.concatenate([p.b, p.b]), [(N, 32)], x=p.x, obj=p.obj)


def weakly_active(rng: np.random.Generator) -> Problem:
    """A QP with three rows where s = y = 0."""
    p = planted(rng, 8, [(N, 16)], 8, 3)
    s = p.s.copy()
    s[np.flatnonzero(s)[:3]] = 0
    return from_answer(p.P, p.A, p.cones, p.x, p.y, s)


def weakly_active_soc(rng: np.random.Generator) -> Problem:
    """Second-order cones with s = y = 0, s on the surface with y = 0, and y on the surface with s = 0."""
    p = planted(rng, 10, [(Q, 3)] * 3, 10, 0, ("tip", "surface", "surface"))
    s, y = p.s.copy(), p.y.copy()
    y[:3] = 0
    y[3:6] = 0
    s[6:] = 0
    return from_answer(p.P, p.A, p.cones, p.x, y, s)


def degenerate_lp(rng: np.random.Generator) -> Problem:
    """A vertex where more rows meet than there are variables: x is unique, y is not."""
    p = planted(rng, 4, [(N, 12)], None, 4)
    s = p.s.copy()
    s[np.flatnonzero(s)[:3]] = 0
    return replace(from_answer(None, p.A, p.cones, p.x, p.y, s), y=None)


def optimal_face(rng: np.random.Generator) -> Problem:
    """An LP whose optimal set is a face: fewer active rows with multipliers than variables."""
    p = planted(rng, 4, [(N, 8)], None, 2)
    box = np.vstack([p.A, np.eye(4), -np.eye(4)])
    b = np.concatenate([p.b, p.x + 10, 10 - p.x])
    return Problem(None, p.q, box, b, [(N, 16)], obj=p.obj)


def flat_objective(rng: np.random.Generator) -> Problem:
    """P of rank 2 in 8 variables and two active rows: x is not unique, its objective is."""
    p = planted(rng, 8, [(N, 16)], 2, 2)
    box = np.vstack([p.A, np.eye(8), -np.eye(8)])
    b = np.concatenate([p.b, p.x + 10, 10 - p.x])
    return Problem(p.P, p.q, box, b, [(N, 32)], obj=p.obj)


def huge_bounds(rng: np.random.Generator) -> Problem:
    """A QP in a box of ±1e10."""
    p = well_posed("qp", 1, int(rng.integers(1 << 30))).item(0)
    n = p.q.size
    A, b = np.vstack([p.A, np.eye(n), -np.eye(n)]), np.concatenate([p.b, np.full(2 * n, 1e10)])
    y = np.concatenate([p.y, np.zeros(2 * n)])
    return Problem(p.P, p.q, A, b, [(N, b.size)], p.x, y, b - A @ p.x, p.obj)


def no_interior(rng: np.random.Generator) -> Problem:
    """Equalities written as pairs of inequalities."""
    p = well_posed("qp with equalities", 1, int(rng.integers(1 << 30))).item(0)
    A, b = np.vstack([-p.A[:4], p.A]), np.concatenate([-p.b[:4], p.b])
    return Problem(p.P, p.q, A, b, [(N, 40)], x=p.x, obj=p.obj)


def single_point_box(rng: np.random.Generator) -> Problem:
    """Lower bounds equal to upper bounds."""
    n, x = 5, rng.standard_normal(5)
    P, q = psd(rng, n, n), rng.standard_normal(n)
    A, b = np.vstack([np.eye(n), -np.eye(n)]), np.concatenate([x, -x])
    return Problem(P, q, A, b, [(N, 2 * n)], x=x, obj=np.asarray(x @ P @ x / 2 + q @ x))


def single_point_equalities(rng: np.random.Generator) -> Problem:
    """As many equalities as variables, and slack inequalities."""
    return well_conditioned(lambda rng: planted(rng, 5, [(Z, 5), (N, 6)], None, 0), rng)


def single_point_ball(rng: np.random.Generator) -> Problem:
    """A second-order cone that asks ‖x − c‖ ≤ 0."""
    n, x = 4, rng.standard_normal(4)
    P, q = psd(rng, n, n), rng.standard_normal(n)
    A, b = np.vstack([np.zeros(n), -np.eye(n)]), np.concatenate([[0.0], -x])
    return Problem(P, q, A, b, [(Q, n + 1)], x=x, obj=np.asarray(x @ P @ x / 2 + q @ x))


def weakly_active_matrix(rng: np.random.Generator) -> Problem:
    """A PSD cone of order 5 whose slack has rank 2 and whose multiplier has rank 2: one direction is free of both."""
    p = planted(rng, 8, [(S, 15), (N, 3)], 8, 1, ("rank 2",))
    basis = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    s, y = p.s.copy(), p.y.copy()
    s[:15] = gd.svec(basis[:, :2] @ basis[:, :2].T)
    y[:15] = gd.svec(basis[:, 3:] @ basis[:, 3:].T)
    return from_answer(p.P, p.A, p.cones, p.x, y, s)


def flat_matrix(rng: np.random.Generator) -> Problem:
    """A PSD cone of order 3 in which an equality asks a diagonal entry to be 0: no strict interior."""
    n, d = 6, np.array([1.0, 0, 0, 2, 0.5, 1])  # X = x as a vector; its first row and column have to vanish
    target = np.concatenate([[0, 0, 0], d[3:]])
    A = np.vstack([np.eye(n)[:1], -np.eye(n)])
    return Problem(
        np.eye(n), -target, A, np.zeros(1 + n), [(Z, 1), (S, 6)], x=target, obj=np.asarray(-target @ target / 2)
    )


def entropy_to_the_edge(rng: np.random.Generator) -> Problem:
    """Min Σ cᵢ pᵢ + pᵢ log pᵢ on a simplex, with costs so different that some p are 1e-8 of others."""
    k = 6
    c = rng.uniform(0, 18, k)
    p = np.exp(-c) / np.sum(np.exp(-c))
    # (−tᵢ, pᵢ, 1) ∈ K_exp is tᵢ ≥ pᵢ log pᵢ; x = (p, t)
    A = np.zeros((1 + 3 * k, 2 * k))
    A[0, :k] = 1
    for i in range(k):
        A[1 + 3 * i, k + i] = 1
        A[2 + 3 * i, i] = -1
    b = np.concatenate([[1], np.tile([0.0, 0, 1], k)])
    q = np.concatenate([c, np.ones(k)])
    x = np.concatenate([p, p * np.log(p)])
    return Problem(None, q, A, b, [(Z, 1), *[(E, 3)] * k], x=x, obj=np.asarray(q @ x))


def infeasible(rng: np.random.Generator, cones: Cones, rank: int | None = 6) -> Problem:
    """A planted certificate: y ∈ K* with Aᵀy = 0 and bᵀy = −1."""
    n, m = 6, sum(k for _, k in cones)
    y = inside(rng, [(kind if kind == Z else dual_kind(kind), k) for kind, k in cones])
    y += np.concatenate([(kind == Z) * rng.standard_normal(k) for kind, k in cones])
    A, b = rng.standard_normal((m, n)), rng.standard_normal(m)
    A -= np.outer(y, y @ A) / (y @ y)
    b -= y * (b @ y + 1) / (y @ y)
    P = None if rank is None else psd(rng, n, rank)
    return Problem(P, rng.standard_normal(n), A, b, cones, status="PRIMAL_INFEASIBLE")


def unbounded(rng: np.random.Generator, cones: Cones, rank: int | None = None) -> Problem:
    """A planted ray: P d = 0, −A d ∈ K, qᵀd = −1, from a strictly feasible point."""
    n, m = 6, sum(k for _, k in cones)
    d = rng.standard_normal(n)
    A = rng.standard_normal((m, n))
    A -= np.outer(A @ d + inside(rng, cones), d) / (d @ d)
    q = rng.standard_normal(n)
    q -= d * (q @ d + 1) / (d @ d)
    P = None
    if rank is not None:
        across = np.eye(n) - np.outer(d, d) / (d @ d)
        P = across @ psd(rng, n, rank) @ across
        P = (P + P.T) / 2
    return Problem(P, q, A, A @ rng.standard_normal(n) + inside(rng, cones), cones, status="DUAL_INFEASIBLE")


MIXED: Cones = [(Q, 3), (N, 4), (Z, 2), (Q, 4)]

HARD: dict[str, Callable[[np.random.Generator], Problem]] = {
    "rows and columns scaled by 1e±4, qp": lambda rng: badly_scaled(rng, "qp with equalities"),
    "rows and columns scaled by 1e±4, lp": lambda rng: badly_scaled(rng, "lp"),
    "rows and columns scaled by 1e±4, mixed": lambda rng: badly_scaled(rng, "mixed"),
    "cost times 1e6": lambda rng: cost_scaled(rng, "qp with equalities", 1e6),
    "cost times 1e-6": lambda rng: cost_scaled(rng, "qp with equalities", 1e-6),
    "cost times 1e6, lp": lambda rng: cost_scaled(rng, "lp", 1e6),
    "cost times 1e-6, mixed": lambda rng: cost_scaled(rng, "mixed", 1e-6),
    "redundant equalities": redundant_equalities,
    "redundant inequalities": redundant_inequalities,
    "weakly active": weakly_active,
    "weakly active, soc": weakly_active_soc,
    "degenerate lp": degenerate_lp,
    "optimal face": optimal_face,
    "flat objective": flat_objective,
    "rows and columns scaled by 1e±4, sdp": lambda rng: badly_scaled(rng, "sdp"),
    "rows and columns scaled by 1e±4, exponential": lambda rng: badly_scaled(rng, "exponential"),
    "rows and columns scaled by 1e±4, power": lambda rng: badly_scaled(rng, "power"),
    "rows and columns scaled by 1e±4, every cone": lambda rng: badly_scaled(rng, "every cone"),
    "cost times 1e6, every cone": lambda rng: cost_scaled(rng, "every cone", 1e6),
    "cost times 1e-6, every cone": lambda rng: cost_scaled(rng, "every cone", 1e-6),
    "weakly active, psd": weakly_active_matrix,
    "no strict interior, psd": flat_matrix,
    "entropy to the edge": entropy_to_the_edge,
    "bounds of 1e10": huge_bounds,
    "no strict interior": no_interior,
    "single point, box": single_point_box,
    "single point, equalities": single_point_equalities,
    "single point, ball": single_point_ball,
    "infeasible qp": lambda rng: infeasible(rng, [(Z, 2), (N, 12)]),
    "infeasible lp": lambda rng: infeasible(rng, [(N, 12)], None),
    "infeasible equalities": lambda rng: infeasible(rng, [(Z, 8)]),
    "infeasible socp": lambda rng: infeasible(rng, MIXED, None),
    "infeasible, one soc": lambda rng: infeasible(rng, [(Q, 12)]),
    "infeasible, one psd": lambda rng: infeasible(rng, [(S, 15)]),
    "infeasible, exponential": lambda rng: infeasible(rng, [(E, 3)] * 4, None),
    "infeasible, power": lambda rng: infeasible(
        rng, [("power 0.3", 3), ("dual power 0.6", 3), (ED, 3), ("power 0.5", 3)]
    ),
    "infeasible, every cone": lambda rng: infeasible(rng, EVERY, None),
    "unbounded lp": lambda rng: unbounded(rng, [(N, 12)]),
    "unbounded qp": lambda rng: unbounded(rng, [(Z, 2), (N, 12)], 4),
    "unbounded socp": lambda rng: unbounded(rng, MIXED),
    "unbounded, mixed with P": lambda rng: unbounded(rng, MIXED, 6),
    "unbounded, psd": lambda rng: unbounded(rng, [(S, 15)]),
    "unbounded, exponential": lambda rng: unbounded(rng, [(E, 3)] * 4),
    "unbounded, every cone": lambda rng: unbounded(rng, EVERY),
}


def hard(name: str, batch: int = 8, seed: int = 0) -> Problem:
    """A batch of a hard family."""
    rng = generator(name, seed)
    return stack([HARD[name](rng) for _ in range(batch)])
