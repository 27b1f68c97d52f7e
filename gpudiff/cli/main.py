"""The entry point of the `gpudiff` command: arguments, dispatch to a subcommand, errors and exit codes."""

from __future__ import annotations

import argparse
import io
import sys
import traceback
from collections.abc import Sequence

import gpudiff as gd
from gpudiff.cli import demo, info, solve, warmup
from gpudiff.cli.errors import CommandError, ExitCode

COMMANDS = {"demo": demo, "solve": solve, "info": info, "warmup": warmup}
BENCH_SUMMARY = "measure speed and accuracy, beside other solvers where they are installed"

EXIT_CODES = "exit codes:\n" + "\n".join(f"  {code.value:<3} {code.meaning}" for code in ExitCode)


def build_parser() -> argparse.ArgumentParser:
    """The parser of `gpudiff` and of its subcommands (except the options of `bench`, which `gpudiff.bench` reads)."""
    parser = argparse.ArgumentParser(
        prog="gpudiff",
        description="Solve and differentiate batches of small convex QPs and cone programs.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"gpudiff {gd.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    for name, module in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=module.DESCRIPTION,
            epilog=EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(command)
        command.add_argument("--debug", action="store_true", help="on an error, print the traceback too")
        command.set_defaults(run=module.run)
    commands.add_parser("bench", help=BENCH_SUMMARY, add_help=False)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: that of the process) and return the exit code.

    Raises:
        SystemExit: `--help`, `--version` (code 0) or bad usage (code 2), as argparse does.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Greek letters shows "?" instead of failing
    debug = "--debug" in arguments
    try:
        if arguments[:1] == ["bench"]:
            from gpudiff.bench import runner  # imported for this command alone: it looks for other solvers

            return int(runner.main(arguments[1:]))
        args = build_parser().parse_args(arguments)
        return int(args.run(args))
    except CommandError as error:
        return fail(str(error), error.code, debug)
    except gd.BackendError as error:
        return fail(str(error), ExitCode.NO_BACKEND, debug)
    except (gd.GpudiffError, OSError) as error:
        return fail(str(error), ExitCode.BAD_INPUT, debug)
    except KeyboardInterrupt:
        return fail("interrupted", ExitCode.INTERRUPTED, debug)


def fail(message: str, code: ExitCode, debug: bool) -> int:
    """Report an error in one line on stderr."""
    if debug:
        traceback.print_exc()
    print(f"gpudiff: error: {' '.join(message.split())}", file=sys.stderr)
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
