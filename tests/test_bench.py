"""The benchmark: what it measures is what solvers answer, and its runner writes it down."""

from __future__ import annotations

import json

import numpy as np
import pytest

from gpudiff.bench import machine, plot, report, runner, sweep, warm
from gpudiff.bench.families import FAMILIES, Batch, Family, generate
from gpudiff.bench.latency import latency
from gpudiff.bench.measure import NO_ANSWER, Plan, Record, gradient_error, run_family
from gpudiff.bench.moved import moved
from gpudiff.bench.projections import CASES
from gpudiff.bench.reference import solve, vjp
from gpudiff.bench.solver import Gradients, Outcome, pattern, split

LINEAR = [family for family in FAMILIES if warm.applies(family)]
family_cases = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def named(name: str) -> Family:
    return next(family for family in FAMILIES if family.name == name)


def test_bounds_are_recognised():
    batch = generate(named("portfolio-50-51"), 2, seed=0)
    parts = split(batch, bounds=True)
    np.testing.assert_array_equal(parts.lower, np.zeros((2, 50)))
    assert parts.h.shape == (2, 0)
    assert parts.e.shape == (2, 1)
    assert split(batch).h.shape == (2, 50)
    mpc = split(generate(named("mpc-30-120"), 2, seed=0), bounds=True)
    np.testing.assert_array_equal(mpc.upper, np.full((2, 30), 3.0))
    np.testing.assert_array_equal(mpc.lower, np.full((2, 30), -3.0))
    assert mpc.h.shape == (2, 60)
    dense = split(generate(named("qp-8-16"), 2, seed=0), bounds=True)
    assert not dense.bounded


def test_pattern_restores_the_matrix():
    A = generate(named("socp-30-55"), 3, seed=0).A
    found = pattern(A)
    assert found.values.shape[1] < A[0].size / 2
    np.testing.assert_array_equal(found.first().toarray(), A[0])
    restored = np.zeros(A.shape[1:])
    restored[found.rows, found.columns] = found.values[2]
    np.testing.assert_array_equal(restored, A[2])


class Answers:
    """A stand-in for a solver: the exact answer, moved by a known error."""

    differentiates = True

    def __init__(self, name: str, error: float, gives_up: int = 0) -> None:
        self.name, self.error, self.gives_up = name, error, gives_up

    def supports(self, batch):
        return True

    def prepare(self, batch, derivatives):
        self.batch = batch
        self.points = [solve(batch, i) for i in range(batch.size)]
        return self

    def forward(self):
        x = np.array([np.asarray(point.x, float) for point in self.points])
        x[:, 0] += self.error * max(1.0, np.abs(x[0]).max())
        return Outcome(x, np.arange(len(x)) >= self.gives_up, flops=100.0 * len(x))

    def forward_backward(self, x_bar):
        outcome = self.forward()
        bars = [vjp(point, x_bar[i]) for i, point in enumerate(self.points)]
        q, b, A, P = (np.array([getattr(bar, key) for bar in bars]) for key in "qbAP")
        outcome.gradients = Gradients(q, b + self.error * np.maximum(1.0, np.abs(b).max()), A, P)
        return outcome


PLAN = Plan(seconds=0.0, repeats=2, sample=1, seed=0, batch=1)


def test_errors_are_measured_and_judged():
    ticks: list[str] = []
    solvers = [
        Answers("gpudiff", 0.0),
        Answers("right", 1e-6),
        Answers("wrong", 0.1),
        Answers("failing", 0.0, gives_up=1),
    ]
    records, facts = run_family(named("qp-8-16"), solvers, PLAN, ticks.append)
    exact, right, wrong, failing = records
    assert exact.x_error_max < 1e-15
    assert exact.gradient_error_max < 1e-14
    assert right.x_error_max == pytest.approx(1e-6, rel=1e-3)
    assert right.gradient_error_max == pytest.approx(1e-6, rel=1e-3)
    assert [record.correct for record in records] == [True, True, False, False]
    assert failing.unsolved == 1
    (nothing,), _ = run_family(named("qp-8-16"), [Answers("nan", np.nan)], PLAN, lambda _: None)
    assert nothing.x_error_max == NO_ANSWER
    assert not nothing.correct
    assert wrong.forward > 0
    assert exact.flops == 100.0
    assert facts["margin"] > 0
    assert len(ticks) == 4 * 3  # one step to prepare and two repeats for each solver
    peers = {entry["peer"] for entry in report.ratios(records)}
    assert peers == {"right"}  # neither a wrong answer nor a failure is compared with


def test_a_peer_that_breaks_is_reported():
    class Broken(Answers):
        def forward(self):
            raise ZeroDivisionError("on purpose")

    records, _ = run_family(named("qp-8-16"), [Broken("broken", 0.0)], PLAN, lambda _: None)
    assert records[0].error == "ZeroDivisionError: on purpose"
    assert not records[0].correct


def test_gradient_error_sees_each_argument():
    exact = vjp(solve(generate(named("qp-8-16"), 1, 0), 0), np.ones(8))
    whole = Gradients(exact.q[None], exact.b[None], exact.A[None], exact.P[None])
    assert gradient_error(whole, exact, 0, shared=False) == 0.0
    for key in "qbAP":
        spoilt = Gradients(whole.q, whole.b, whole.A, whole.P)
        value = np.array(getattr(whole, key))
        value.flat[0] += 0.5
        setattr(spoilt, key, value)
        assert gradient_error(spoilt, exact, 0, shared=False) > 1e-3, key


def test_reference_refuses_what_is_not_unique():
    """min x₀ + x₁ with the row x₀ + x₁ ≥ 1 given twice: neither x nor y is unique."""
    A = -np.ones((1, 2, 2))
    batch = Batch(None, np.ones((1, 2)), A, -np.ones((1, 2)), {"z": 0, "l": 2, "q": []})
    with pytest.raises(ArithmeticError):
        vjp(solve(batch, 0), np.array([1.0, 0.0]))


def test_ratios_take_the_best_correct_mode():
    def record(solver, forward, both=None, **other):
        figures = {"batch": 100, "unsolved": 0, "x_error_max": 1e-9, "gradient_error_median": 1e-9, **other}
        return Record("f", solver, forward=forward, forward_backward=both, **figures)

    records = [record("gpudiff", 100.0, 50.0), record("moreau-ipm", 10.0, 5.0), record("moreau-as", 50.0, 1.0)]
    best = next(entry for entry in report.ratios(records) if entry["peer"] == "moreau-best")
    assert (best["forward"], best["forward_backward"]) == (2.0, 10.0)
    records[2] = record("moreau-as", 50.0, 1.0, unsolved=30)
    best = next(entry for entry in report.ratios(records) if entry["peer"] == "moreau-best")
    assert best["forward"] == 10.0
    records[1] = record("moreau-ipm", 10.0, 5.0, gradient_error_median=0.5)
    best = next(entry for entry in report.ratios(records) if entry["peer"] == "moreau-best")
    assert (best["forward"], best["forward_backward"]) == (10.0, None)
    assert report.ratios([record("gpudiff", 100.0, x_error_max=0.1), record("moreau-as", 50.0)]) == []


def test_plot_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    found = [
        {"family": "f", "peer": "clarabel", "forward": 20.0, "forward_backward": None},
        {"family": "g", "peer": "moreau-as", "forward": 0.5, "forward_backward": 4.0},
    ]
    plot.draw(found, tmp_path / "ratios.png", "a machine")
    assert (tmp_path / "ratios.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--filter", "nothing-like-it"], "matches no family"),
        (["--filter", "("], "not a regular expression"),
        (["--peers", "gurobi"], "gurobi"),
        (["--batch", "0"], "--batch"),
        (["--parts", "cold,hot"], "hot"),
    ],
)
def test_wrong_arguments_are_named(arguments, word, capsys):
    assert runner.main(arguments) == 2
    assert word in capsys.readouterr().err


def test_list_names_families_and_peers(capsys):
    assert runner.main(["--list"]) == 0
    printed = capsys.readouterr().out
    for name in ("qp-8-16", "socp-30-55", "sdp-12", "entropy", "clarabel", "moreau-as", "scs"):
        assert name in printed


def test_quick_run_writes_json(tmp_path, monkeypatch, capsys):
    """End to end on the smallest family: gpudiff alone, in this process."""
    for name in machine.THREAD_VARIABLES:
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(machine, "pin_to_one_core", lambda: None)  # would last beyond this test
    path = tmp_path / "deeper" / "bench.json"
    arguments = ["--quick", "--quiet", "--filter", "^qp-8-16$", "--peers", "none", "--json", str(path)]
    assert runner.main(arguments) == 0
    results = json.loads(path.read_text())
    assert results["format"] == runner.FORMAT
    assert results["machine"]["cpu"]
    assert results["settings"]["plan"]["seed"] == 0
    ours = ["gpudiff", "gpudiff-ipm", "gpudiff-as"]
    assert [record["solver"] for record in results["results"]] == ours
    for record in results["results"]:
        assert record["unsolved"] == 0
        assert record["x_error_max"] <= 1e-8
        assert record["gradient_error_max"] <= 1e-7
        assert record["forward"] > 0
        assert record["forward_backward"] > 0
        assert 0 < record["peak_fraction"] < 10  # of a peak measured while others may be using the machine
        assert record["fallbacks"] == 0
    interior, active = results["results"][1:]
    assert (interior["method"], interior["changes"]) == ("ipm", 0.0)
    assert active["method"] == "active_set"
    assert active["changes"] > 0
    assert [(r["solver"], r["move"]) for r in results["warm"]] == [(name, m) for m in warm.MOVES for name in ours]
    assert all(r["x_error_max"] <= 1e-8 and r["forward"] > 0 and r["cold"] > 0 for r in results["warm"])
    cold, *_, near = (r["changes"] for r in [active, *results["warm"]])
    assert near < cold  # a warm start from data moved by 0.1 % leaves little to change
    assert [(r["solver"], r["batch"]) for r in results["sweep"]] == [(name, B) for B in (1, 10) for name in ours]
    assert all(r["x_error_max"] <= 1e-8 and r["forward"] > 0 for r in results["sweep"])
    assert {entry["n"] for entry in results["latency"]} == {8, 16, 32}
    assert results["import_seconds"]["gpudiff"] > 0
    assert {entry["case"] for entry in results["projections"]} == {case.name for case in CASES}
    assert all(entry["rate"] > 0 and (entry["difference"] or 0) <= 1e-13 for entry in results["projections"])
    assert [entry["family"] for entry in results["derivatives"]["adjoint"]] == ["qp-8-16"]
    printed = capsys.readouterr().out
    assert "qp-8-16" in printed
    assert "FMA peak" in printed
    assert runner.results_text(results) in printed


# --- warm starts, batch sizes, single calls --------------------------------------------------------------------------


def test_warm_starts_are_measured_on_qps_and_lps():
    kinds = ("qp", "optnet", "mpc", "portfolio", "lp")
    assert [family for family in FAMILIES if family.name.startswith(kinds)] == LINEAR


@family_cases
def test_moved_data_are_near_and_new(family):
    """No move gives the batch itself; a small one gives data near it, of the same structure, another in each copy."""
    batch = generate(family, 3, 0)
    same, near, other = moved(family, 3, 0, 0.0, 0), moved(family, 3, 0, 0.01, 0), moved(family, 3, 0, 0.01, 1)
    for name in ("P", "q", "A", "b"):
        data = getattr(batch, name)
        if data is None:
            continue
        np.testing.assert_array_equal(getattr(same, name), data)
        distance = np.linalg.norm(getattr(near, name) - data)
        assert distance <= 0.1 * np.linalg.norm(data)
        np.testing.assert_array_equal(getattr(moved(family, 3, 0, 0.01, 0), name), getattr(near, name))
    assert not np.array_equal(near.q, batch.q)
    assert not np.array_equal(near.q, other.q)
    if batch.shared:
        np.testing.assert_array_equal(near.A, batch.A)
        np.testing.assert_array_equal(near.P, batch.P)
        assert not np.array_equal(near.b, batch.b)


@pytest.mark.parametrize("family", LINEAR, ids=lambda family: family.name)
def test_moved_problems_are_solvable(family):
    """The reference finds their optima, and they are near those of the problems that were moved."""
    batch, near = generate(family, 2, 3), moved(family, 2, 3, 0.001, 0)
    for i in range(2):
        was, now = solve(batch, i), solve(near, i)
        assert np.abs(np.asarray(now.x - was.x, float)).max() <= 0.3 * max(1.0, float(np.abs(was.x).max()))
        assert np.abs(np.asarray(now.x - was.x, float)).max() > 0


class WarmAnswers(Answers):
    """Answers that can be asked for after an earlier batch."""

    def unavailable(self):
        return None

    def version(self):
        return "1"

    def settings(self):
        return {}

    def prepare_warm(self, first, moved):
        self.first = first
        return [WarmAnswers(self.name, self.error, self.gives_up).prepare(batch, False) for batch in moved]


def test_warm_starts_are_measured_and_judged():
    ticks: list[str] = []
    solvers = [WarmAnswers("gpudiff", 0.0), WarmAnswers("right", 1e-6), WarmAnswers("wrong", 0.1), Answers("cold", 0.0)]
    records = warm.run_warm(named("qp-8-16"), solvers, PLAN, ticks.append)
    assert len(ticks) == len(solvers) * warm.steps(PLAN)
    assert [(r.solver, r.move) for r in records] == [
        (name, move) for move in warm.MOVES for name in ("gpudiff", "right", "wrong")
    ]
    for record in records:
        assert record.forward > 0
        assert record.cold > 0
        assert record.sample == warm.COPIES
        assert record.correct == (record.solver != "wrong")
        assert record.x_error_max == pytest.approx({"gpudiff": 0, "right": 1e-6, "wrong": 0.1}[record.solver], abs=1e-8)
    ratios = report.warm_ratios(records)
    assert {(entry["peer"], entry["move"]) for entry in ratios} == {("right", move) for move in warm.MOVES}
    table = report.warm_table(records)
    assert "0.1 %" in table
    assert "inaccurate" in table
    assert "right" in report.warm_ratios_table(ratios)


def test_a_solver_that_breaks_in_a_warm_start_is_reported():
    class Broken(WarmAnswers):
        def prepare_warm(self, first, moved):
            raise ZeroDivisionError("on purpose")

    records = warm.run_warm(named("qp-8-16"), [Broken("broken", 0.0)], PLAN, lambda _: None)
    assert records[0].error == "ZeroDivisionError: on purpose"


@pytest.mark.parametrize("name", ["daqp", "proxqp", "moreau-ipm", "moreau-as"])
@pytest.mark.parametrize("case", ["qp-16-36", "mpc-30-120", "portfolio-50-51"])
def test_peers_are_right_from_a_warm_start(name, case):
    (peer,) = (peer for peer in runner.select_peers("all") if peer.name == name)
    if peer.unavailable() is not None:
        pytest.skip("not installed")
    first, near = generate(named(case), 6, 0), moved(named(case), 6, 0, 0.01, 0)
    (session,) = peer.prepare_warm(first, [near])
    outcome = session.forward()
    assert outcome.solved.all()
    for i in range(6):
        exact = np.asarray(solve(near, i).x, float)
        assert np.abs(outcome.x[i] - exact).max() <= 1e-3 * max(1.0, np.abs(exact).max())


def test_flags_of_daqp_mark_the_active_rows():
    pytest.importorskip("daqp")
    from gpudiff.bench.peers.daqp import Daqp, _Session

    for name in ("qp-16-36", "portfolio-50-51", "mpc-30-120"):
        batch = generate(named(name), 2, 0)
        session = _Session(batch, Daqp().settings())
        for i, flags in enumerate(session.active()):
            x = np.asarray(solve(batch, i).x, float)
            A = session.A[0 if batch.shared else i]
            values = np.concatenate([x, A @ x]) if len(flags) > len(A) else A @ x
            np.testing.assert_allclose(values[flags == 1], session.upper[i][flags == 1], atol=1e-7)
            np.testing.assert_allclose(values[flags == 3], session.lower[i][flags == 3], atol=1e-7)
            assert (flags == 5).sum() == batch.cones["z"]
            assert ((flags == 1) | (flags == 3)).any()


def test_repeated_problems_are_translations():
    for name in ("qp-8-16", "mpc-30-120"):
        base = generate(named(name), 4, 0)
        batch = sweep.repeated(base, 11, 0)
        assert (batch.size, batch.shared) == (11, base.shared)
        assert len(np.unique(batch.q, axis=0)) == 11
        for i in (0, 5, 10):
            at, was = solve(batch, i), solve(base, i % 4)
            np.testing.assert_allclose(np.asarray(at.y, float), np.asarray(was.y, float), atol=1e-9)
            np.testing.assert_allclose(np.asarray(at.s, float), np.asarray(was.s, float), atol=1e-9)
            assert (np.abs(np.asarray(at.x - was.x, float)).max() > 1e-3) == (i >= 4)


def test_a_sweep_leaves_out_what_does_not_fit():
    ticks: list[str] = []

    class Any(Answers):
        def prepare(self, batch, derivatives):
            self.batch = batch
            self.points = [solve(batch, i) for i in range(min(batch.size, 1))] * batch.size
            return self

    plan = Plan(seconds=0.0, repeats=1, sample=1, seed=0)
    records = sweep.run_sweep(named("qp-8-16"), [Any("gpudiff", 0.0)], plan, ticks.append, most=150)
    assert [record.batch for record in records] == [1, 10, 100]
    assert len(ticks) == sweep.steps(plan)
    assert all(record.correct and record.forward > 0 for record in records)
    printed = report.sweep_table(records)
    assert "1e2" in printed
    assert "1e3" not in printed
    assert sweep.fitting(generate(named("qp-8-16"), 1, 0)) > 1000


def test_single_calls_are_timed_with_their_errors():
    found = latency(0.0, "auto", 2)
    calls = {(entry["n"], entry["call"]) for entry in found}
    assert {(n, call) for n in (8, 16, 32) for call in ("gd.solve", "gd.Solver.solve", "gd.solve and vjp")} <= calls
    for entry in found:
        assert 0 < entry["us_range"][0] <= entry["us"] <= entry["us_range"][1]
        assert entry["x_error_max"] <= 1e-8
    assert "n = 32" in report.latency_table(found)
