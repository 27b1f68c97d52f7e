"""Every instruction-set variant of the CPU library that this machine can run gives answers of the same accuracy."""

from __future__ import annotations

import pytest

import gpudiff as gd

CHECK = """
import numpy as np
import gpudiff as gd
import reference
from compare import assert_close
from problems import hard, varied_qps, generator, well_posed

for name in ("qp", "lp", "equalities only", "socp", "mixed", "many small cones", "tall", "soc of 2"):
    problem = well_posed(name, 13)
    sol = gd.solve(*problem.args)
    assert np.all(sol.ok), name
    for field in ("x", "y", "s", "obj"):
        assert_close(getattr(sol, field), getattr(problem, field), 1e-8, f"{name}: {field}")
    seed = generator(name).standard_normal(sol.x.shape)
    bar = sol.vjp(x=seed)
    for i, item in enumerate(problem.items()):
        expected = reference.vjp(item, reference.exact(item, start=item), x=seed[i])
        assert_close(bar.b[i], expected.b, 1e-7, f"{name}: gradient of b")
        assert_close(bar.A[i], expected.A, 1e-7, f"{name}: gradient of A")
    single = problem.astype(np.float32)
    assert_close(gd.solve(*single.args).x, gd.solve(*single.astype(float).args).x, 1e-6, f"{name} in float32")
for name in ("no strict interior", "infeasible socp", "unbounded qp", "rows and columns scaled by 1e±4, mixed"):
    problem = hard(name, 13)
    assert {gd.Status(int(c)).name for c in gd.solve(*problem.args).status} == {problem.status}, name
print(gd.info().isa)
"""


def test_the_portable_variant_is_always_there():
    assert gd.info().isa_available[-1] == "baseline"


@pytest.mark.parametrize("variant", ["baseline", "avx2", "avx512"])
def test_variant(variant, run_python):
    if variant not in gd.info().isa_available:
        pytest.skip(f"this machine cannot run {variant}")
    assert run_python(CHECK, GPUDIFF_ISA=variant).strip() == variant
