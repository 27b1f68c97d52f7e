"""``python -m gpudiff.bench.sparse``: large sparse problems beside Clarabel called directly and beside diffcp.

Parts, each a function that returns rows of a table: what a call costs beyond Clarabel's own time, what a backward
pass costs beside the forward one, forward and backward beside diffcp, an LP of 50,000 variables with its peak memory,
and a batch on threads beside a loop. Accuracy stands beside the times: residuals of the optimality conditions, and the
error of a directional derivative against central differences. Calls that are compared run in turn; a figure is the best
of the repeats, for other work on the machine can only slow a call down.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from gpudiff._clarabel import clarabel_form
from gpudiff._cones import Nonnegative, SecondOrder, Zero, as_product
from gpudiff._settings import Settings
from gpudiff._solve import solve
from gpudiff.bench import sparse_families as families
from gpudiff.bench.families import Array
from gpudiff.bench.sparse_families import SparseCase

_ONE = Settings(threads=1)
_PLAIN = Settings(threads=1, polish=False)

CASES: dict[str, Callable[[], SparseCase]] = {
    "control": lambda: families.mpc(0, 125),
    "random QP": lambda: families.lasso_like(0, 2000, 1000),
    "portfolio": lambda: families.portfolio(0, 1900, 100),
    "dispatch LP": lambda: families.dispatch(0, 40, 50),
    "many norms": lambda: families.many_norms(0, 2000, 500),
    "entropy": lambda: families.entropy(0, 1000, 12),
}
# diffcp has no quadratic objective; its derivative is an iterative least-squares solution of the whole residual map
PEERS = ("dispatch LP", "many norms", "entropy")


def direct(case: SparseCase) -> Any:
    """Clarabel on the same data, in the form that it takes."""
    sparse: Any = import_module("scipy.sparse")

    clarabel: Any = import_module("clarabel")
    form, n = clarabel_form(as_product(case.cones)), case.q.size
    P = sparse.csc_matrix((n, n)) if case.P is None else sparse.triu(case.P, format="csc")
    options = clarabel.DefaultSettings()
    options.verbose = False
    return clarabel.DefaultSolver(P, case.q, form.rows(case.A), form.rows(case.b), form.cones, options).solve()


def best(calls: dict[str, Callable[[], Any]], repeats: int) -> tuple[dict[str, float], dict[str, Any]]:
    """The least time of each call, in turn, and what they returned last."""
    times, found = dict.fromkeys(calls, float("inf")), dict.fromkeys(calls)
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            found[name] = call()
            times[name] = min(times[name], time.perf_counter() - start)
    return times, found


def overhead(repeats: int) -> list[dict[str, Any]]:
    """What gpudiff adds to Clarabel's own time, with and without polish, and what a backward pass costs."""
    rows: list[dict[str, Any]] = []
    for name, make in CASES.items():
        case = make()
        x_bar = np.random.default_rng(0).standard_normal(case.q.size)
        calls = {
            "Clarabel": lambda case=case: direct(case),
            "plain": lambda case=case: solve(*case, _PLAIN, "clarabel"),
            "polished": lambda case=case: solve(*case, _ONE, "clarabel"),
        }
        times, found = best(calls, repeats)
        sol = found["polished"]
        first = [_first_vjp(case, x_bar) for _ in range(repeats)]
        rows.append(
            {
                "case": name,
                "n": case.q.size,
                "m": case.b.size,
                "clarabel_s": times["Clarabel"],
                "plain_overhead": times["plain"] / times["Clarabel"] - 1,
                "polished_overhead": times["polished"] / times["Clarabel"] - 1,
                "backward_over_forward": min(first) / times["polished"],
                "residual": float(max(sol.primal_residual, sol.dual_residual, sol.gap)),
                "derivative_error": derivative_error(case, sol),
            }
        )
    return rows


def _first_vjp(case: SparseCase, x_bar: Array) -> float:
    """Seconds of the first vjp of a fresh solution: what it has to factorise is counted."""
    sol = solve(*case, _ONE, "clarabel")
    start = time.perf_counter()
    sol.vjp(x=x_bar)
    return time.perf_counter() - start


def derivative_error(case: SparseCase, sol: Any) -> float:
    """Of the derivative of x along random tangents of q and b, against central differences, relative."""
    rng = np.random.default_rng(1)
    q, b = rng.standard_normal(case.q.size), rng.standard_normal(case.b.size)
    dot = sol.jvp(q=q, b=b)
    step = min(1e-5, 0.05 * float(sol.margin)) / max(1.0, np.abs(dot.x).max(), np.abs(dot.y).max(), np.abs(dot.s).max())
    ends = [
        solve(case.P, case.q + t * q, case.A, case.b + t * b, case.cones, _ONE, "clarabel").x for t in (step, -step)
    ]
    difference = (ends[0] - ends[1]) / (2 * step)
    return float(np.abs(difference - dot.x).max() / max(1e-300, np.abs(difference).max()))


def beside_diffcp(repeats: int) -> list[dict[str, Any]]:
    """Forward and backward pass of cone programs, gpudiff and diffcp (on Clarabel, derivative by lsqr)."""
    try:
        diffcp: Any = import_module("diffcp")
    except ImportError:
        print("diffcp is not installed: left out", file=sys.stderr)
        return []
    rows: list[dict[str, Any]] = []
    for name in PEERS:
        case = CASES[name]()
        form = _scs_dict(case)
        x_bar = np.random.default_rng(0).standard_normal(case.q.size)
        zero = np.zeros(case.b.size)

        def peer(case: SparseCase = case, form: Any = form, x_bar: Array = x_bar, zero: Array = zero) -> Any:
            x, _, _, _, adjoint = diffcp.solve_and_derivative(
                case.A, case.b, case.q, form, solve_method="CLARABEL", mode="lsqr", verbose=False
            )
            return x, adjoint(x_bar, zero, zero)

        def ours(case: SparseCase = case, x_bar: Array = x_bar) -> Any:
            sol = solve(*case, _ONE, "clarabel")
            return sol.x, sol.vjp(x=x_bar)

        (times, found) = best({"gpudiff": ours, "diffcp": peer, "Clarabel": lambda case=case: direct(case)}, repeats)
        exact, theirs = found["gpudiff"][1], found["diffcp"][1]
        rows.append(
            {
                "case": name,
                "n": case.q.size,
                "m": case.b.size,
                "gpudiff_s": times["gpudiff"],
                "diffcp_s": times["diffcp"],
                "speedup": times["diffcp"] / times["gpudiff"],
                "speedup_without_clarabel": (times["diffcp"] - times["Clarabel"])
                / max(1e-9, times["gpudiff"] - times["Clarabel"]),
                "x_difference": float(np.abs(found["diffcp"][0] - found["gpudiff"][0]).max()),
                # of b's: that of an LP's q is zero at a vertex
                "gradient_difference": float(np.abs(theirs[1] - exact.b).max() / np.abs(exact.b).max()),
            }
        )
    return rows


def _scs_dict(case: SparseCase) -> dict[str, Any]:
    """The cones as diffcp takes them; the families have their rows in its order."""
    found: dict[str, Any] = {}
    for cone in case.cones:
        if isinstance(cone, SecondOrder):
            found.setdefault("q", []).append(cone.rows)
        else:
            key, size = type(cone).key, getattr(cone, "count", cone.rows)
            assert isinstance(cone, Zero | Nonnegative) or key == "ep"
            found[key] = found.get(key, 0) + size
    return found


def large(repeats: int) -> list[dict[str, Any]]:
    """An LP of 50,000 variables: solve, one vjp, and the peak of this process's memory."""
    case = families.dispatch(0, 250, 200)
    before = _peak()
    start = time.perf_counter()
    sol = solve(*case, _ONE)
    middle = time.perf_counter()
    bar = sol.vjp(x=np.ones(case.q.size))
    end = time.perf_counter()
    return [
        {
            "case": "dispatch LP",
            "n": case.q.size,
            "m": case.b.size,
            "entries": case.A.nnz,
            "status": int(sol.status),
            "solve_s": middle - start,
            "vjp_s": end - middle,
            "peak_GB": _peak() / 1e9,
            "before_GB": before / 1e9,
            "residual": float(max(sol.primal_residual, sol.dual_residual)),
            "entries_of_gradient": bar.A.nnz,
        }
    ]


def _peak() -> float:
    """Bytes that this process has held at most."""
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def batch(repeats: int, threads: int = 2, count: int = 64) -> list[dict[str, Any]]:
    """A batch of sparse QPs with data of their own on threads, beside a Python loop over Clarabel."""
    rows: list[dict[str, Any]] = []
    for name, make in (
        ("control", lambda seed: families.mpc(seed, 60)),
        ("random QP", lambda seed: families.lasso_like(seed, 800, 300)),
    ):
        cases = [make(seed) for seed in range(count)]
        q, b = np.stack([case.q for case in cases]), np.stack([case.b for case in cases])
        P, A, cones = [case.P for case in cases], [case.A for case in cases], cases[0].cones
        calls: dict[str, Callable[[], Any]] = {
            "loop": lambda cases=cases: [direct(case) for case in cases],
            "one": lambda P=P, q=q, A=A, b=b, cones=cones: solve(P, q, A, b, cones, _PLAIN, "clarabel"),
        }
        for polish in (False, True):
            settings = Settings(threads=threads, polish=polish)
            calls[f"polish {polish}"] = lambda P=P, q=q, A=A, b=b, cones=cones, settings=settings: solve(
                P, q, A, b, cones, settings, "clarabel"
            )
        times, found = best(calls, repeats)
        rows.append(
            {
                "case": f"{count} × {name}",
                "n": q.shape[1],
                "threads": threads,
                "loop_s": times["loop"],
                "one_thread_speedup": times["loop"] / times["one"],
                "speedup": times["loop"] / times["polish False"],
                "polished_speedup": times["loop"] / times["polish True"],
                "solved": int(found["polish True"].ok.sum()),
            }
        )
    return rows


PARTS: dict[str, Callable[[int], list[dict[str, Any]]]] = {
    "overhead": overhead,
    "diffcp": beside_diffcp,
    "large": large,
    "batch": batch,
}


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as text."""
    if not rows:
        return "(nothing)"
    cells = [list(rows[0])] + [[_show(value) for value in row.values()] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


def _show(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m gpudiff.bench.sparse", description=__doc__)
    parser.add_argument("--parts", default=",".join(PARTS), help="some of the parts")
    parser.add_argument("--repeat", type=int, default=3, help="repeats; the best counts")
    parser.add_argument("--json", type=Path, help="write everything to this file")
    options = parser.parse_args(argv)
    found: dict[str, Any] = {}
    for part in options.parts.split(","):
        if part not in PARTS:
            parser.error(f"--parts: expected some of {', '.join(PARTS)}, got {part!r}")
        found[part] = PARTS[part](options.repeat)
        print(f"\n{part}\n{table(found[part])}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
