"""The hunt for wrong answers: its problems are what they are said to be, and its checks catch every kind of error."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import gpudiff as gd
from gpudiff.bench import reference
from gpudiff.bench.families import Batch
from gpudiff.bench.hunt import run
from gpudiff.bench.hunt.check import Answer, check, compare, normalised, sensitivity, uniqueness
from gpudiff.bench.hunt.draw import Case, Known
from gpudiff.bench.hunt.families import FAMILIES, about

TOLERANCE = 1e-9
EASY = ("dense", "column-scales", "tiny", "equality-heavy", "unbounded", "lp", "unconstrained", "box", "misled")


def draw(name: str, size: int = 16, seed: int = 0) -> Case:
    return FAMILIES[name](np.random.default_rng(seed), size)


def solve(case: Case) -> Answer:
    b = case.batch
    found = gd.solve(b.P, b.q, b.A, b.b, b.cones, gd.Settings(method="ipm", threads=1))
    return Answer(found.x, found.y, found.s, found.obj, found.status)


def spoilt(answer: Answer, name: str, i: int, value) -> Answer:
    array = getattr(answer, name).copy()
    array[i] = value
    return replace(answer, **{name: array})


def options(tmp_path, *arguments: str):
    quiet = ("--quiet", "--threads", "1", "--out", str(tmp_path / "failures"))
    return run.parser().parse_args([*quiet, *arguments])


@pytest.mark.parametrize("name", FAMILIES)
def test_problems_are_convex_and_new(name):
    case, again = draw(name, 6), draw(name, 6)
    batch = case.batch
    np.testing.assert_array_equal(batch.q, again.batch.q)
    assert batch.cones["z"] + batch.cones["l"] == batch.m == batch.A.shape[-2]
    assert 1 <= batch.n <= 30
    assert case.unit.shape == batch.q.shape
    assert np.isfinite(batch.q).all()
    assert np.isfinite(batch.A).all()
    assert (np.isfinite(batch.b) | (batch.b == np.inf)).all()
    if batch.P is not None:
        np.testing.assert_array_equal(batch.P, np.swapaxes(batch.P, -1, -2))
        values = np.linalg.eigvalsh(batch.P)
        assert (values[..., 0] >= -1e-13 * np.abs(values[..., -1])).all()
    if name not in ("feasibility", "integers", "misled-infeasible"):
        assert len(np.unique(np.hstack([batch.q, np.nan_to_num(batch.b)]), axis=0)) == batch.size
    assert about(name)


# Clarabel itself calls some of these infeasible: b of 1e-8 beside q of 1, bounds of 1e10.
MISJUDGED = ("data-scale", "far-bounds")
SURE = [name for name in FAMILIES if draw(name, 1).known is not Known.NOTHING and name not in MISJUDGED]


@pytest.mark.parametrize("name", SURE)
def test_what_is_known_is_true(name):
    """By a solver that has nothing to do with the hunt."""
    clarabel = pytest.importorskip("clarabel")
    from scipy import sparse

    from gpudiff.bench.reference import clarabel_cones

    expected = {
        Known.SOLVABLE: ("Solved", "AlmostSolved"),
        Known.INFEASIBLE: ("PrimalInfeasible", "AlmostPrimalInfeasible"),
        Known.UNBOUNDED: ("DualInfeasible", "AlmostDualInfeasible"),
    }
    for seed in range(3):
        case = draw(name, 3, seed)
        for i in range(case.batch.size):
            one = normalised(case, i)
            if one.m == 0:
                continue
            settings = clarabel.DefaultSettings()
            settings.verbose = False
            P = sparse.csc_matrix((one.n, one.n)) if one.P is None else sparse.csc_matrix(np.triu(one.P[0]))
            A = sparse.csc_matrix(one.A[0])
            found = clarabel.DefaultSolver(P, one.q[0], A, one.b[0], clarabel_cones(one.cones), settings).solve()
            # It may give up on what is hard, but must not say the opposite.
            others = {word for known, words in expected.items() if known is not case.known for word in words}
            assert str(found.status) not in others, (seed, i)


@pytest.mark.parametrize("name", EASY)
def test_right_answers_pass(name):
    for seed in range(3):
        case = draw(name, seed=seed)
        verdict = check(case, solve(case), TOLERANCE)
        assert verdict.wrong.size == 0, verdict.reasons


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("x", lambda a, i: a.x[i] + 1e-6, "dual"),
        ("x", lambda a, i: np.nan, "dual"),
        ("y", lambda a, i: a.y[i] + 1e-6, "dual"),
        ("y", lambda a, i: 0.0, "dual"),
        ("y", lambda a, i: -np.abs(a.y[i]) - 1e-6, "sign"),
        ("s", lambda a, i: a.s[i] + 1e-5, "primal"),
        ("s", lambda a, i: a.s[i] - 1e-5, "primal"),
        ("obj", lambda a, i: a.obj[i] * (1 + 1e-5) + 1e-5, "gap"),
        ("status", lambda a, i: gd.Status.PRIMAL_INFEASIBLE, "infeasible, though"),
        ("status", lambda a, i: gd.Status.DUAL_INFEASIBLE, "unbounded, though"),
    ],
)
def test_a_corrupted_answer_is_caught(name, value, kind):
    case = draw("dense", 8, seed=4)
    answer = solve(case)
    assert (answer.status == gd.Status.SOLVED).all()
    assert np.abs(answer.y).max(1).min() > 1e-3  # multipliers to be spoilt
    verdict = check(case, spoilt(answer, name, 3, value(answer, 3)), TOLERANCE)
    assert list(verdict.wrong) == [3]
    assert verdict.excess[3] > 100
    if kind in verdict.errors:
        assert not verdict.errors[kind][3] <= TOLERANCE
    else:
        assert kind in verdict.reasons[3]


def test_a_point_that_is_feasible_but_not_optimal_is_caught():
    """A strictly feasible x with y = 0 satisfies all but stationarity; moved towards it, an answer is not optimal."""
    case = draw("box", 4)
    batch = case.batch
    zero = np.zeros_like(batch.q)
    answer = Answer(zero, np.zeros_like(batch.b), batch.b.copy(), np.zeros(4), np.full(4, gd.Status.SOLVED))
    verdict = check(case, answer, TOLERANCE)
    assert list(verdict.wrong) == [0, 1, 2, 3]
    assert all("dual" in reason for reason in verdict.reasons)


def simple(b, known: Known = Known.NOTHING, q=1.0) -> Case:
    """In one variable: x ≤ b₀, −x ≤ b₁, and no curvature."""
    batch = Batch(np.zeros((1, 1, 1)), np.full((1, 1), q), np.array([[[1.0], [-1.0]]]), np.array([b]), {"z": 0, "l": 2})
    return Case(replace(batch, cones={"z": 0, "l": 2, "q": []}), known, np.ones((1, 1)))


def claim(status: gd.Status, x=np.nan, y=(np.nan, np.nan)) -> Answer:
    return Answer(np.array([[x]]), np.array([y]), np.full((1, 2), np.nan), np.zeros(1), np.array([int(status)]))


def test_certificates_of_infeasibility():
    case = simple([0.0, -1.0])  # x ≤ 0 and x ≥ 1
    right = check(case, claim(gd.Status.PRIMAL_INFEASIBLE, y=(1.0, 1.0)), TOLERANCE)
    assert right.wrong.size == 0
    assert right.errors["certificate"][0] == 0.0
    for y in ((1.0, 1.1), (-1.0, -1.0), (0.0, 0.0), (np.nan, np.nan)):
        assert check(case, claim(gd.Status.PRIMAL_INFEASIBLE, y=y), TOLERANCE).wrong.size == 1, y
    feasible = simple([1.0, 0.0])
    assert check(feasible, claim(gd.Status.PRIMAL_INFEASIBLE, y=(1.0, 1.0)), TOLERANCE).wrong.size == 1
    absent = simple([np.inf, -1.0])  # a row that is not there proves nothing
    assert check(absent, claim(gd.Status.PRIMAL_INFEASIBLE, y=(1.0, 1.0)), TOLERANCE).wrong.size == 1


def test_certificates_of_unboundedness():
    case = simple([1.0, np.inf])  # x falls without end
    assert check(case, claim(gd.Status.DUAL_INFEASIBLE, x=-1.0), TOLERANCE).wrong.size == 0
    assert check(case, claim(gd.Status.DUAL_INFEASIBLE, x=1.0), TOLERANCE).wrong.size == 1
    assert check(simple([1.0, 5.0]), claim(gd.Status.DUAL_INFEASIBLE, x=-1.0), TOLERANCE).wrong.size == 1
    curved = replace(case, batch=replace(case.batch, P=np.full((1, 1, 1), 1e-4)))
    assert check(curved, claim(gd.Status.DUAL_INFEASIBLE, x=-1.0), TOLERANCE).wrong.size == 1


def test_what_is_known_overrules_an_answer():
    case = draw("infeasible", 4)
    answer = Answer(
        np.zeros(case.batch.q.shape), np.zeros(case.batch.b.shape), case.batch.b, np.zeros(4), np.full(4, 2)
    )  # ALMOST_SOLVED
    assert len(check(case, answer, TOLERANCE).wrong) == 4


def test_errors_do_not_depend_on_scaling():
    case = draw("dense", 8, seed=2)
    answer = solve(case)
    answer = replace(answer, x=answer.x + 1e-7, y=answer.y - 1e-7)
    batch = case.batch
    rng = np.random.default_rng(0)
    rows, columns, cost = 4.0 ** rng.integers(-9, 9, batch.b.shape), 4.0 ** rng.integers(-5, 5, batch.q.shape), 2.0**20
    scaled = Case(
        Batch(
            cost * columns[:, :, None] * batch.P * columns[:, None],
            cost * columns * batch.q,
            rows[:, :, None] * batch.A * columns[:, None],
            rows * batch.b,
            batch.cones,
        ),
        case.known,
        case.unit / columns,
    )
    other = Answer(answer.x / columns, cost * answer.y / rows, rows * answer.s, cost * answer.obj, answer.status)
    plain, again = check(case, answer, TOLERANCE).errors, check(scaled, other, TOLERANCE).errors
    for kind in ("primal", "dual", "gap", "sign"):
        np.testing.assert_allclose(again[kind], plain[kind], rtol=1e-6, atol=1e-18)
        assert plain[kind].max() > 1e-9
    np.testing.assert_allclose(compare(scaled, other.x, 0 * other.x)[0], compare(case, answer.x, 0 * answer.x)[0])


def test_a_normalised_problem_has_the_same_solution():
    for name in ("row-scales", "column-scales", "cost-scale"):
        case = draw(name, 3)
        for i in range(3):
            exact = case.unit[i] * np.asarray(reference.solve(normalised(case, i), 0).x, float)
            found = solve(case).x[i]
            np.testing.assert_allclose(exact / case.unit[i], found / case.unit[i], rtol=1e-8, atol=1e-8)


def test_sensitivity_grows_with_the_conditioning():
    case = draw("dense", 4)
    answer = solve(case)
    plain = max(sensitivity(case, answer, i) for i in range(4))
    assert 1e-13 < plain < 1e-8
    batch = case.batch
    A, b = np.concatenate([batch.A, batch.A[:, -1:]], 1), np.concatenate([batch.b, batch.b[:, -1:]], 1)
    twins = replace(case, batch=Batch(batch.P, batch.q, A, b, {**batch.cones, "l": batch.cones["l"] + 1}))
    doubled = replace(answer, y=np.ones(b.shape))
    assert sensitivity(twins, doubled, 0) > 1e-3  # a row twice among those that are active


def test_uniqueness_follows_the_conditioning():
    assert np.isinf(uniqueness(draw("lp", 2))).all()
    assert np.isinf(uniqueness(draw("singular", 2))).all()
    np.testing.assert_allclose(uniqueness(draw("dense", 2)), 1e-9)
    assert uniqueness(replace(draw("dense", 2), exact=False)).min() > 1e-6


def test_a_hunt_finds_nothing_wrong_where_nothing_is(tmp_path, capsys):
    path = tmp_path / "deeper" / "hunt.json"
    arguments = ["--count", "300", "--size", "16", "--families", ",".join(EASY), "--json", str(path)]
    assert run.main([*arguments, "--quiet", "--threads", "1", "--out", str(tmp_path / "failures")]) == 0
    found = json.loads(path.read_text())
    assert sum(family["problems"] for family in found["families"]) == 300
    assert sum(family["wrong"] for family in found["families"]) == 0
    assert sum(family["referred"] for family in found["families"]) > 0
    assert sum(family["compared"] for family in found["families"]) > 0
    assert not (tmp_path / "failures").exists()
    printed = capsys.readouterr().out
    assert all(name in printed for name in EASY)


def test_a_hunt_catches_and_keeps_a_wrong_answer(tmp_path):
    """A solver that is right but for the third problem of each batch."""
    honest = run.solver("ipm", 1)

    def lying(case, start):
        answer, solution = honest(case, start)
        if answer.x.ndim == 2 and len(answer.x) > 2:
            answer = replace(answer, x=answer.x.copy())
            answer.x[2] += 1e-5
        return answer, solution

    chosen = options(tmp_path, "--count", "64", "--size", "8", "--exact", "0")
    (tally,) = run.hunt(chosen, ["dense"], lying)
    assert tally.problems == 64
    assert tally.wrong == tally.gross == 8
    assert len(tally.files) == run.MOST_FILES
    with np.load(tally.files[0]) as kept:
        assert "error" in str(kept["reason"]) or "differs" in str(kept["reason"])
        cones = json.loads(str(kept["cones"]))
        again = gd.solve(kept["P"], kept["q"], kept["A"], kept["b"], cones)
        np.testing.assert_allclose(again.x + 1e-5, kept["x"], atol=1e-9)
    assert "wrong" in run.text([tally])


def test_a_wrong_single_answer_is_caught(tmp_path):
    """The batch is right; the same problem alone is not."""
    honest = run.solver("ipm", 1)

    def lying(case, start):
        answer, solution = honest(case, start)
        return (replace(answer, x=answer.x + 1e-5) if answer.x.ndim == 1 else answer), solution

    (tally,) = run.hunt(options(tmp_path, "--count", "16", "--size", "8"), ["dense"], lying)
    assert tally.wrong == 2
    assert all(reason.startswith("alone") for reason in tally.reasons)


def test_a_wrong_answer_makes_the_command_fail(tmp_path, monkeypatch):
    honest = run.solver("ipm", 1)

    def lying(case, start):
        answer, solution = honest(case, start)
        return replace(answer, status=np.full_like(answer.status, gd.Status.PRIMAL_INFEASIBLE)), solution

    monkeypatch.setattr(run, "solver", lambda *_: lying)
    arguments = ["--count", "8", "--families", "tiny", "--quiet", "--out", str(tmp_path)]
    assert run.main(arguments) == 1
    assert list(tmp_path.glob("tiny-*.npz"))


def test_wrong_arguments_are_named(capsys):
    assert run.main(["--families", "dense,nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err
    assert run.main(["--count", "0"]) == 2
    assert "--count" in capsys.readouterr().err


def test_families_are_listed(capsys):
    assert run.main(["--list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in FAMILIES)
