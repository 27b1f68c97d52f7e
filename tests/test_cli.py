"""The command `gpudiff`: every subcommand, its files, its error messages and its exit codes."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from compare import assert_close

import gpudiff as gd
from gpudiff.cli import problem_file
from gpudiff.cli.demo import bootstrap, check, replicates
from gpudiff.cli.errors import CommandError, ExitCode
from gpudiff.cli.main import main


@pytest.fixture
def cli(capsys):
    """Run the command in this process; returns (exit code, stdout, stderr)."""

    def run(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as leave:  # argparse: --help, --version and usage errors
            code = leave.code
        out, err = capsys.readouterr()
        return code, out, err

    return run


def small_qps(rng, batch=5, n=4):
    """QPs with inequalities, an equality and bounds, feasible at 0."""
    M = rng.standard_normal((batch, n, n))
    P = M @ M.swapaxes(1, 2) + np.eye(n)
    G, A = rng.standard_normal((3, n)), rng.standard_normal((1, n))
    ub = np.full(n, 2.0)
    ub[0] = np.inf
    return {
        "P": (P + P.swapaxes(1, 2)) / 2, "q": rng.standard_normal((batch, n)), "G": G, "h": np.ones(3), "A": A,
        "b": np.zeros(1), "lb": np.full(n, -1.0), "ub": ub,
    }  # fmt: skip


def soc_example():
    """EXAMPLES: minimise x₀ over the cone, x₀ fixed to 1 − …; solution (1/√3, 1/3, 1/3, 1/3)."""
    A = np.zeros((5, 4))
    A[1, 0], A[0, 1], A[2, 1], A[0, 2], A[3, 2], A[0, 3], A[4, 3] = -1, 1, -1, 1, -1, 1, -1
    return {"q": np.array([1.0, 0, 0, 0]), "A": A, "b": np.array([1.0, 0, 0, 0, 0])}


SOC_X = np.array([3**-0.5, 1 / 3, 1 / 3, 1 / 3])


# --- the command itself


def test_version(cli):
    code, out, _ = cli("--version")
    assert code == 0
    assert out == f"gpudiff {gd.__version__}\n"


@pytest.mark.parametrize("command", [(), ("demo",), ("solve",), ("info",)])
def test_help_names_options_and_every_exit_code(cli, command):
    code, out, _ = cli(*command, "--help")
    assert code == 0
    for exit_code in ExitCode:
        assert f"{exit_code.value} " in out
        assert exit_code.meaning in out
    expected = {
        (): ("demo", "solve", "bench", "info", "--version"),
        ("demo",): ("--replicates", "--bound", "--seed", "--threads", "--output"),
        ("solve",): ("--output", "--tol", "--max-iter", "--float32", "--threads", "--backend", "--method", "--top"),
        ("info",): ("--debug",),
    }
    for word in expected[command]:
        assert word in out


def test_bench_reads_its_own_options(cli):
    code, out, _ = cli("bench", "--help")
    assert code == 0
    assert "usage" in out
    assert "demo" not in out.split("\n")[0]


@pytest.mark.parametrize(
    "arguments", [(), ("nonsense",), ("solve",), ("demo", "--replicates", "many"), ("info", "surplus")]
)
def test_bad_usage_is_2(cli, arguments):
    code, out, err = cli(*arguments)
    assert code == ExitCode.BAD_INPUT
    assert out == ""
    assert err.startswith("usage: gpudiff")


def test_as_a_program(tmp_path):
    """The exit code of the process, and no traceback on a user's error."""
    command = [sys.executable, "-m", "gpudiff.cli.main", "solve", "missing.npz"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == ExitCode.BAD_INPUT
    assert done.stderr == "gpudiff: error: missing.npz: no such file\n"
    assert done.stdout == ""
    done = subprocess.run([*command, "--debug"], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == ExitCode.BAD_INPUT
    assert "Traceback" in done.stderr


def test_output_that_the_terminal_cannot_show_is_no_error(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "gpudiff.cli.main", "demo", "--help"],
        capture_output=True, cwd=tmp_path, timeout=60, env={"PYTHONIOENCODING": "ascii", **environment()},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"?" in done.stdout


def environment():
    return {key: value for key, value in os.environ.items() if key != "PYTHONIOENCODING"}


def test_info(cli):
    code, out, _ = cli("info")
    assert code == 0
    assert out == f"{gd.info()}\n"
    assert "cpu" in out


# --- solve


def test_qp_round_trip(cli, tmp_path, rng):
    data = small_qps(rng)
    np.savez(tmp_path / "qp.npz", **data)
    code, out, err = cli("solve", tmp_path / "qp.npz")
    assert (code, err) == (0, "")
    assert "SOLVED" in out
    assert str(tmp_path / "qp.solution.npz") in out
    expected = gd.solve_qp(**data)
    with np.load(tmp_path / "qp.solution.npz", allow_pickle=False) as stored:
        assert set(stored.files) == {
            "x", "y", "z", "z_box", "obj", "status", "iterations", "primal_residual", "dual_residual", "gap"
        }  # fmt: skip
        for name in stored.files:
            np.testing.assert_array_equal(stored[name], getattr(expected, name))
        x, z, y, box = (stored[name] for name in ("x", "z", "y", "z_box"))
    # The stored arrays alone satisfy the optimality conditions of the stored problem.
    gradient = np.einsum("bij,bj->bi", data["P"], x) + data["q"] + z @ data["G"] + y @ data["A"] + box
    assert_close(gradient, np.zeros_like(gradient), 1e-8)
    assert np.all(x @ data["G"].T <= data["h"] + 1e-8)


def test_single_qp_has_no_batch_axis(cli, tmp_path):
    np.savez(tmp_path / "one.npz", P=2 * np.eye(2), q=np.zeros(2), G=[[-1.0, -1.0]], h=[-1.0])
    code, _, _ = cli("solve", tmp_path / "one.npz", "--output", tmp_path / "answer.npz")
    assert code == 0
    with np.load(tmp_path / "answer.npz") as stored:
        assert_close(stored["x"], np.array([0.5, 0.5]), 1e-9)
        assert stored["status"].shape == ()
        assert stored["status"] == gd.Status.SOLVED


def test_absent_matrices_as_qpsolvers_stores_them(cli, tmp_path):
    """`qpsolvers.Problem.save` writes None as an object array; nothing is unpickled to read it."""
    np.savez(tmp_path / "none.npz", P=np.eye(2), q=np.ones(2), G=np.array(None), h=np.array(None), lb=np.zeros(2))
    code, _, err = cli("solve", tmp_path / "none.npz")
    assert code == 0, err
    with np.load(tmp_path / "none.solution.npz") as stored:
        assert_close(stored["x"], np.zeros(2), 1e-9)
        assert_close(stored["z_box"], -np.ones(2), 1e-8)


def test_pickled_matrices_are_refused(cli, tmp_path):
    import scipy.sparse as sp

    np.savez(tmp_path / "sparse.npz", P=sp.eye_array(2, format="csc"), q=np.ones(2))
    code, _, err = cli("solve", tmp_path / "sparse.npz")
    assert code == ExitCode.BAD_INPUT
    assert "P is stored as a pickled Python object" in err


@pytest.mark.parametrize(
    "cones",
    [
        '{"z": 1, "q": [4]}',
        '[["Zero", 1], ["SecondOrder", 4]]',
        b'[["z", 1], ["q", 4]]',
        np.frombuffer(b'{"z": 1, "l": 0, "q": [4]}', dtype=np.uint8),
    ],
    ids=["dict", "list", "bytes", "uint8"],
)
def test_cone_program(cli, tmp_path, cones):
    np.savez(tmp_path / "soc.npz", **soc_example(), cones=cones)
    code, _, err = cli("solve", tmp_path / "soc.npz")
    assert code == 0, err
    with np.load(tmp_path / "soc.solution.npz") as stored:
        assert {"x", "y", "s"} <= set(stored.files)
        assert_close(stored["x"], SOC_X, 1e-8)


def test_options_reach_the_solver(cli, tmp_path, rng, monkeypatch):
    np.savez(tmp_path / "qp.npz", **small_qps(rng), note=1.0)
    seen = {}
    solve_qp = gd.solve_qp

    def spy(*arrays, **options):
        seen.update(options)
        return solve_qp(*arrays, **options)

    monkeypatch.setattr(gd, "solve_qp", spy)
    options = ("--float32", "--tol", 1e-4, "--max-iter", 77, "--threads", 1, "--backend", "cpu")
    code, out, _ = cli("solve", tmp_path / "qp.npz", *options)
    assert code == 0
    assert "ignored keys: note" in out
    tolerance = {"tol_gap_abs": 1e-4, "tol_gap_rel": 1e-4, "tol_feas": 1e-4}
    assert seen["settings"] == gd.Settings(max_iter=77, threads=1, **tolerance)
    assert seen["backend"] == "cpu"
    with np.load(tmp_path / "qp.solution.npz") as stored:
        assert stored["x"].dtype == np.float32


def test_some_not_solved_is_1_and_the_rest_is_stored(cli, tmp_path):
    np.savez(tmp_path / "mixed.npz", P=np.eye(1), q=np.zeros(1), G=[[1.0], [-1.0]], h=[[1.0, 1.0], [-1.0, -1.0]])
    code, out, _ = cli("solve", tmp_path / "mixed.npz")
    assert code == ExitCode.NOT_SOLVED
    assert "PRIMAL_INFEASIBLE" in out
    assert gd.Status.PRIMAL_INFEASIBLE.remedy in out
    with np.load(tmp_path / "mixed.solution.npz") as stored:
        assert stored["status"].tolist() == [gd.Status.SOLVED, gd.Status.PRIMAL_INFEASIBLE]
        assert_close(stored["x"][0], np.zeros(1), 1e-9)
        assert np.isnan(stored["x"][1]).all()


def bad_files(folder):
    """Files and options that are wrong, with what the message has to name."""
    q = np.ones(2)
    np.savez(folder / "no_q.npz", P=np.eye(2))
    np.savez(folder / "shape.npz", P=np.eye(3), q=q)
    np.savez(folder / "no_b.npz", q=q, A=np.eye(2), cones='{"l": 2}')
    np.savez(folder / "json.npz", q=q, A=np.eye(2), b=q, cones="l: 2")
    np.savez(folder / "name.npz", q=q, A=np.eye(2), b=q, cones='[["Banana", 2]]')
    np.savez(folder / "kind.npz", q=q, A=np.eye(2), b=q, cones=np.array([2]))
    np.savez(folder / "rows.npz", q=q, A=np.eye(2), b=q, cones='{"l": 3}')
    np.savez(folder / "fine.npz", P=np.eye(2), q=q)
    np.save(folder / "array.npy", q)
    (folder / "array.npy").rename(folder / "array.npz")
    (folder / "text.npz").write_text("no archive")
    fine = folder / "fine.npz"
    return [
        ((folder / "no_q.npz",), "q missing"),
        ((folder / "shape.npz",), "P: expected shape"),
        ((folder / "no_b.npz",), "b missing"),
        ((folder / "json.npz",), "expected JSON text"),
        ((folder / "name.npz",), "'Banana'"),
        ((folder / "kind.npz",), "expected JSON text"),
        ((folder / "rows.npz",), "cones"),
        ((folder / "array.npz",), "expected an .npz archive"),
        ((folder / "text.npz",), "not a readable .npz file"),
        ((folder / "missing.npz",), "no such file"),
        ((fine, "--tol", "-1"), "tol_gap_abs"),
        ((fine, "--max-iter", "0"), "max_iter"),
        ((fine, "--threads", "0"), "threads"),
        ((fine, "--output", folder / "answer.csv"), "--output must end in .npz"),
        ((fine, "--output", fine), "would overwrite"),
        ((fine, "--output", folder / "nowhere" / "x.npz"), "no such folder"),
    ]


def test_bad_input_is_2_in_one_line(cli, tmp_path):
    for arguments, named in bad_files(tmp_path):
        code, out, err = cli("solve", *arguments)
        assert code == ExitCode.BAD_INPUT, arguments
        assert err.startswith("gpudiff: error: "), err
        assert err.count("\n") == 1, err
        assert named in err
        assert out == ""


def test_unknown_backend_is_4(cli, tmp_path):
    np.savez(tmp_path / "fine.npz", P=np.eye(2), q=np.ones(2))
    code, _, err = cli("solve", tmp_path / "fine.npz", "--backend", "abacus")
    assert code == ExitCode.NO_BACKEND
    assert "'abacus'" in err


def test_interrupt_is_130(cli, tmp_path, monkeypatch):
    def interrupted(*_args, **_kwargs):
        raise KeyboardInterrupt

    np.savez(tmp_path / "fine.npz", P=np.eye(2), q=np.ones(2))
    monkeypatch.setattr(problem_file, "read", interrupted)
    code, _, err = cli("solve", tmp_path / "fine.npz")
    assert (code, err) == (ExitCode.INTERRUPTED, "gpudiff: error: interrupted\n")


# --- demo


@pytest.fixture(scope="module")
def diabetes():
    return bootstrap.load_diabetes()


@pytest.fixture(scope="module")
def sample(diabetes):
    weights = bootstrap.draw(diabetes.observations, 6, np.random.default_rng(5))
    return bootstrap.moments_to_qp(diabetes, weights)


def test_replicate_is_the_regression_on_the_drawn_observations(diabetes, sample):
    """P and q against the rows drawn, written out and centred one replicate at a time."""
    for r, weights in enumerate(sample.weights):
        rows = np.repeat(np.arange(diabetes.observations), weights.astype(int))
        x, y = diabetes.x[rows], diabetes.y[rows]
        x, y = x - x.mean(axis=0), y - y.mean()
        assert_close(sample.P[r], x.T @ x / len(x), 1e-13)
        assert_close(sample.q[r], -x.T @ y / len(x), 1e-12)
    np.testing.assert_array_equal(sample.P, sample.P.swapaxes(1, 2))


def test_influence_is_the_derivative_in_the_weights(diabetes, sample, rng):
    """Against central differences of ⟨β̄, β⟩ through solves of reweighted regressions; sums to 0."""
    A, b, cones = replicates.constraints(diabetes.features, 60.0)
    seed = rng.standard_normal(sample.q.shape)
    bar = gd.solve(sample.P, sample.q, A, b, cones).vjp(x=seed)
    influence = bootstrap.influence(diabetes, sample, bar.P, bar.q)
    step = 1e-5

    def value(i, factor):
        weights = sample.weights.copy()
        weights[:, i] *= factor
        weights *= diabetes.observations / weights.sum(axis=1, keepdims=True)
        moved = bootstrap.moments_to_qp(diabetes, weights)
        return float((gd.solve(moved.P, moved.q, A, b, cones).x * seed).sum())

    for i in (0, 17, 200, 441):
        difference = (value(i, 1 + step) - value(i, 1 - step)) / (2 * step)
        assert_close(influence[i], difference, 1e-5 * max(1, abs(difference)))
    assert_close(influence.sum(), 0.0, 1e-9)


def test_check_against_clarabel_sees_errors(diabetes, sample, monkeypatch):
    """The comparison finds agreement, and finds a wrong solution when there is one."""
    A, b, cones = replicates.constraints(diabetes.features, 60.0)
    direction = replicates.toward_bound(diabetes.features)
    comparison = check.compare(sample.P, sample.q, A, b, cones, direction)
    assert comparison.error < 1e-8
    assert comparison.slope_error < 1e-6
    assert comparison.slope_count >= 4
    assert comparison.clarabel_rate > 0
    assert comparison.gpudiff_rate > 0
    solve = gd.solve
    monkeypatch.setattr(gd, "solve", lambda P, q, *rest, **more: solve(P, 1.01 * q, *rest, **more))
    assert check.compare(sample.P, sample.q, A, b, cones, direction).error > 1e-3


def test_demo(cli, tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "demo.png"
    code, out, err = cli("demo", "--replicates", 60, "--output", picture, "--threads", 1)
    assert code == 0, err
    assert err == ""  # no progress bar where stderr is no terminal
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    import matplotlib.image

    pixels = matplotlib.image.imread(picture)
    assert pixels.shape[1] >= 1200
    assert pixels.std() > 0.05  # something was drawn
    for words in ("SOLVED", "problems/s", "times as fast", "max |β − β*|", "dβ/dt", "bmi", str(picture)):
        assert words in out


def test_demo_shows_its_progress_on_a_terminal(tmp_path):
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))  # rows, columns
    command = [sys.executable, "-m", "gpudiff.cli.main", "demo", "--replicates", "20"]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=theirs, timeout=120)
    os.close(theirs)
    shown = os.read(ours, 65536).decode(errors="replace")
    os.close(ours)
    assert done.returncode == 0, shown
    assert "replicates: 100%" in shown
    assert "20.0/20.0" in shown


def test_demo_is_reproducible_and_depends_on_the_seed(diabetes):
    runs = [replicates.solve_all(diabetes, 30, 60.0, seed, gd.Settings(threads=1)) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(runs[0].beta, runs[1].beta)
    np.testing.assert_array_equal(runs[0].influence, runs[1].influence)
    assert np.abs(runs[0].beta - runs[2].beta).max() > 0.1


def test_demo_numbers(diabetes, monkeypatch):
    """Constraints hold, dβ/dt sums to 1 where the bound is active, modes agree, and chunks do not matter."""
    out = replicates.solve_all(diabetes, 50, 60.0, 0, gd.Settings(threads=1))
    assert out.solved.all()
    assert out.beta.min() > -1e-8
    assert out.beta.sum(axis=1).max() < 60 + 1e-7
    assert out.bound_active() > 0.9
    assert 3 <= (out.at_zero() > 0.5).sum() <= 8
    active = out.beta.sum(axis=1) > 60 * (1 - 1e-8)
    assert_close(out.slope[active].sum(axis=1), np.ones(active.sum()), 1e-8)
    assert out.mismatch < 1e-9
    monkeypatch.setattr(replicates, "CHUNK", 7)
    again = replicates.solve_all(diabetes, 50, 60.0, 0, gd.Settings(threads=1))
    np.testing.assert_array_equal(again.beta.shape, out.beta.shape)
    assert_close(again.beta, out.beta, 1e-9)
    assert_close(again.influence, out.influence, 1e-9)


@pytest.mark.parametrize("module", ["sklearn", "matplotlib", "tqdm"])
def test_demo_without_an_optional_package_is_3(cli, tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)  # what `import` takes for "not there"
    code, out, err = cli("demo", "--replicates", 10, "--output", tmp_path / "demo.png")
    assert code == ExitCode.MISSING_PACKAGE
    assert err.count("\n") == 1
    assert module in err
    assert 'pip install "gpudiff[demo]"' in err
    assert out == ""


@pytest.mark.parametrize(
    ("option", "value"),
    [("--replicates", "1"), ("--bound", "0"), ("--bound", "nan"), ("--seed", "-1"), ("--threads", "0"),
     ("--output", "demo.txt"), ("--output", "nowhere/demo.png")],
)  # fmt: skip
def test_demo_bad_options_are_2(cli, option, value):
    code, out, err = cli("demo", option, value)
    assert code == ExitCode.BAD_INPUT
    assert option.strip("-") in err
    assert out == ""


def test_cones_text_that_is_no_pair_is_refused(tmp_path):
    with pytest.raises(CommandError, match="expected JSON text"):
        problem_file.parse_cones(np.array(json.dumps([["Zero", 1, 2]])), tmp_path / "x.npz")
