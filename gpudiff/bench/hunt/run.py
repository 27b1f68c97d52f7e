"""The command of the hunt: draws, solves, checks, counts, and keeps what went wrong.

Round by round, each family draws one batch. Every claim is checked (check.py); where the optimum is unique, x is
compared with that of another method of gpudiff too, and for a few problems of each batch with the benchmark's exact
reference. One problem of each batch is solved alone as well, and its answer checked: single problems go a way of their
own.
The data of a wrong answer are written to a file that ``gpudiff solve`` reads.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import gpudiff as gd
from gpudiff._progress import Progress
from gpudiff.bench import machine, reference
from gpudiff.bench.families import Array, Batch
from gpudiff.bench.hunt.check import GROSS, KINDS, Answer, Verdict, check, compare, normalised, sensitivity
from gpudiff.bench.hunt.draw import Case
from gpudiff.bench.hunt.families import FAMILIES, about
from gpudiff.bench.report import rate, table

COUNT = 1_000_000
SIZE = 256  # problems of a batch, at most
TOLERANCE = 1e-9
MOST_FILES = 5  # of a family
_OTHER = {"auto": "ipm", "active_set": "ipm", "ipm": "active_set"}  # the method that x is compared with
_TIGHT = 1e-12  # its tolerance

Solve = Callable[[Case, Any], tuple[Answer, Any]]


@dataclass
class Tally:
    """What has been found in one family."""

    family: str
    problems: int = 0
    statuses: Counter[str] = field(default_factory=lambda: Counter[str]())
    wrong: int = 0
    gross: int = 0  # of the wrong ones, those beyond 100 times what is allowed
    fallbacks: int = 0
    compared: int = 0  # with another method
    referred: int = 0  # with the exact reference
    seconds: float = 0.0  # of solving alone
    errors: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))  # the largest
    reasons: Counter[str] = field(default_factory=lambda: Counter[str]())
    files: list[str] = field(default_factory=lambda: list[str]())

    def add(self, answer: Answer, verdict: Verdict) -> None:
        """Counts one batch."""
        self.problems += len(answer.status)
        self.statuses.update(gd.Status(int(code)).name for code in answer.status)
        self.wrong += len(verdict.wrong)
        self.gross += int((verdict.excess > GROSS).sum())
        self.reasons.update(verdict.reasons[i].split(" (")[0] for i in verdict.wrong)
        for kind, error in verdict.errors.items():
            if not np.isnan(error).all():
                self.errors[kind] = max(self.errors[kind], min(float(np.nanmax(error)), 1e99))

    def facts(self) -> dict[str, Any]:
        """For the JSON file."""
        return {**vars(self), "statuses": dict(self.statuses), "reasons": dict(self.reasons)}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(
        prog="hunt.py",
        description="Solve random and adversarial QPs by the million, check every answer; exit code 1 if one is wrong.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = found.add_argument
    add("--count", type=int, default=COUNT, help="problems, over all families")
    add("--seed", type=int, default=0, help="seed of the data")
    add("--method", default="auto", choices=tuple(_OTHER), help="of gpudiff")
    add("--families", metavar="LIST", default="all", help="comma-separated names; --list shows them")
    add("--size", type=int, default=SIZE, help="problems of a batch, at most")
    add("--tolerance", type=float, default=TOLERANCE, help="largest relative residual of a solution")
    add("--exact", type=int, default=1, help="problems of each batch compared with the exact reference")
    add("--threads", type=int, help="of gpudiff; by default all that this process may use")
    add("--out", type=Path, default=Path("hunt-failures"), help="folder for the problems answered wrongly")
    add("--json", type=Path, metavar="PATH", help="write all counts to this file")
    add("--list", action="store_true", help="list the families")
    add("--quiet", action="store_true", help="no progress on standard error")
    return found


def main(argv: list[str] | None = None) -> int:
    """Runs the hunt from a command line.

    Returns:
        0; 1 if an answer was wrong; 2 on a wrong argument.
    """
    options = parser().parse_args(argv)
    names = list(FAMILIES) if options.families == "all" else options.families.split(",")
    unknown = sorted(set(names) - set(FAMILIES))
    if unknown or min(options.count, options.size) <= 0:
        why = f"--families: {', '.join(unknown)} not known" if unknown else "--count and --size must be positive"
        print(f"hunt: {why}", file=sys.stderr)
        return 2
    if options.list:
        for name in names:
            print(f"{name:26} {about(name)}")
        return 0
    tallies = hunt(options, names)
    print(text(tallies))
    if options.json:
        facts = {
            "machine": machine.describe(),
            "commit": machine.commit(),
            "versions": {"gpudiff": gd.__version__, **machine.versions(["numpy", "clarabel"])},
            "settings": {name: str(value) for name, value in vars(options).items()},
            "families": [tally.facts() for tally in tallies],
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return 1 if any(tally.wrong for tally in tallies) else 0


def hunt(options: argparse.Namespace, names: list[str], solve: Solve | None = None) -> list[Tally]:
    """Draws rounds of one batch of each family until there are as many problems as asked for.

    Args:
        options: What ``parser`` returns.
        names: Of families.
        solve: Stands in for gpudiff, in tests.

    Returns:
        What was found, by family.
    """
    solve = solve or solver(options.method, options.threads)
    other = None
    if _available(_OTHER[options.method]):
        other = solver(_OTHER[options.method], options.threads, _TIGHT)
    tallies = {name: Tally(name) for name in names}
    progress = Progress(options.count, options.quiet)
    done, round_number = 0, 0
    while done < options.count:
        for name in names:
            rng = np.random.default_rng([options.seed, round_number, *name.encode()])
            case = FAMILIES[name](rng, min(options.size, options.count - done))
            _examine(case, tallies[name], solve, other, options, round_number)
            done += case.batch.size
            progress.tick(name, case.batch.size)
            if done >= options.count:
                break
        round_number += 1
    progress.close()
    return [tally for tally in tallies.values() if tally.problems]


def solver(method: str, threads: int | None, tolerance: float | None = None) -> Solve:
    """One method of gpudiff; what it gives is an answer and the solution, which may start the next solve."""
    tolerances = {} if tolerance is None else dict.fromkeys(("tol_feas", "tol_gap_abs", "tol_gap_rel"), tolerance)
    chosen: dict[str, Any] = {"method": method, "threads": threads, **tolerances}
    settings = gd.Settings(**chosen)

    def solve(case: Case, start: Any) -> tuple[Answer, Any]:
        batch = case.batch
        found = gd.solve(batch.P, batch.q, batch.A, batch.b, batch.cones, settings, warm_start=start)
        return Answer(found.x, found.y, found.s, found.obj, found.status), found

    return solve


def _available(method: str) -> bool:
    try:
        chosen: dict[str, Any] = {"method": method}
        gd.Settings(**chosen)
    except gd.SettingsError:
        return False
    return True


def _examine(
    case: Case, tally: Tally, solve: Solve, other: Solve | None, options: argparse.Namespace, round_number: int
) -> None:
    """One batch: solved, checked, compared, counted; wrong answers written down."""
    batch, start = case.batch, None
    if case.misled:
        earlier = _rolled(case)
        start = solve(earlier, None)[1]
    began = time.perf_counter()
    answer, solution = solve(case, start)
    tally.seconds += time.perf_counter() - began
    verdict = check(case, answer, options.tolerance)
    solved = answer.status == gd.Status.SOLVED
    if other is not None and batch.n:
        against = other(case, None)[0]
        both = solved & (against.status == gd.Status.SOLVED)
        # Of two answers that differ the one with the larger residuals is to blame.
        worse = ~(verdict.residual < check(case, against, options.tolerance).residual)
        tally.compared += _compare(case, answer, verdict, against.x, both, both & worse, "another method's")
    exact, known = _exact(case, solved, options.exact)
    if known.any():
        tally.referred += _compare(case, answer, verdict, exact, known, known, "the exact one")
    _check_alone(case, int(round_number % batch.size), solve, verdict, options.tolerance)
    tally.add(answer, verdict)
    tally.fallbacks += int(solution.work.fallbacks) if solution is not None else 0
    for i in verdict.wrong[: max(0, MOST_FILES - len(tally.files))]:
        tally.files.append(str(_write(options.out, tally.family, round_number, int(i), case, answer, verdict, start)))


def _compare(case: Case, answer: Answer, verdict: Verdict, x: Array, both: Any, judged: Any, whose: str) -> int:
    """Enters the distance from another x into the verdict, and returns for how many problems there was one."""
    distance, bound = compare(case, answer.x, x)
    both = both & np.isfinite(bound)
    for i in np.flatnonzero(both & judged & (distance > bound)):
        bound[i] = max(bound[i], sensitivity(case, answer, int(i)))
    verdict.measure("x", distance, bound, both & judged, f"x differs from {whose}")
    return int(both.sum())


def _check_alone(case: Case, i: int, solve: Solve, verdict: Verdict, tolerance: float) -> None:
    """Solves problem i without a batch axis and enters what is wrong about that answer."""
    P, q, A, b = case.batch.problem(i)
    answer, _ = solve(replace(case, batch=Batch(P, q, A, b, case.batch.cones)), None)
    one = replace(case, batch=case.batch.take(i, i + 1), unit=case.unit[i : i + 1])
    found = check(one, Answer(*(np.asarray(value)[None] for value in vars(answer).values())), tolerance)
    if found.excess[0] > verdict.excess[i]:
        verdict.excess[i], verdict.reasons[i] = found.excess[0], "alone: " + found.reasons[0]


def _rolled(case: Case) -> Case:
    """The problems in another order: each place holds its neighbour's."""

    def roll(array: Array | None, core: int) -> Any:
        return array if array is None or array.ndim == core else np.roll(array, 1, axis=0)

    b = case.batch
    return Case(Batch(roll(b.P, 2), roll(b.q, 1), roll(b.A, 2), roll(b.b, 1), b.cones), case.known, case.unit)


def _exact(case: Case, solved: Any, count: int) -> tuple[Array, Any]:
    """The exact x of the first ``count`` solved problems, and for which of them the reference found it."""
    x, known = np.zeros(case.batch.q.shape), np.zeros(case.batch.size, bool)
    for i in np.flatnonzero(solved)[:count]:
        try:
            with np.errstate(all="ignore"):
                x[i] = case.unit[i] * np.asarray(reference.solve(normalised(case, int(i)), 0).x, float)
            known[i] = True
        except (ArithmeticError, AssertionError, ValueError):  # degenerate: Newton's method has no regular system
            continue
    return x, known


def _write(
    folder: Path, family: str, round_number: int, i: int, case: Case, answer: Answer, verdict: Verdict, start: Any
) -> Path:
    """The data of one problem, what was said about it and what it started from."""
    folder.mkdir(parents=True, exist_ok=True)
    P, q, A, b = case.batch.problem(i)
    arrays: dict[str, Any] = {} if P is None else {"P": P}
    arrays |= {"q": q, "A": A, "b": b, "cones": json.dumps(case.batch.cones), "known": case.known.value}
    arrays |= {"x": answer.x[i], "y": answer.y[i], "s": answer.s[i], "status": answer.status[i]}
    arrays |= {"reason": verdict.reasons[i]}
    if start is not None:
        arrays |= {"start_x": start.x[i], "start_y": start.y[i], "start_s": start.s[i]}
    path = folder / f"{family}-{round_number}-{i}.npz"
    np.savez(path, **arrays)
    return path


def text(tallies: list[Tally]) -> str:
    """The table: one line per family, totals, and where to find what went wrong."""
    short = {"SOLVED": "solved", "PRIMAL_INFEASIBLE": "infeasible", "DUAL_INFEASIBLE": "unbounded"}
    rows: list[tuple[str, ...]] = []
    for t in [*tallies, _total(tallies)]:
        others = {name: count for name, count in t.statuses.items() if name not in short}
        rows.append(
            (
                t.family,
                str(t.problems),
                *(str(t.statuses[name]) for name in short),
                ", ".join(f"{count} {name.lower()}" for name, count in others.items()),
                str(t.fallbacks),
                str(t.wrong),
                str(t.gross),
                *(f"{t.errors[kind]:.0e}" if t.errors[kind] else "" for kind in KINDS),
                rate(t.problems / t.seconds) if t.seconds else "",
            )
        )
    head = ("family", "problems", *short.values(), "otherwise", "fell back", "wrong", "gross", *KINDS, "per second")
    lines = [table(head, rows, left=(0, 5))]
    for t in tallies:
        if t.wrong:
            lines.append(f"{t.family}: " + ", ".join(f"{count} × {why}" for why, count in t.reasons.most_common()))
            lines += [f"  {path}" for path in t.files]
    return "\n".join(lines)


def _total(tallies: list[Tally]) -> Tally:
    found = Tally("all")
    for t in tallies:
        for name in ("problems", "wrong", "gross", "fallbacks", "compared", "referred", "seconds"):
            setattr(found, name, getattr(found, name) + getattr(t, name))
        found.statuses.update(t.statuses)
        found.errors = {kind: max(found.errors[kind], t.errors[kind]) for kind in KINDS}
    return found
