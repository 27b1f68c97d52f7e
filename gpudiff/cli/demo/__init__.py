"""`gpudiff demo`: the bootstrap of a constrained regression, solved and differentiated replicate by replicate.

Each replicate draws N patients with replacement and fits, with an intercept β₀,

    minimise ‖y − β₀ − Xβ‖² / 2N   subject to   β ≥ 0,  Σβ ≤ t,

which is one QP of p variables and p + 1 inequalities. All are solved, and every coefficient is differentiated with
respect to t (forward mode) and to the weight of every patient (reverse mode). `bootstrap.py` has the statistics,
`replicates.py` the computation, `check.py` the comparison with Clarabel, `report.py` and `figure.py` the results.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import gpudiff as gd
from gpudiff.cli.demo import bootstrap, check, report
from gpudiff.cli.demo.replicates import constraints, solve_all, toward_bound
from gpudiff.cli.errors import CommandError, ExitCode, require

DEFAULT_BOUND = 60.0
"""Without the bound, Σβ lies between 63 and 76 in 95 % of the replicates: 60 binds in nearly all of them."""

SAMPLE = 500
"""Replicates that Clarabel solves too."""

SUMMARY = "bootstrap of a constrained regression on real data: tables and a picture"

DESCRIPTION = f"""\
Bootstrap of a constrained regression on the diabetes data of scikit-learn (442 patients, 10 measurements).
Every replicate is a QP:  minimise ½βᵀPβ + qᵀβ  subject to  β ≥ 0, Σβ ≤ t.

All replicates are solved and differentiated: dβ/dt by forward mode, dβ/d(weight of each patient) by reverse mode.
The first {SAMPLE} are also given to Clarabel, one thread each, to compare answers, derivatives and speed.
Prints tables of coefficients and of speed, and draws a picture.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gpudiff demo`."""
    parser.add_argument("-r", "--replicates", type=int, default=20_000, metavar="R", help="replicates (%(default)s)")
    parser.add_argument("-t", "--bound", type=float, default=DEFAULT_BOUND, metavar="T", help="Σβ ≤ T (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap draws (%(default)s)")
    parser.add_argument("--threads", type=int, default=None, metavar="K", help="threads (default: as gpudiff.Settings)")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("gpudiff-demo.png"), metavar="PNG", help="picture (%(default)s)"
    )


def run(args: argparse.Namespace) -> ExitCode:
    """Run the demo and print.

    Raises:
        CommandError: An option is out of range, a package of the extra `demo` is missing, or nothing was solved.
    """
    if args.replicates < 2:
        raise CommandError(f"--replicates must be at least 2, got {args.replicates}")
    if not (args.bound > 0 and np.isfinite(args.bound)):
        raise CommandError(f"--bound must be positive and finite, got {args.bound}")
    if args.seed < 0:
        raise CommandError(f"--seed must not be negative, got {args.seed}")
    if args.output.suffix.lower() != ".png":
        raise CommandError(f"--output must end in .png, got {args.output}")
    if not args.output.resolve().parent.is_dir():
        raise CommandError(f"--output {args.output}: there is no such folder")
    settings = gd.Settings() if args.threads is None else gd.Settings(threads=args.threads)
    # Missing packages are to be known before the work, not after it.
    for module in ("sklearn", "tqdm", "matplotlib"):
        require(module, "demo")
    from gpudiff.cli.demo import figure

    data = bootstrap.load_diabetes()
    print(report.problem(data, args.replicates, args.bound, args.seed), flush=True)
    outcome = solve_all(data, args.replicates, args.bound, args.seed, settings)
    print("\n" + report.statuses(outcome))
    if not outcome.solved.any():
        raise CommandError("no replicate was solved", ExitCode.NOT_SOLVED)
    print("\n" + report.coefficients(data, outcome), flush=True)
    comparison = check_sample(data, min(SAMPLE, args.replicates), args.bound, args.seed)
    print("\n" + report.speed(outcome, comparison, settings))
    figure.draw(data, outcome, args.output)
    print(f"\npicture     {args.output}")
    return ExitCode.OK if outcome.solved.all() else ExitCode.NOT_SOLVED


def check_sample(data: bootstrap.Regression, count: int, bound: float, seed: int) -> check.Comparison:
    """Compare the first replicates of the run with Clarabel."""
    A, b, cones = constraints(data.features, bound)
    sample = bootstrap.moments_to_qp(data, bootstrap.draw(data.observations, count, np.random.default_rng(seed)))
    return check.compare(sample.P, sample.q, A, b, cones, toward_bound(data.features))
