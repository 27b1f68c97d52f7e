"""The hunt for wrong answers: adversarial problems by the million, every claim about them checked.

families.py (with draw.py) draws the problems, check.py judges what is said about them, and run.py is the command,
``python benchmarks/hunt.py``.
"""

from gpudiff.bench.hunt.run import main

__all__ = ["main"]
