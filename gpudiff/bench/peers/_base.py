"""What every peer shares: finding the installed package and its version without importing it at start-up."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any

from gpudiff.bench.families import Array, Batch
from gpudiff.bench.solver import Outcome, only_linear


def load(module: str) -> Any:
    """Imports a peer; its own file here may bear the same name, and it has no types worth checking."""
    return importlib.import_module(module)


class Peer:
    """Defaults for a peer: a QP solver without derivatives, found under its distribution's name."""

    name = ""
    package = ""  # what pip calls it
    module = ""  # what Python calls it
    differentiates = False

    def unavailable(self) -> str | None:
        """None if the peer's module can be imported, otherwise the reason."""
        try:
            load(self.module)
        except Exception as error:  # a broken installation is as unavailable as a missing one
            return f"{type(error).__name__}: {error}"
        return None

    def version(self) -> str:
        """The installed version."""
        return importlib.metadata.version(self.package)

    def supports(self, batch: Batch) -> bool:
        """Equalities and inequalities only, unless a peer says otherwise."""
        return only_linear(batch)

    def settings(self) -> dict[str, Any]:
        """Nothing changed from the defaults, unless a peer says otherwise."""
        return {}


class ForwardOnly:
    """Defaults for the session of a peer that does not differentiate."""

    def forward_backward(self, x_bar: Array) -> Outcome:
        """Not offered.

        Raises:
            NotImplementedError: Always; the runner asks ``differentiates`` first.
        """
        raise NotImplementedError
