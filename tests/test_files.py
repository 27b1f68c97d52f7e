"""`gpudiff solve` of MPS, QPS and LP files: what is read, in whose terms it is answered, and what is refused."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from compare import assert_close

import gpudiff as gd
from gpudiff.cli import model_file, model_report, model_solve
from gpudiff.cli.errors import CommandError, ExitCode
from gpudiff.cli.main import main

pytest.importorskip("highspy")


# Every kind of row, range and bound. The objective's right-hand side is minus its constant. RANGES of an equality go up
# for a positive and down for a negative number; NOTHING is a free row, which is left out.
def everything(sense=1, section="QUADOBJ"):
    """A problem with all of it, minimised, or its negative maximised."""
    cost = {f"c{i}": sense * value for i, value in enumerate((-1.0, 2.0, -3.0, 0.5, 4.0))}
    first, second, third = (f"{sense * value}" for value in (2.0, -1.0, 4.0))
    entries = [("X1", "X1", first), ("X1", "X2", second), ("X2", "X2", third)]
    if section == "QMATRIX":
        entries.append(("X2", "X1", second))
    quadratic = "".join(f"    {row}        {column}        {value}\n" for row, column, value in entries)
    objective = "" if sense > 0 else "OBJSENSE\n    MAX\n"
    return f"{objective}{EVERYTHING.format(**cost)}{section}\n{quadratic}ENDATA\n"


EVERYTHING = """\
NAME          EVERYTHING
ROWS
 N  COST
 L  L1
 G  G1
 E  E1
 N  NOTHING
 L  LR
 G  GR
 E  EUP
 E  EDOWN
COLUMNS
    X1        COST         {c0}   L1           1.0
    X1        NOTHING      9.0
    X2        COST         {c1}   G1           1.0
    X2        LR           1.0   EUP          1.0
    X3        COST        {c2}   E1           1.0
    X3        L1           1.0
    X4        GR           1.0   E1          -1.0
    X5        EDOWN        1.0
    X6        G1           1.0   COST         {c3}
    X7        G1           0.5
    X8        COST         {c4}
RHS
    RHS       COST        -5.0   L1           2.5
    RHS       G1           3.0   E1           0.5
    RHS       LR           3.0   GR          -2.0
    RHS       EUP          1.0   EDOWN        3.0
RANGES
    RNG       LR           2.5   GR           4.0
    RNG       EUP          2.0   EDOWN       -1.5
BOUNDS
 UP BND       X1           4.0
 FR BND       X2
 MI BND       X3
 UP BND       X3           8.0
 FX BND       X4           1.5
 LO BND       X5          -1.0
 PL BND       X6
 UP BND       X7           2.0
 LO BND       X7          -2.0
"""
# maximise 3a + 2b − ½(a² + 2 b²) + 10 with a + b ≤ 2, 1 ≤ a − b ≤ 5 and a ≤ 9: on the first row a = 2 − b, and
# 3 − a = 2 − 2b gives b = 1/3, where a − b = 4/3 is within its range. The row's price is 2 − 2b = 4/3.
SMALL = """\
NAME SMALL
OBJSENSE
    MAX
ROWS
 N  PROFIT
 L  LABOUR
 G  DIFFERENCE
COLUMNS
    A  PROFIT  3.0  LABOUR  1.0
    A  DIFFERENCE  1.0
    B  PROFIT  2.0  LABOUR  1.0
    B  DIFFERENCE  -1.0
RHS
    RHS  PROFIT  -10.0  LABOUR  2.0
    RHS  DIFFERENCE  1.0
RANGES
    RNG  DIFFERENCE  4.0
BOUNDS
 UP BND  A  9.0
QUADOBJ
    A  A  -1.0
    B  B  -2.0
ENDATA
"""


@pytest.fixture
def write(tmp_path):
    def to(name, text):
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return to


@pytest.fixture
def solve(capsys):
    """Run `gpudiff solve`; returns (exit code, stdout, stderr)."""

    def run(*arguments):
        code = main(["solve", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize("name", ["a.mps", "a.qps", "A.QPS", "a.mps.gz", "a.qps.gz", "two.dots.qps"])
@pytest.mark.parametrize("section", ["QUADOBJ", "QMATRIX"])
def test_every_section(write, name, section):
    model = model_file.read_qp(write(name, everything(1, section)))
    assert model.names.columns == [f"X{i}" for i in range(1, 9)]
    assert model.names.rows == ["L1", "G1", "E1", "LR", "GR", "EUP", "EDOWN"]
    P = np.zeros((8, 8))
    P[:2, :2] = [[2, -1], [-1, 4]]
    assert_close(model.P.toarray(), P, 0)
    assert_close(model.q, np.array([-1, 2, -3, 0, 0, 0.5, 0, 4]), 0)
    inf = np.inf
    assert model.lb.tolist() == [0, -inf, -inf, 1.5, -1, 0, -2, 0]
    assert model.ub.tolist() == [4, inf, 8, 1.5, inf, inf, 2, inf]
    assert model.lower.tolist() == [-inf, 3, 0.5, 0.5, -2, 1, 1.5]
    assert model.upper.tolist() == [2.5, inf, 0.5, 3, 2, 3, 3]
    assert (model.offset, model.sense) == (5, 1)
    assert_close(model.A.toarray(), model.rows.toarray()[[2]], 0)
    assert model.b.tolist() == [0.5]
    # L1, LR, GR, EUP and EDOWN from above, then G1, LR, GR, EUP and EDOWN from below
    assert model.in_G.tolist() == [0, 3, 4, 5, 6, 1, 3, 4, 5, 6]
    assert model.h.tolist() == [2.5, 3, 2, 3, 3, -3, -0.5, 2, -1, -1.5]
    assert_close(model.G.toarray(), (model.side[:, None] * model.rows.toarray()[model.in_G]), 0)
    assert model.rows.toarray()[0].tolist() == [1, 0, 1, 0, 0, 0, 0, 0]


def test_a_maximum_in_its_own_terms(write, solve, tmp_path):
    code, out, err = solve(write("small.qps", SMALL), "-o", tmp_path / "out.npz")
    assert (code, err) == (ExitCode.OK, "")
    with np.load(tmp_path / "out.npz") as stored:
        saved = dict(stored)
    a, b = 5 / 3, 1 / 3
    objective = 3 * a + 2 * b - a * a / 2 - b * b + 10
    assert_close(saved["x"], np.array([a, b]), 1e-12)
    assert_close(saved["obj"], np.array(objective), 1e-12)
    assert_close(saved["prices"], np.array([4 / 3, 0]), 1e-12)
    assert saved["columns"].tolist() == ["A", "B"]
    assert saved["rows"].tolist() == ["LABOUR", "DIFFERENCE"]
    for text in ("small.qps: maximise a quadratic", f"objective {objective:.10g}", "of which 10 is constant", "SOLVED"):
        assert text in out
    assert "d objective / d right-hand side" in out
    tables = out.split("variables with")[1]
    assert [line.split()[:2] for line in tables.splitlines() if line.startswith("  A ")] == [["A", "1.66667"]]
    assert [line.split()[-1] for line in tables.splitlines() if line.startswith("  LABOUR")] == ["1.33333"]


@pytest.mark.parametrize("sense", [1, -1])
def test_prices_are_derivatives_of_the_objective(write, sense):
    """By differences of the right-hand sides, of each kind of row and each active side, minimised and maximised."""
    model = model_file.read_qp(write("a.mps", everything(sense)))
    assert model.sense == sense

    def solved(shift=None):
        moved = model
        if shift is not None:
            step = np.zeros(model.lower.size)
            step[shift] = 1e-4
            moved = model._replace(h=model.h + model.side * step[model.in_G], b=model.b + step[model.in_A])
        arrays = model_file.dense(moved, None, "here").arrays
        sol = gd.solve_qp(**arrays)
        assert sol.ok
        return model.objective(sol.obj), model.prices(sol.y, sol.z)

    objective, prices = solved()
    # x2 = 1 from EUP and x1 = 1/2 from L1: one more costs 2 x1 − x2 − 1 = −1, and 4 x2 − x1 + 2 less the x6 that it
    # saves in G1; one more x3 is worth 3 and takes from x1 what it adds to L1.
    assert_close(prices, sense * np.array([-1.0, 0.5, -3.0 + 1.0, 0, 0, 5.5 - 0.5, 0]), 1e-9)
    for row in range(prices.size):
        # The objective is piecewise quadratic: a one-sided difference is off by half the curvature times the step.
        assert abs((solved(row)[0] - objective) / 1e-4 - prices[row]) < 1e-3


def test_an_lp_file_and_other_options(write, solve):
    text = "Minimize\n obj: 2 x + y\nSubject To\n cover: x + y >= 3\n cap: y <= 2\nBounds\n x <= 5\nEnd\n"
    code, out, _ = solve(write("a.lp", text), "--method", "ipm", "--top", "1")
    assert code == ExitCode.OK
    assert "objective 4\n" in out
    assert "method      ipm" in out
    assert "linear objective" in out
    assert [line.split() for line in out.splitlines() if line.startswith("  cover")] == [
        ["cover", "3", "3", "inf", "2"]
    ]
    assert "cap" not in out


def test_another_backend(write, solve):
    pytest.importorskip("qpsolvers")
    pytest.importorskip("daqp")
    code, out, _ = solve(write("small.mps", SMALL), "--backend", "qpsolvers:daqp")
    assert code == ExitCode.OK
    assert "backend 'qpsolvers:daqp'" in out


def test_what_has_no_solution_says_where(write, solve, tmp_path):
    crossed = SMALL.replace("RHS  DIFFERENCE  1.0", "RHS  DIFFERENCE  3.0")
    code, out, _ = solve(write("a.qps", crossed), "-o", tmp_path / "out.npz")
    assert code == ExitCode.NOT_SOLVED
    assert "PRIMAL_INFEASIBLE" in out
    table = out.split("contradict each other")[1]
    for name in ("LABOUR", "DIFFERENCE", "bound of B"):  # a + b ≤ 2, a − b ≥ 3 and b ≥ 0
        assert name in table
    with np.load(tmp_path / "out.npz") as stored:
        assert stored["obj"] == -np.inf  # of a maximum
        assert np.isnan(stored["prices"]).all()
    free = "Minimize\n obj: x - y\nSubject To\n c: x + y >= 1\nEnd\n"
    code, out, _ = solve(write("b.lp", free))
    assert code == ExitCode.NOT_SOLVED
    assert "DUAL_INFEASIBLE" in out
    assert "  y " in out.split("no bound")[1]


def test_a_saddle_is_refused(write, solve):
    code, out, _ = solve(write("a.qps", SMALL.replace("A  A  -1.0", "A  A  1.0")))
    assert code == ExitCode.NOT_SOLVED
    assert "INVALID_DATA" in out


def test_what_the_parser_remarks_is_shown(write, solve):
    code, out, _ = solve(write("a.qps", SMALL.replace("RANGES", "    RHS  LABOR  2.0\nRANGES")))
    assert code == ExitCode.OK
    assert 'remark     Row name "LABOR" in RHS section is not defined' in out


INTEGERS = "Minimize\n obj: x\nSubject To\n c: x >= 0.5\nGeneral\n x\nEnd\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.mps", "nonsense\n", "not a readable MPS, QPS or LP file"),
        ("a.qps", "nonsense\n", "not a readable MPS, QPS or LP file"),
        ("a.mps.gz", "", "not a readable MPS, QPS or LP file"),
        ("a.mps.gz", "no gzip", "not a readable gzip file"),
        ("a.lp", INTEGERS, "expected continuous variables alone, got 1 that are not"),
    ],
)
def test_refused_files(write, solve, name, text, message):
    path = write(name, text)
    if text == "no gzip":
        path.write_text(text)
    code, out, err = solve(path)
    assert code == ExitCode.BAD_INPUT
    assert out == ""
    assert message in err
    assert str(path) in err


@pytest.mark.parametrize("sense", [1, -1])
def test_large_files_stay_sparse(write, monkeypatch, sense):
    """What Clarabel finds of the sparse rows is what the dense ones give, bounds and all."""
    path = write("everything.qps", everything(sense))
    model = model_file.read_qp(path)
    exact = model_solve.solve(model, None, gd.Settings(), "auto", path)
    monkeypatch.setattr(model_solve, "_SMALL", 0)
    monkeypatch.setattr(model_file, "_LARGEST", 0)  # were it made dense, it would be refused
    sol = model_solve.solve(model, None, gd.Settings(), "auto", path)
    assert isinstance(exact, gd.QPSolution)
    assert isinstance(sol.conic, gd.Solution)
    assert sol.ok
    for name in ("x", "y", "z", "z_box", "obj"):
        assert_close(getattr(sol, name), getattr(exact, name), 1e-9, name)
    assert set(model_report.arrays(model, sol)) == set(model_report.arrays(model, exact))
    assert (
        model_report.answer(model, sol, 3).splitlines()[-3:] == model_report.answer(model, exact, 3).splitlines()[-3:]
    )


def test_refused_for_other_reasons(write, solve, tmp_path, monkeypatch):
    assert solve(tmp_path / "missing.qps")[2] == f"gpudiff: error: {tmp_path / 'missing.qps'}: no such file\n"
    path = write("small.mps", SMALL)
    assert "--top must be at least 0" in solve(path, "--top", "-1")[2]
    monkeypatch.setattr(model_file, "_LARGEST", 9)
    with pytest.raises(CommandError, match="2 variables and 3 bounds of rows are 10 numbers as dense matrices"):
        model_file.dense(model_file.read_qp(path), None, path)
    monkeypatch.setitem(__import__("sys").modules, "highspy", None)
    code, _, err = solve(path)
    assert code == ExitCode.MISSING_PACKAGE
    assert 'pip install "gpudiff[files]"' in err
