"""`gpudiff solve FILE.npz`: solve the problem or the stack of problems in a file."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

import gpudiff as gd
from gpudiff.cli import problem_file
from gpudiff.cli.errors import CommandError, ExitCode
from gpudiff.cli.tables import status_table

SUMMARY = "solve the problems in an .npz file"

DESCRIPTION = """\
Solve the problem, or the batch of problems, in an .npz file and write the solutions to another.

FILE.npz is one of
  a QP            q and any of P, G, h, A, b, lb, ub:  minimise ½xᵀPx + qᵀx  s.t.  Gx ≤ h, Ax = b, lb ≤ x ≤ ub
                  (the keys of qpsolvers and its benchmarks)
  a cone program  q, A, b, cones, with or without P:   minimise ½xᵀPx + qᵀx  s.t.  Ax + s = b, s ∈ K
                  cones is JSON text, {"z": 1, "l": 2, "q": [3]} or [["Zero", 1], ["SecondOrder", 3]]
Arrays with one more axis in front are batches; those without are shared by all problems.

The output has x, y, s (cone program) or x, y, z, z_box (QP), obj, status (gpudiff.Status), iterations,
primal_residual, dual_residual and gap.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gpudiff solve`."""
    defaults = gd.Settings()
    parser.add_argument("file", type=Path, metavar="FILE.npz", help="the problem or problems")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="OUT.npz", help="where the solutions go (default: FILE.solution.npz)"
    )
    parser.add_argument(
        "--tol", type=float, metavar="EPS",
        help=f"gap and feasibility tolerance (default: {defaults.tol_feas:g})",
    )  # fmt: skip
    parser.add_argument("--max-iter", type=int, metavar="N", help=f"iteration limit (default: {defaults.max_iter})")
    parser.add_argument("--threads", type=int, metavar="K", help="threads (default: as gpudiff.Settings)")
    parser.add_argument("--backend", default="auto", metavar="NAME", help="see `gpudiff info` (default: %(default)s)")
    parser.add_argument("--float32", action="store_true", help="convert the data to single precision")


def run(args: argparse.Namespace) -> ExitCode:
    """Solve, write and print a summary.

    Raises:
        CommandError: The file is no problem, or the output would overwrite it.
        GpudiffError: The data or an option was refused.
    """
    output = args.output or args.file.with_suffix(".solution.npz")
    if output.suffix != ".npz":
        raise CommandError(f"--output must end in .npz, got {output}")
    if output.resolve() == args.file.resolve():
        raise CommandError(f"--output {output} would overwrite the problem")
    if not output.resolve().parent.is_dir():
        raise CommandError(f"--output {output}: there is no such folder")
    chosen = {"max_iter": args.max_iter, "threads": args.threads}
    chosen |= {"tol_gap_abs": args.tol, "tol_gap_rel": args.tol, "tol_feas": args.tol}
    settings = gd.Settings(**{name: value for name, value in chosen.items() if value is not None})

    problem = problem_file.read(args.file, np.float32 if args.float32 else None)
    if problem.ignored:
        print(f"ignored keys: {', '.join(problem.ignored)}")
    clock = time.perf_counter()
    data: dict[str, Any] = {"P": None, **problem.arrays}
    if problem.cones is None:
        sol = gd.solve_qp(**data, settings=settings, backend=args.backend)
    else:
        sol = gd.solve(**data, cones=problem.cones, settings=settings, backend=args.backend)
    seconds = time.perf_counter() - clock
    problem_file.write(output, sol)

    print(sol)
    print()
    print(status_table(sol.status, sol.iterations))
    print(f"\n{np.size(sol.status):,} problem(s) in {seconds:.4g} s, written to {output}")
    return ExitCode.OK if bool(np.all(sol.ok)) else ExitCode.NOT_SOLVED
