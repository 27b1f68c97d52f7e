"""What the commands raise for a user to read, and the exit codes these become."""

from __future__ import annotations

import importlib
from enum import IntEnum
from types import ModuleType


class ExitCode(IntEnum):
    """Exit codes of every subcommand; `gpudiff --help` prints this list."""

    OK = 0, "everything was solved"
    NOT_SOLVED = 1, "it ran, but some problems were not solved"
    BAD_INPUT = 2, "bad usage or bad input"
    MISSING_PACKAGE = 3, "an optional package is missing"
    NO_BACKEND = 4, "no backend can run here, or the one asked for cannot"
    INTERRUPTED = 130, "interrupted from the keyboard"

    meaning: str

    def __new__(cls, code: int, meaning: str) -> ExitCode:
        """Make the member an integer that carries its meaning."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member


class CommandError(Exception):
    """A failure to report in one line; carries the exit code of the process."""

    def __init__(self, message: str, code: ExitCode = ExitCode.BAD_INPUT) -> None:
        super().__init__(message)
        self.code = code


def require(module: str, extra: str) -> ModuleType:
    """Import an optional module.

    Raises:
        CommandError: It is not installed; the message gives the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        message = f'the Python module {package} is missing; install it with: pip install "gpudiff[{extra}]"'
        raise CommandError(message, ExitCode.MISSING_PACKAGE) from error
