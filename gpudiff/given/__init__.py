"""Points that came from anywhere: checked, their multipliers found where they are missing, and differentiated."""

from gpudiff.given.differentiate import differentiate

__all__ = ["differentiate"]
