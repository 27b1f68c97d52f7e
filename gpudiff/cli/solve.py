"""`gpudiff solve FILE`: solve the problem or the stack of problems in a file."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import gpudiff as gd
from gpudiff.cli import model_file, model_report, model_solve, problem_file
from gpudiff.cli.errors import CommandError, ExitCode
from gpudiff.cli.tables import status_table

SUMMARY = "solve the problems in an .npz file, or the one in an MPS, QPS or LP file"

DESCRIPTION = """\
Solve the problem, or the batch of problems, in a file and write the solutions to an .npz file.

FILE is one problem as .mps, .qps or .lp, which may be followed by .gz (read by HiGHS: pip install "gpudiff[files]"),
or an .npz file with one of
  a QP            q and any of P, G, h, A, b, lb, ub:  minimise ½xᵀPx + qᵀx  s.t.  Gx ≤ h, Ax = b, lb ≤ x ≤ ub
                  (the keys of qpsolvers and its benchmarks)
  a cone program  q, A, b, cones, with or without P:   minimise ½xᵀPx + qᵀx  s.t.  Ax + s = b, s ∈ K
                  cones is JSON text, {"z": 1, "l": 2, "q": [3]} or [["Zero", 1], ["SecondOrder", 3]]
Arrays with one more axis in front are batches; those without are shared by all problems.

The output has x, y, s (cone program) or x, y, z, z_box (QP), obj, status (gpudiff.Status), iterations,
primal_residual, dual_residual and gap. For a model file obj is the file's own objective, and with columns, rows and
prices there are the names of both and the derivatives of obj in the rows' right-hand sides.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gpudiff solve`."""
    defaults = gd.Settings()
    parser.add_argument("file", type=Path, metavar="FILE", help="the problem or problems")
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
    parser.add_argument(
        "--method", choices=("auto", "ipm", "active_set"),
        help=f"interior point or active set (default: {defaults.method})",
    )  # fmt: skip
    parser.add_argument("--float32", action="store_true", help="convert the data to single precision")
    parser.add_argument(
        "--top", type=int, default=10, metavar="N",
        help="variables and rows of a model file that are shown (default: %(default)s)",
    )  # fmt: skip


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
    if args.top < 0:
        raise CommandError(f"--top must be at least 0, got {args.top}")
    chosen = {"max_iter": args.max_iter, "threads": args.threads, "method": args.method}
    chosen |= {"tol_gap_abs": args.tol, "tol_gap_rel": args.tol, "tol_feas": args.tol}
    settings = gd.Settings(**{name: value for name, value in chosen.items() if value is not None})

    dtype = np.float32 if args.float32 else None
    model = model_file.read_qp(args.file) if model_file.is_model(args.file) else None
    if model is None:
        problem = problem_file.read(args.file, dtype)
        if problem.ignored:
            print(f"ignored keys: {', '.join(problem.ignored)}")
        data: dict[str, Any] = {"P": None, **problem.arrays}
        clock = time.perf_counter()
        if problem.cones is None:
            sol: Any = gd.solve_qp(**data, settings=settings, backend=args.backend)
        else:
            sol = gd.solve(**data, cones=problem.cones, settings=settings, backend=args.backend)
        seconds = time.perf_counter() - clock
        problem_file.write(output, sol)
        print(sol, status_table(sol.status, sol.iterations), sep="\n\n")
    else:
        print(model_report.describe(model), end="\n\n")
        settings = replace(settings, check_convex=True)  # nobody has looked at P, which the file need not have said
        clock = time.perf_counter()
        sol = model_solve.solve(model, dtype, settings, args.backend, args.file)
        seconds = time.perf_counter() - clock
        problem_file.write(output, sol, **model_report.arrays(model, sol))
        print(model_report.answer(model, sol, args.top))
    print(f"\n{np.size(sol.status):,} problem(s) in {seconds:.4g} s, written to {output}")
    return ExitCode.OK if bool(np.all(sol.ok)) else ExitCode.NOT_SOLVED
