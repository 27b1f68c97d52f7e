"""A large batch is streamed: beyond inputs and outputs a call needs little memory, and it gives all of it back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="peak memory is read through the POSIX module `resource`")

PEAK = """
import json, resource, sys
import numpy as np
import gpudiff as gd

B, n, m = 200_000, 4, 8
rng = np.random.default_rng(0)
root = rng.standard_normal((n, n))
P = np.broadcast_to(root @ root.T + np.eye(n), (B, n, n)).copy()
q, A, b = rng.standard_normal((B, n)), rng.standard_normal((B, m, n)), rng.uniform(1, 2, (B, m))
dot = dict(q=rng.standard_normal((B, n)), A=rng.standard_normal((B, m, n)))
settings = gd.Settings(threads=2)
cones = [gd.Nonnegative(5), gd.SecondOrder(3)]
b[:, 5] += 3
warm = gd.solve(P[:64], q[:64], A[:64], b[:64], cones, settings=settings)
warm.vjp(x=q[:64]), warm.jvp(q=q[:64])

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

def size(*arrays):
    return sum(a.nbytes for a in arrays)

report, marks = {}, [peak()]
sol = gd.solve(P, q, A, b, cones, settings=settings)
assert sol.ok.all()
marks.append(peak())
scalars = sol.obj, sol.status, sol.iterations, sol.primal_residual, sol.dual_residual, sol.gap, sol.margin
report["solve"] = marks[1] - marks[0], size(sol.x, sol.y, sol.s, *scalars)
bar = sol.vjp(x=q)
marks.append(peak())
report["vjp"] = marks[2] - marks[1], size(bar.P, bar.q, bar.A, bar.b)
tangent = sol.jvp(**dot)
marks.append(peak())
report["jvp"] = marks[3] - marks[2], size(tangent.x, tangent.y, tangent.s, tangent.obj)
shared = gd.solve(P[0], q, A[0], b[0], cones, settings=settings)
total = shared.vjp(x=q)
marks.append(peak())
report["shared"] = marks[4] - marks[3], size(shared.x, shared.y, shared.s, total.q)
print(json.dumps(report))
"""

LEAK = """
import gc, json, os
import numpy as np
import gpudiff as gd

B, n, m = 500, 6, 12
rng = np.random.default_rng(0)
q, A, b = rng.standard_normal((B, n)), rng.standard_normal((B, m, n)), rng.uniform(1, 2, (B, m))
cones = [gd.Nonnegative(12)]
solver = gd.Solver(cones, n)

def once():
    sol = gd.solve(np.eye(n), q, A, b, cones)
    sol.vjp(x=q)
    sol.jvp(q=q)
    again = solver.solve(np.eye(n), q, A, b, warm_start=sol)
    try:
        gd.solve(np.eye(n + 1), q, A, b, cones)
    except gd.GpudiffError:
        return again.ok.all()

def resident():
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

for _ in range(30):
    assert once()
before = resident()
for _ in range(200):
    once()
print(json.dumps(resident() - before))
"""


def test_peak_memory(run_python):
    """Growth of the peak over the outputs is at most 100 MB for 200,000 problems (inputs exist before)."""
    for call, (growth, outputs) in json.loads(run_python(PEAK)).items():
        assert growth <= outputs + 100e6, f"{call}: {growth / 1e6:.0f} MB for outputs of {outputs / 1e6:.0f} MB"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the current memory is read from /proc")
def test_repeated_calls_do_not_leak(run_python):
    """One leaked output of these calls, 50 kB, would add up to 10 MB."""
    growth = json.loads(run_python(LEAK))
    assert growth <= 5e6, f"200 calls left {growth / 1e6:.1f} MB behind"
