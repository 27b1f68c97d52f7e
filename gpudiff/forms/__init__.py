"""Constraints in the user's own words: each form is a few rows of a cone program, exactly, and is mapped back exactly.

    forms = gd.forms
    sol = gd.solve_forms(P, q, [forms.Equal(A, b), forms.Between(G, lower, upper), forms.Quadratic(F, c, r)])
    sol.x, sol.forms[1].y, sol.forms[2].s
    dot = sol.jvp(q=q_dot, forms={2: forms.Quadratic(r=1.0)})      # dot.x, dot.forms[1].y, …
    bar = sol.vjp(x=x_bar, forms={1: forms.Values(y=y_bar)})       # bar.q, bar.forms[2].F, …

To find the mechanism: kinds.py (the forms, a few lines each) → plan.py (what goes where) → stack.py (there and back).
"""

from gpudiff.forms.base import Form, Values
from gpudiff.forms.kinds import AtMost, Between, Bounds, Conic, Equal, Free, Norm, Quadratic, Rotated
from gpudiff.forms.solve import FormsCotangents, FormsSolution, FormsTangents, solve_forms

__all__ = [
    "AtMost",
    "Between",
    "Bounds",
    "Conic",
    "Equal",
    "Form",
    "FormsCotangents",
    "FormsSolution",
    "FormsTangents",
    "Free",
    "Norm",
    "Quadratic",
    "Rotated",
    "Values",
    "solve_forms",
]
