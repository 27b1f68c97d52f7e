"""Threads: the number asked for, the same bits, calls from several Python threads at once, and fork."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from compare import RESULT_FIELDS, assert_same_bits
from problems import varied_qps, well_posed

import gpudiff as gd


def answers(problem, threads: int | None) -> dict[str, np.ndarray]:
    settings = gd.Settings() if threads is None else gd.Settings(threads=threads)
    sol = gd.solve(*problem.args, settings=settings)
    bar = sol.vjp(x=np.ones_like(sol.x), y=np.ones_like(sol.y))
    parts = {name: getattr(sol, name) for name in RESULT_FIELDS}
    return parts | {f"gradient of {k}": getattr(bar, k) for k in ("q", "A", "b")}


def assert_same_answers(one: dict, two: dict) -> None:
    for name, part in one.items():
        assert_same_bits(part, two[name], name)


@pytest.mark.parametrize("shared", [(), ("A",), ("P", "A")], ids=lambda s: "".join(s) or "none")
def test_same_bits_with_any_number(shared, rng):
    problem = varied_qps(rng, 501, shared)[0]
    expected = answers(problem, 1)
    for threads in (2, 4, 64, None):
        assert_same_answers(answers(problem, threads), expected)


def test_more_threads_than_problems():
    problem = well_posed("mixed", 3)
    assert_same_answers(answers(problem, 16), answers(problem, 1))


COUNT = """
import json, os, threading, time
import numpy as np
import gpudiff as gd

rng = np.random.default_rng(0)
B, n = 20_000, 12
q, b = rng.standard_normal((B, n)), np.ones(2 * n)
A = rng.standard_normal((2 * n, n))
gd.solve(np.eye(n), q[:1], A, b, [gd.Nonnegative(2 * n)], settings=gd.Settings(threads=1))
most, before, done = 0, len(os.listdir("/proc/self/task")), threading.Event()

def watch():
    global most
    while not done.is_set():
        most = max(most, len(os.listdir("/proc/self/task")))
        time.sleep(0.001)

watcher = threading.Thread(target=watch)
watcher.start()
sol = gd.solve(np.eye(n), q, A, b, [gd.Nonnegative(2 * n)], settings=gd.Settings(**SETTINGS))
done.set()
watcher.join()
assert sol.ok.all()
print(json.dumps(most - before - 1))
"""


NUMBERS = [({}, "1", 1), ({}, "3", 3), ({"threads": 3}, "1", 3), ({"threads": 1}, "4", 1)]


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted in /proc")
@pytest.mark.parametrize(("asked", "environment", "expected"), NUMBERS)
def test_number_of_threads(asked, environment, expected, run_python):
    """OMP_NUM_THREADS sets the default, Settings(threads=…) overrules it; the caller may work as one of the threads."""
    code = COUNT.replace("SETTINGS", repr(asked))
    more = json.loads(run_python(code, OMP_NUM_THREADS=environment, OPENBLAS_NUM_THREADS="1"))
    assert more in ({0} if expected == 1 else {expected - 1, expected})


def test_concurrent_calls(rng):
    """Six Python threads solve and differentiate different batches at the same time."""
    problems = [varied_qps(rng, 200 + 7 * i, ("A",) if i % 2 else ())[0] for i in range(6)]
    expected = [answers(problem, 1) for problem in problems]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(5):
            jobs = [pool.submit(answers, problem, 2) for problem in problems]
            for job, answer in zip(jobs, expected, strict=True):
                assert_same_answers(job.result(), answer)


def test_concurrent_use_of_one_solution(rng):
    problem = varied_qps(rng, 300)[1]
    sol = gd.solve(*problem.args)
    seeds = rng.standard_normal((8, *sol.x.shape))
    expected = [sol.vjp(x=seed).q for seed in seeds]
    with ThreadPoolExecutor(4) as pool:
        for got, wanted in zip(pool.map(lambda seed: sol.vjp(x=seed).q, seeds), expected, strict=True):
            assert_same_bits(got, wanted)


def test_other_python_threads_run_during_a_solve(rng):
    """The interpreter lock is released: a second thread makes progress while a long solve runs."""
    problem = varied_qps(rng, 60_000, ("P", "A", "b"))[0]
    ticks, done = 0, threading.Event()

    def tick():
        nonlocal ticks
        while not done.wait(0.001):
            ticks += 1

    other = threading.Thread(target=tick)
    other.start()
    before = ticks
    gd.solve(*problem.args, settings=gd.Settings(threads=1))
    during = ticks - before
    done.set()
    other.join()
    assert during > 5


FORK = """
import os, warnings
import numpy as np
import gpudiff as gd
from problems import generator, varied_qps

warnings.filterwarnings("ignore", category=DeprecationWarning)  # Python 3.12 warns of any fork with threads about
problem = varied_qps(generator("fork"), 500, ("A",))[0]
settings = gd.Settings(threads=3)
before = gd.solve(*problem.args, settings=settings)
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        sol = gd.solve(*problem.args, settings=settings)
        same = sol.x.tobytes() == before.x.tobytes()
        same = same and sol.vjp(x=sol.x).A.tobytes() == before.vjp(x=before.x).A.tobytes()
        os._exit(0 if same else 1)
    children.append(child)
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
assert gd.solve(*problem.args, settings=settings).x.tobytes() == before.x.tobytes()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_after_a_solve(run_python):
    run_python(FORK, timeout=60)
