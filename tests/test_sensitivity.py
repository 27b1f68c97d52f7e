"""`Sensitivity`: data affine in named parameters, and derivatives by those names."""

from __future__ import annotations

import numpy as np
import pytest
from compare import assert_close, assert_same_bits
from problems import well_posed

import gpudiff as gd

POINT = ("x", "y", "s", "obj")


def example():
    """min 2x − y  s.t.  q·x + y ≥ 3p, y ≤ 5."""
    G, h = {"": [[0, -1], [0, 1]], "q": [[-1, 0], [0, 0]]}, {"": [0, 5], "p": [-3, 0]}
    return gd.Sensitivity.qp(q=[2, -1], G=G, h=h, units={"p": "kg", "obj": "€"})


def test_the_example_of_the_docstring():
    """x = (3p − 5)/q, y = 5: at p = 4, q = 2 x = 3.5, dx/dp = 3/q = 1.5, dx/dq = −x/q = −1.75; obj = 2x − 5."""
    sol = example().solve(p=4.0, q=2.0)
    assert_close(sol.x, np.array([3.5, 5.0]), 1e-12)
    assert_close(sol.obj, 2.0, 1e-12)
    assert_close(sol.jvp(p=1.0).x, np.array([1.5, 0.0]), 1e-12)
    assert_close(sol.jvp(q=1.0).x, np.array([-1.75, 0.0]), 1e-12)
    assert_close(sol.jvp(p=1.0, q=1.0).x[0], -0.25, 1e-12)
    gradient = sol.vjp(obj=1.0)
    assert list(gradient) == ["q", "p"]
    assert_close(gradient["p"], 3.0, 1e-12)
    assert_close(gradient["q"], -3.5, 1e-12)
    assert_close(sol.jacobian("x", "p"), np.array([1.5, 0.0]), 1e-12)
    assert_close(sol.z, np.array([1.0, 2.0]), 1e-12)  # 2 = 2 z₁ and −1 = z₁ − z₂
    assert sol.ok
    assert sol.status == sol.solution.status


def test_the_example_as_a_cone_program_by_callables():
    made = gd.Sensitivity(
        [gd.Nonnegative(2)],
        q=[2.0, -1.0],
        A=lambda t: np.array([[-t["q"], -1.0], [0.0, 1.0]]),
        b=lambda t: [-3 * t["p"], 5.0],
        parameters={"p": (), "q": ()},
    )
    sol = made.solve(p=4.0, q=2.0)
    assert_close(sol.x, np.array([3.5, 5.0]), 1e-12)
    assert_close(sol.vjp(x=[1.0, 0.0])["q"], -1.75, 1e-12)
    assert_close(sol.s, np.zeros(2), 1e-12)


def test_batches_of_parameters():
    """q alone, p alone and both with a batch axis; a parameter without one gets the sum over the batch."""
    made, p, q = example(), np.array([3.0, 4.0, 5.0]), np.array([1.0, 2.0, 4.0])
    for values in ({"p": p, "q": 2.0}, {"p": 4.0, "q": q}, {"p": p, "q": q}, {"p": p, "q": q[1:2]}):
        sol = made.solve(**values)
        P, Q = (np.broadcast_to(values[name], 3) for name in "pq")
        x = (3 * P - 5) / Q
        assert_close(sol.x[:, 0], x, 1e-12)
        assert_close(sol.jvp(p=1.0).x[:, 0], 3 / Q, 1e-12)
        assert_close(sol.jvp(q=np.array([1.0, 0, 2])).x[:, 0], -x / Q * [1, 0, 2], 1e-12)
        bar = np.array([[1.0, 0], [0.5, 0], [-2, 0]])
        expected = {"p": bar[:, 0] * 3 / Q, "q": -bar[:, 0] * x / Q}
        gradient = sol.vjp(x=bar)
        for name, value in expected.items():
            shape = np.shape(values[name])
            assert_close(gradient[name], value if shape == (3,) else value.sum().reshape(shape), 1e-12, name)
            assert_close(sol.jacobian("obj", name), 2 * value / bar[:, 0], 1e-12, name)


def random_problem(rng, batch):
    """A planted problem in every cone, moved a little by parameters of shapes (), (3,) and (2, 2) in all arguments."""
    problem = well_posed("every cone", 1).item(0)
    shapes = {"rate": (), "price": (3,), "load": (2, 2)}
    moving = {}
    for name, array in zip("PqAb", problem.data, strict=True):
        moving[name] = {"": array}
        for key, shape in shapes.items():
            coefficient = 1e-3 * rng.standard_normal((*array.shape, *shape))
            moving[name][key] = coefficient + np.swapaxes(coefficient, 0, 1) if name == "P" else coefficient
    values = {key: rng.uniform(-1, 1, ((batch, *shape) if key == "price" else shape)) for key, shape in shapes.items()}
    return gd.Sensitivity(problem.gd_cones, **moving), values


def test_forward_and_reverse_are_adjoint_and_right(rng):
    """⟨ȳ, Jẋ⟩ = ⟨Jᵀȳ, ẋ⟩, and J against central differences of 1e-5: accurate to 1e-10 beside values of one."""
    made, values = random_problem(rng, 3)
    sol = made.solve(**values)
    assert sol.ok.all()
    dots = {key: rng.standard_normal(value.shape) for key, value in values.items()}
    bars = {name: rng.standard_normal(getattr(sol, name).shape) for name in POINT}
    dot, gradient = sol.jvp(**dots), sol.vjp(**bars)
    forward = sum(np.sum(bars[name] * getattr(dot, name)) for name in POINT)
    backward = sum(np.sum(gradient[key] * dots[key]) for key in dots)
    assert_close(forward, backward, 1e-12)
    step = 1e-5
    ahead, behind = (
        made.solve(**{key: value + sign * step * dots[key] for key, value in values.items()}) for sign in (1, -1)
    )
    for name in POINT:
        assert_close(getattr(dot, name), (getattr(ahead, name) - getattr(behind, name)) / (2 * step), 1e-6, name)
    assert list(sol.vjp(wrt="load", **bars)) == ["load"]
    assert_same_bits(sol.vjp(wrt="load", **bars)["load"], gradient["load"])


@pytest.mark.parametrize("of", POINT)
def test_jacobians_by_either_mode(of, rng):
    """Columns are jvps of unit parameters, whichever mode was taken: obj goes in reverse, the others forward."""
    made, values = random_problem(rng, 2)
    sol = made.solve(**values)
    for key, shape in made.shapes.items():
        full = sol.jacobian(of, key)
        assert full.shape == (*getattr(sol, of).shape, *shape)
        for index in np.ndindex(*shape):
            unit = np.zeros(shape)
            unit[index] = 1
            assert_close(full[(..., *index)], getattr(sol.jvp(**{key: unit}), of), 1e-12)


def test_without_a_batch_axis_jacobians_in_reverse(rng):
    made, values = random_problem(rng, 1)
    sol = made.solve(**{**values, "price": values["price"][0]})
    assert sol.jacobian("obj", "load").shape == (2, 2)
    assert_close(sol.jacobian("obj", "load"), sol.vjp(obj=1.0)["load"], 1e-14)
    assert sol.jacobian("x", "price").shape == (20, 3)


def test_the_same_bits_alone_and_in_a_batch(rng):
    made, values = random_problem(rng, 4)
    whole = made.solve(**{**values, "rate": np.full(4, values["rate"]), "load": np.tile(values["load"], (4, 1, 1))})
    for i in range(4):
        alone = made.solve(**{**values, "price": values["price"][i]})
        for name in POINT:
            assert_same_bits(getattr(alone, name), getattr(whole, name)[i], name)


def test_bounds_and_numbers():
    """Economic dispatch: cost 20g₁ + 0.2g₁² + 30g₂ + 0.1g₂², g₁ + g₂ = d, caps; at d = 50 dg/dd = (1/3, 2/3)."""
    made = gd.Sensitivity.qp(
        P=np.diag([0.4, 0.2]),
        q={"": 0.0, "fuel": [20.0, 30.0]},
        A=[[1.0, 1.0]],
        b={"demand": [1.0]},
        lb=0.0,
        ub={"cap": np.eye(2)},
    )
    sol = made.solve(fuel=1.0, demand=50.0, cap=[150.0, 80.0])
    assert_close(sol.x, np.array([100, 50]) / 3, 1e-9)
    assert_close(sol.jvp(demand=1.0).x, np.array([1, 2]) / 3, 1e-9)
    assert_close(sol.vjp(obj=1.0)["demand"], 100 / 3, 1e-8)
    assert_close(sol.vjp(obj=1.0)["fuel"], 20 * 100 / 3 + 30 * 50 / 3, 1e-7)
    full = made.solve(fuel=1.0, demand=200.0, cap=[150.0, 80.0])  # g₂ at its cap: the price is 68, a unit of cap worth
    assert_close(full.jacobian("x", "cap"), np.array([[0.0, -1.0], [0.0, 1.0]]), 1e-9)
    assert_close(full.vjp(obj=1.0)["cap"], np.array([0.0, 46 - 68]), 1e-7)  # its own marginal cost 30 + 0.2·80 less


def test_infinite_bounds_stay_infinite():
    made = gd.Sensitivity.qp(P=np.eye(2), q=[-3.0, -3.0], ub={"": [np.inf, 0.0], "cap": [1.0, 1.0]})
    sol = made.solve(cap=1.0)
    assert_close(sol.x, np.array([3.0, 1.0]), 1e-12)
    assert_close(sol.jacobian("x", "cap"), np.array([0.0, 1.0]), 1e-12)
    sampled = gd.Sensitivity.qp(
        P=np.eye(2), q=[-3.0, -3.0], ub=lambda t: np.array([np.inf, t["cap"]]), parameters={"cap": ()}
    )
    assert_close(sampled.solve(cap=1.0).x, sol.x, 0)


# ---- sweeps ----------------------------------------------------------------------------------------------------------


def test_a_sweep_is_the_batch_in_chunks(capsys):
    made, p = example(), np.linspace(3, 5, 25)
    whole = made.solve(p=p, q=2.0)
    sweep = made.sweep(p=p, q=2.0, chunk=4, each=lambda sol: {"x": sol.x, "slope": sol.jvp(p=1.0).x})
    assert "0 of 25 done" in repr(sweep)
    results = sweep.run(progress=True).results
    assert_same_bits(results["x"], whole.x)
    assert_same_bits(results["slope"], whole.jvp(p=1.0).x)
    assert sweep.done == 25
    assert capsys.readouterr().err
    assert set(made.sweep(p=p, q=2.0).run().results) == {"x", "obj", "status"}
    assert capsys.readouterr().err == ""


def test_a_sweep_that_failed_goes_on():
    made, p = example(), np.linspace(3, 5, 10)
    calls = []

    def each(sol):
        calls.append(len(sol.obj))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return {"obj": sol.obj}

    sweep = made.sweep(p=p, q=2.0, chunk=3, each=each)
    with pytest.raises(KeyboardInterrupt):
        sweep.run()
    assert sweep.done == 6
    assert_same_bits(sweep.results["obj"][:6], made.solve(p=p[:6], q=2.0).obj)
    sweep.run()
    assert calls == [3, 3, 3, 3, 1]
    assert_same_bits(sweep.results["obj"], made.solve(p=p, q=2.0).obj)


def test_sweeps_that_are_refused():
    made = example()
    with pytest.raises(gd.ArgumentError, match="values: expected a batch axis"):
        made.sweep(p=1.0, q=2.0)
    with pytest.raises(gd.ArgumentError, match="chunk: expected an integer of at least 1, got 0"):
        made.sweep(p=np.ones(2), q=2.0, chunk=0)
    with pytest.raises(gd.ShapeError, match=r"each: expected 'x' of shape \(2, …\), got \(\)"):
        made.sweep(p=np.ones(2), q=2.0, each=lambda sol: {"x": 1.0}).run()
    batched = gd.Sensitivity.qp(q=np.ones((2, 2)), lb={"p": [1.0, 1.0]})
    with pytest.raises(gd.ShapeError, match="q: expected a constant without a batch axis in a sweep"):
        batched.sweep(p=np.ones(2))


# ---- reports and refusals --------------------------------------------------------------------------------------------


def test_report():
    made = example()
    lines = made.solve(p=4.0, q=2.0).report().splitlines()
    assert lines[0] == "objective 2 €"
    assert [line.split() for line in lines[1:]] == [
        ["parameter", "value", "d", "obj", "/", "d", "parameter", "unit"],
        ["q", "2", "-3.5", "€"],
        ["p", "4", "3", "€/(kg)"],
    ]
    batch = made.solve(p=np.array([3.0, 5.0]), q=2.0)
    assert "mean of 2 objectives 2 €" in repr(batch)
    assert batch.report().splitlines()[3].split() == ["p", "4", "3", "€/(kg)"]
    assert repr(made) == "Sensitivity(parameters q (), p (); G(q), h(p))"
    many = gd.Sensitivity.qp(P=np.eye(9), q={"c": np.eye(9)}).solve(c=np.arange(9.0))
    assert "… 3 more of c" in many.report()


def test_what_is_refused():
    made = example()
    with pytest.raises(gd.ArgumentError, match="r: expected one of the parameters 'q', 'p'"):
        made.solve(p=1.0, q=1.0, r=1.0)
    with pytest.raises(gd.ArgumentError, match="p: expected a value for each of the parameters 'q', 'p'"):
        made.solve(q=1.0)
    with pytest.raises(gd.ShapeError, match=r"p: expected shape \(\) or \(B,\), got \(1, 1\)"):
        made.solve(p=[[1.0]], q=1.0)
    with pytest.raises(gd.ShapeError, match="p: expected a batch axis of extent 2"):
        made.solve(q=[1.0, 1.0], p=[1.0, 1.0, 1.0])
    sol = made.solve(p=4.0, q=2.0)
    with pytest.raises(gd.ArgumentError, match="w: expected one of 'x', 'y', 'z', 'z_box', 'obj'"):
        sol.vjp(w=1.0)
    with pytest.raises(gd.ArgumentError, match="wrt: expected names among 'q', 'p', got 'w'"):
        sol.vjp(obj=1.0, wrt="w")
    with pytest.raises(gd.ArgumentError, match="of: expected one of"):
        sol.jacobian("w", "p")
    with pytest.raises(gd.ArgumentError, match="'w'"):
        sol.jacobian("x", "w")
    with pytest.raises(gd.ShapeError, match="q: expected an array or coefficients, got None"):
        gd.Sensitivity.qp()
    with pytest.raises(gd.ShapeError, match=r"q\['c'\]: expected shape \(2,\) followed by that of 'c', got \(3,\)"):
        gd.Sensitivity.qp(q={"": [1.0, 1.0], "c": [1.0, 1.0, 1.0]})
    with pytest.raises(gd.ShapeError, match=r"h\['c'\]: expected a coefficient for 'c' of shape \(\)"):
        gd.Sensitivity.qp(q={"c": [1.0, 1.0]}, G=np.ones((1, 2)), h={"c": np.ones((1, 3))})
    with pytest.raises(gd.ArgumentError, match="units: expected names among"):
        gd.Sensitivity.qp(q={"c": [1.0, 1.0]}, units={"d": "kg"})
    with pytest.raises(gd.ArgumentError, match="chunk: expected another name"):
        gd.Sensitivity.qp(q={"chunk": [1.0, 1.0]})


def test_callables_must_be_affine():
    with pytest.raises(gd.DataError, match="q: expected a callable that is affine in the parameters, got"):
        gd.Sensitivity.qp(P=np.eye(1), q=lambda t: [t["c"] ** 3], parameters={"c": ()})
    with pytest.raises(gd.ArgumentError, match="q: expected `parameters=`"):
        gd.Sensitivity.qp(P=np.eye(1), q=lambda t: [t["c"]])
    with pytest.raises(gd.ShapeError, match=r"parameters\['c'\]: expected a shape"):
        gd.Sensitivity.qp(P=np.eye(1), q=lambda t: [t["c"]], parameters={"c": "many"})
