"""`gpudiff info`: what could run here."""

from __future__ import annotations

import argparse

import gpudiff as gd
from gpudiff.cli.errors import ExitCode

SUMMARY = "which backends are usable here, and if not, why not"

DESCRIPTION = "Print the version and which backends are usable here, and if one is not, why not."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`gpudiff info` has no options of its own."""


def run(args: argparse.Namespace) -> ExitCode:
    """Print `gpudiff.info()`."""
    found = gd.info()
    print(found)
    return ExitCode.OK if None in found.backends.values() else ExitCode.NO_BACKEND
