"""`gpudiff warmup`: compile the GPU kernels for one problem structure, so that the first solve need not."""

from __future__ import annotations

import argparse
import time

from gpudiff.cli.errors import ExitCode
from gpudiff.cli.problem_file import cones_of
from gpudiff.cli.tables import table

SUMMARY = "compile the GPU kernels for a problem structure ahead"

DESCRIPTION = """\
Compile the GPU kernels for problems of one size and one list of cones, and keep them on disk: the first solve then
finds them. Needs no GPU where --arch names what to compile for; otherwise it is the GPUs that are here.

The folder is GPUDIFF_CACHE_DIR, or gpudiff under XDG_CACHE_HOME, or ~/.cache/gpudiff.
Needs the packages of gpudiff[cuda]: pip install 'gpudiff[cuda]'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gpudiff warmup`."""
    parser.add_argument("--n", type=int, required=True, metavar="N", help="number of variables")
    parser.add_argument(
        "--cones",
        default="{}",
        metavar="JSON",
        help='the cones, such as {"z": 8, "l": 64, "q": [3]} or [["Zero", 8], ["SecondOrder", 3]] (default: no rows)',
    )
    parser.add_argument("--no-P", dest="has_P", action="store_false", help="a linear objective")
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64", help="default: %(default)s")
    parser.add_argument(
        "--method", choices=("ipm", "active_set"), default="ipm", help="that the solves ask for (default: %(default)s)"
    )
    parser.add_argument(
        "--arch", nargs="+", metavar="SM", help="architectures such as sm_90 (default: those of the GPUs that are here)"
    )
    parser.add_argument(
        "--derivatives",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also the kernels of jvp and vjp (default: yes)",
    )


def run(args: argparse.Namespace) -> ExitCode:
    """Compile and print what a kernel takes.

    Raises:
        GpudiffError: an option was refused, a package or a GPU is missing, or a kernel does not compile.
    """
    from gpudiff._progress import Progress  # imported for this command alone, as is the compiler
    from gpudiff.jit.ahead import architectures, count, prepare
    from gpudiff.jit.cache import default_folder

    archs = architectures(args.arch)
    progress = Progress(count(args.derivatives, len(archs)))
    clock = time.perf_counter()
    try:
        done = prepare(
            cones_of(args.cones, "--cones"),
            args.n,
            has_P=args.has_P,
            dtype=args.dtype,
            derivatives=args.derivatives,
            method=args.method,
            arch=archs,
            progress=progress.tick,
        )
    finally:
        progress.close()
    seconds = time.perf_counter() - clock
    rows: list[list[str]] = []
    for kernel in done:
        used = kernel.usage
        taken = ["?", "?"] if used is None else [f"{used.registers}", f"{used.spill_stores + used.spill_loads}"]
        rows.append(
            [
                kernel.specification.kind,
                kernel.arch,
                f"{kernel.plan.group}",
                f"{kernel.plan.level}",
                taken[0],
                f"{kernel.plan.shared_per_block:,}",
                taken[1],
                "cached" if kernel.from_cache else f"{kernel.seconds:.2f}",
            ]
        )
    print(done[0].specification.shape.describe())
    print(table(["kernel", "arch", "group", "level", "registers", "shared bytes", "spill bytes", "seconds"], rows))
    print(f"{len(done)} kernels in {seconds:.1f} s; kept in {default_folder()}")
    return ExitCode.OK
