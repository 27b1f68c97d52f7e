"""The examples and the code blocks of the README run, say what they promise, and draw."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from compare import assert_close

import gpudiff as gd
from gpudiff._cones import Cone

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
FEWER = {"digits_classifier": (2,)}  # arguments after the picture: two epochs
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def load(name):
    """Import an example as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_draws_and_is_listed(path, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    import matplotlib.image

    if path.stem == "digits_classifier":
        pytest.importorskip("torch")
        pytest.importorskip("sklearn")
    picture = tmp_path / "picture.png"
    load(path.stem).main(str(picture), *FEWER.get(path.stem, ()))
    assert f"picture: {picture}" in capsys.readouterr().out
    assert matplotlib.image.imread(picture).std() > 0.05
    page = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert f"({path.name})" in page
    assert f"({path.stem}.png)" in page + (ROOT / "examples" / "derivatives.md").read_text(encoding="utf-8")


def test_example_as_a_script(tmp_path):
    command = [sys.executable, ROOT / "examples" / "production_lp.py", "lp.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "profit 206.000000" in done.stdout
    assert (tmp_path / "lp.png").stat().st_size > 10_000


def test_production_lp():
    example = load("production_lp")
    sol, machine, work = example.plan()
    assert_close(sol.x, np.array([42.0, 16.0]), 1e-8)
    assert_close(-sol.obj, 206.0, 1e-7)
    assert_close(sol.y, np.array([0.8, 1.4, 0.0, 0.0]), 1e-8)
    assert_close(machine.x, np.array([0.6, -0.2]), 1e-8)
    assert_close(work.x, np.array([-0.2, 0.4]), 1e-8)
    assert_close(-machine.obj, 0.8, 1e-8)
    assert_close(-work.obj, 1.4, 1e-8)
    assert_close(sol.vjp(x=[1.0, -0.5]).b, np.array([0.7, -0.4, 0.0, 0.0]), 1e-8)
    profit, price = example.profits(np.array([20.0, 100.0, 200.0]))
    # Only product 2 while machine hours are scarce, both between b₀ = 30 and 180, only product 1 beyond.
    assert_close(profit, np.array([100.0, 206.0, 270.0]), 1e-7)
    assert_close(price, np.array([5.0, 0.8, 0.0]), 1e-8)


def test_economic_dispatch():
    power, price, response = load("economic_dispatch").dispatch([50.0, 100.0, 200.0, 251.0])
    expected = [[100 / 3, 50 / 3, 0], [50, 50, 0], [120, 80, 0], [150, 80, 21]]
    assert_close(power, np.array(expected), 1e-6)
    assert_close(price, np.array([100 / 3, 40.0, 68.0, 1e4]), 1e-5)
    assert_close(response, np.array([[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0], [1, 0, 0], [0, 0, 1]]), 1e-8)


def test_svm_sensitivity():
    example = load("svm_sensitivity")
    sol = example.train()
    assert_close(sol.x[:3], np.array([-3.01053970811, -3.39946666380, 6.45704409192]), 1e-8)
    assert_close(sol.obj, 8.96901385, 1e-7)
    jacobian = example.sensitivities(sol)
    both = jacobian.sum(axis=2)
    # From the optimality conditions of the active rows, solved and differenced with 40 digits.
    assert_close(both[:, 19], np.array([-1.96120857313, 11.330501151, -4.68481057163]), 1e-8)
    assert_close(both[:, 28], np.array([11.3200048941, -0.762656448369, -5.86937191374]), 1e-8)
    free = sol.y[: example.N] < 1e-9  # multipliers of the margins
    assert 50 < free.sum() < 100
    assert np.all(jacobian[:, free] == 0)  # exactly: their multipliers are


def test_ridge_sensitivity():
    example = load("ridge_sensitivity")
    sol = example.fit()
    assert_close(sol.x[:2], np.array([0.57244494, 0.48331765]), 1e-8)
    dx, dy = example.influence(sol)
    assert_close(dx[:3], np.array([0.00456826, 0.00544634, -0.00185827]), 1e-8)
    assert_close(dy[:3], np.array([-0.00050017, -0.00414739, 0.00121241]), 1e-8)
    # w and c solve H (w, c) = (2/N) Σ (xᵢ, 1) yᵢ: differentiated by hand.
    count = len(example.X)
    columns = np.stack([example.X, np.ones(count)])
    row = np.linalg.inv(columns @ columns.T / count + example.ALPHA * np.eye(2))[0] / count
    assert_close(dy, row @ columns, 1e-10)
    residual = example.Y - sol.x[:2] @ columns
    assert_close(dx, row[0] * residual - (row @ columns) * sol.x[0], 1e-10)


def test_hyperparameter_descent():
    example = load("hyperparameter_descent")
    loss, slope = example.held_out(0.1)
    assert_close(loss, 0.8133283822, 1e-9)
    assert_close(slope, -0.9498922584, 1e-8)
    steps = example.descend()
    assert len(steps) == 269  # 268 of them, and the start
    assert_close(steps[-1], 0.4653073593, 1e-8)
    _, around = example.held_out(0.4656949051 + np.array([-1e-6, 1e-6]))  # the optimum
    assert around[0] < 0 < around[1]


def test_digits_classifier():
    """ReLU as a QP takes the way of ReLU, to rounding; each projection satisfies what defines it."""
    pytest.importorskip("sklearn")
    torch = pytest.importorskip("torch")
    example = load("digits_classifier")
    plain, accuracy = example.train(example.NETWORKS["ReLU"], 2)
    ours, same = example.train(example.NETWORKS["ReLU as a QP"], 2)
    assert accuracy == same
    assert accuracy[-1] > 0.5 > accuracy[0]  # 66 % after two epochs, from 16 %
    for weights, others in zip(plain.parameters(), ours.parameters(), strict=True):
        assert_close(others.detach().numpy(), weights.detach().numpy(), 1e-9)
    learnt, accuracy = example.train(example.NETWORKS["projection onto a learnt polytope"], 2)
    assert accuracy[-1] > 0.5 > accuracy[0]
    images, _, _ = example.digits()
    with torch.no_grad():
        y = learnt[0](images[:20])
        x, G, h = learnt[1](y), learnt[1].qp.G, learnt[1].qp.h
        slack = h - x @ G.T
    assert slack.min() > -1e-9
    active = slack < 1e-9
    assert active.any()
    for i in range(20):  # y − x is in the cone of the active normals
        normals = G[active[i]].detach()
        multipliers = torch.linalg.lstsq(normals.T, (y - x)[i][:, None]).solution[:, 0]
        assert_close((multipliers @ normals).numpy(), (y - x)[i].numpy(), 1e-8)
        assert (multipliers > -1e-9).all()


def test_lp_layer():
    """The exact gradient is zero to rounding; smoothed steps bring the regret below that of least squares."""
    example = load("lp_layer")
    known, test = example.data(200, 0), example.data(200, 1)
    fit = example.least_squares(known)
    _, exact = example.regret(fit, known)
    assert np.abs(exact).max() < 1e-12
    _, curve = example.train(gd.Settings(smoothing=example.MU), known, test, steps=10)
    assert curve[0] > 1.5
    assert curve[-1] < 0.6 * example.regret(fit, test)[0]
    # Paths are vertices, whatever differentiates them: flows of 0 and 1 over six streets.
    flows = example.paths(known[1][:20], gd.Settings(smoothing=example.MU)).x
    assert_close(flows, flows.round(), 1e-8)
    assert_close(flows.sum(axis=1), np.full(20, 6.0), 1e-7)


def test_risk_limit():
    example = load("risk_limit")
    sol = example.portfolios(np.array([0.04]))
    assert_close(sol.x[0], np.array([0.0, 0.28692941, 0.71307059]), 1e-7)
    step = 1e-5
    losses, _ = example.held_out_loss(example.portfolios(np.array([0.03 - step, 0.03 + step])))
    _, slope = example.held_out_loss(example.portfolios(np.array([0.03])))
    assert_close(slope[0], (losses[1] - losses[0]) / (2 * step), 1e-6)


def test_efficient_frontier():
    example = load("efficient_frontier")
    sigmas = np.array([0.036, 0.04, 0.045])
    sol = example.portfolios(sigmas)
    assert_close(sol.x[1], np.array([0.0, 0.28692941, 0.71307059]), 1e-8)
    step = 1e-6
    ahead, behind = (example.portfolios(sigmas + sign * step) for sign in (1, -1))
    slope, move = example.slopes(sol, sigmas)
    assert_close(slope, (behind.obj - ahead.obj) / (2 * step), 1e-6)
    assert_close(move, (ahead.x - behind.x) / (2 * step), 1e-6)
    limited = example.portfolios(sigmas, 0.5)
    assert_close(limited.x[2], np.array([0, 0.5, 0.5]), 1e-8)
    assert_close(limited.forms[example.RISK].y[1:], np.zeros(2), 1e-8)


def test_where_derivatives_exist():
    example = load("where_derivatives_exist")
    x, slope, margin, trusted = example.kink(np.array([0.5, 1.0, 1.5]))
    assert_close(x, np.array([0.5, 1, 1]), 1e-12)
    assert_close(slope[[0, 2]], np.array([1.0, 0.0]), 1e-12)
    assert_close(min(abs(slope[1]), abs(slope[1] - 1)), 0.0, 1e-12)
    assert trusted.tolist() == [True, False, True]
    assert margin[1] < 1e-12
    profits = np.array([1.0, 3.0, 12.0])
    plans, exact = example.vertices(profits)
    assert_close(plans, np.array([[0.0, 30], [42, 16], [50, 0]]), 1e-8)
    assert_close(exact, np.zeros((3, 2)), 1e-12)
    # The central path of the example itself, by central differences of its points.
    step = 1e-4
    ahead, behind = (example.central_path(example.costs(profits + sign * step)) for sign in (1, -1))
    assert_close(example.smoothed(profits), (ahead - behind) / (2 * step), 1e-5)
    for sol in example.repeated(0.0):
        assert_close(sol.y.sum(), 1.0, 1e-12)
        assert_close(sol.jvp(b=[1.0, 1.0]).x, np.array([1.0, 0.0]), 1e-12)


def test_links_of_the_pages_exist():
    for page in (ROOT / "examples").glob("*.md"):
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_readme_block_runs(block, capsys):
    if "import torch" in block:
        pytest.importorskip("torch")
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out.count("\n") >= 1


def test_readme_has_blocks_for_numpy_torch_the_gpu_projections_and_forms():
    assert len(BLOCKS) == 5
    assert "import numpy" in BLOCKS[0]
    assert "import torch" in BLOCKS[1]
    assert "cuda" in BLOCKS[2]
    assert "gd.project" in BLOCKS[3]
    assert "solve_forms" in BLOCKS[4]
    assert all(len(block.strip().splitlines()) <= 13 for block in BLOCKS)


def test_readme_links_exist():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert len(links) > 10
    for link in links:
        assert (ROOT / link).exists(), link


def test_readme_tables_are_complete():
    cones = [kind for kind in vars(gd).values() if isinstance(kind, type) and issubclass(kind, Cone)]
    assert len(cones) >= 3
    for cone in cones:
        assert re.search(rf"^\| .* \| `{cone.__name__}\(", README, flags=re.MULTILINE), cone
    for status in gd.Status:
        assert re.search(rf"^\|.*\b{status.name}\b.*\|", README, flags=re.MULTILINE), status.name


def test_setup_commands_use_extras_that_exist():
    if sys.version_info < (3, 11):
        pytest.skip("tomllib came with Python 3.11")
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = re.findall(r"pip install '\.\[(\w+)\]'", README)
    assert extras == ["demo", "test", "cuda", "qpsolvers", "files"]
    assert set(extras) <= set(project["optional-dependencies"])
    assert "gpudiff" in project["scripts"]
