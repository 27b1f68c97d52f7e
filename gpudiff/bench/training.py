"""Derivatives through torch: of second order, and in a training step, beside cvxpylayers where that is installed.

The network is a classifier of 8×8 images of handwritten digits (scikit-learn's): 64 pixels to 20 numbers y, their
projection onto a polytope G x ≤ h with 40 rows, and 10 classes. Weights, G and h are trained by Adam on a batch of 256.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from gpudiff.bench import machine
from gpudiff.bench.families import Family, generate
from gpudiff.bench.measure import Plan, interleaved
from gpudiff.bench.peers._base import load
from gpudiff.bench.solver import TOLERANCE

TWICE = ("qp-16-36", "qp-32-72")  # families that are differentiated twice
WIDTH, ROWS, BATCH, RATE = 20, 40, 256, 0.01
_STEP = 1e-6  # of difference quotients of gradients; problems whose active set changes within it have none

CVXPYLAYERS = {  # its solvers, with what is changed from their defaults
    "DIFFCP": {"solve_method": "CLARABEL", "mode": "dense", "tol_gap_abs": TOLERANCE, "tol_feas": TOLERANCE},
    "MOREAU": {},
}

Projection = Callable[[Any, Any, Any], Any]  # y [B, 20], G [40, 20], h [40] → x [B, 20]


def through_torch(families: list[Family], plan: Plan, backend: str, threads: int) -> dict[str, Any]:
    """What is measured through torch.

    Args:
        families: Those to look at.
        plan: How much to measure.
        backend: Of gpudiff.
        threads: Of gpudiff and of torch.

    Returns:
        "twice" and "training" (see the functions of these names), "torch" (versions, and the settings of peers) and
        "torch_unavailable": reasons by name for what is left out.
    """
    try:
        torch = load("torch")
    except ImportError as error:
        return {"twice": [], "training": [], "torch": {}, "torch_unavailable": {"torch": str(error)}}
    torch.set_num_threads(threads)
    found = [twice(family, plan, backend, threads) for family in families if family.name in TWICE]
    steps, missing = training(plan, backend, threads)
    names = ["torch", "scikit-learn", "cvxpylayers", "diffcp", "moreau"]
    about = {"versions": machine.versions(names), "cvxpylayers": CVXPYLAYERS}
    return {"twice": found, "training": steps, "torch": about, "torch_unavailable": missing}


def twice(family: Family, plan: Plan, backend: str, threads: int) -> dict[str, Any]:
    """Double backward, of ⟨∂⟨w, x⟩/∂data, v⟩ to all data, beside the plain backward pass of ⟨w, x⟩.

    Args:
        family: The case.
        plan: How much to measure.
        backend: Of gpudiff.
        threads: Of gpudiff.

    Returns:
        A dictionary with family, batch, backward (microseconds per problem), recorded (the same with create_graph, over
        it), double (over backward), ranges of both ratios, and max and median of the error of the second derivative in
        the direction v, against difference quotients of the first, relative to the largest entry of each problem.
    """
    import gpudiff as gd

    torch, rng = load("torch"), np.random.default_rng([plan.seed, 4])
    batch = generate(family, min(plan.batch or BATCH, BATCH), plan.seed)
    solve: Any = gd.solve  # its types are those of NumPy
    settings = gd.Settings(threads=threads)
    data = [torch.tensor(each) for each in (batch.P, batch.q, batch.A, batch.b)]
    v = [torch.tensor(rng.standard_normal(each.shape)) for each in data]
    v[0] = v[0] + v[0].mT
    w = torch.tensor(rng.standard_normal(batch.q.shape))

    def value(step: float) -> tuple[list[Any], Any]:
        leaves = [(each + step * way).requires_grad_() for each, way in zip(data, v, strict=True)]
        return leaves, (w * solve(*leaves, batch.cones, settings, backend).x).sum()

    def gradient(step: float) -> list[Any]:
        leaves, found = value(step)
        return torch.autograd.grad(found, leaves)

    leaves, plain = value(0.0)
    first = torch.autograd.grad(plain, leaves, create_graph=True)
    slope = sum((each * way).sum() for each, way in zip(first, v, strict=True))
    second = torch.autograd.grad(slope, leaves, retain_graph=True)
    ahead, behind = gradient(_STEP), gradient(-_STEP)
    pairs = [(s, (a - b) / (2 * _STEP)) for s, a, b in zip(second, ahead, behind, strict=True)]
    sizes = torch.stack([each.abs().flatten(1).amax(1) for _, each in pairs]).amax(0)
    off = torch.stack([(one - other).abs().flatten(1).amax(1) for one, other in pairs]).amax(0) / sizes

    calls: dict[str, Callable[[], Any]] = {
        "backward": lambda: torch.autograd.grad(plain, leaves, retain_graph=True),
        "recorded": lambda: torch.autograd.grad(plain, leaves, create_graph=True),
        "double": lambda: torch.autograd.grad(slope, leaves, retain_graph=True),
    }
    seconds = interleaved(calls, plan)
    ratios = {
        name: [a / b for a, b in zip(seconds[name], seconds["backward"], strict=True)]
        for name in ("recorded", "double")
    }
    return {
        "family": family.name,
        "batch": batch.size,
        "backward": 1e6 * statistics.median(seconds["backward"]) / batch.size,
        **{name: statistics.median(each) for name, each in ratios.items()},
        **{f"{name}_range": (min(each), max(each)) for name, each in ratios.items()},
        "error_max": float(off.max()),
        "error_median": float(off.median()),
    }


def training(plan: Plan, backend: str, threads: int) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """A training step of the classifier with gpudiff, with cvxpylayers, and with ReLU, which shows what the rest takes.

    Args:
        plan: How much to measure.
        backend: Of gpudiff.
        threads: Of gpudiff.

    Returns:
        Dictionaries with layer, batch, ms (of a step) and ms_range, ratio (to gpudiff's) and, for peers, difference: of
        the gradients of G and h in the first step from gpudiff's, relative to their largest entry. And the reasons, by
        name, why a layer is left out.
    """
    torch, missing = load("torch"), {}
    try:
        images, labels = load("sklearn.datasets").load_digits(return_X_y=True)
    except ImportError as error:
        return [], {"digits": str(error)}
    size = min(plan.batch or BATCH, BATCH)
    batch = torch.tensor(images[:size] / 16), torch.tensor(labels[:size])
    networks = {"gpudiff": _stepped(_ours(backend, threads), batch)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of peers, in each call
        for solver, options in CVXPYLAYERS.items():
            try:
                networks[f"cvxpylayers, {solver}"] = _stepped(_cvxpylayers(solver, options), batch)
            except Exception as error:  # missing, or broken: it is reported, and does not end the run
                missing[f"cvxpylayers, {solver}"] = f"{type(error).__name__}: {error}"
        gradients = {name: torch.cat([net.G.grad.flatten(), net.h.grad]) for name, net in networks.items()}
        networks["ReLU"] = Classifier(lambda y, G, h: torch.relu(y))
        seconds = interleaved({name: partial(network.step, *batch) for name, network in networks.items()}, plan)
    ours = gradients.pop("gpudiff")
    found: list[dict[str, Any]] = []
    for name, each in seconds.items():
        apart = (gradients[name] - ours).abs().max() / ours.abs().max() if name in gradients else None
        found.append(
            {
                "layer": name,
                "batch": size,
                "ms": 1e3 * statistics.median(each),
                "ms_range": (1e3 * min(each), 1e3 * max(each)),
                "ratio": statistics.median(a / b for a, b in zip(each, seconds["gpudiff"], strict=True)),
                "difference": None if apart is None else float(apart),
            }
        )
    return found, missing


class Classifier:
    """The network around a projection, always with the same first weights.

    Args:
        project: The layer.
    """

    def __init__(self, project: Projection) -> None:
        self.torch, self.project = load("torch"), project
        torch, random = self.torch, load("torch").Generator().manual_seed(0)

        def weights(*shape: int) -> Any:
            return (torch.randn(*shape, generator=random, dtype=torch.float64) / shape[-1] ** 0.5).requires_grad_()

        self.first, self.last, self.G = weights(WIDTH, 64), weights(10, WIDTH), weights(ROWS, WIDTH)
        self.h = torch.full((ROWS,), 0.3, dtype=torch.float64, requires_grad=True)
        self.optimiser = torch.optim.Adam([self.first, self.last, self.G, self.h], RATE)

    def step(self, images: Any, labels: Any) -> Any:
        """One step of training: forward, backward, Adam."""
        self.optimiser.zero_grad()
        x = self.project(images @ self.first.T, self.G, self.h)
        loss = self.torch.nn.functional.cross_entropy(x @ self.last.T, labels)
        loss.backward()
        self.optimiser.step()
        return loss


def _stepped(project: Projection, batch: tuple[Any, Any]) -> Classifier:
    """A network after its first step."""
    network = Classifier(project)
    network.step(*batch)
    return network


def _ours(backend: str, threads: int) -> Projection:
    import gpudiff as gd

    torch = load("torch")
    settings, identity = gd.Settings(threads=threads), torch.eye(WIDTH, dtype=torch.float64)
    layer = load("gpudiff.torch").QPLayer(WIDTH, P=identity, settings=settings, backend=backend)
    return lambda y, G, h: layer(q=-y, G=G, h=h).x


def _cvxpylayers(solver: str, options: dict[str, Any]) -> Projection:
    cp, layers = load("cvxpy"), load("cvxpylayers.torch")
    x, y, G, h = cp.Variable(WIDTH), cp.Parameter(WIDTH), cp.Parameter((ROWS, WIDTH)), cp.Parameter(ROWS)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - y)), [G @ x <= h])
    if solver != "DIFFCP":
        load(solver.lower())
    layer = layers.CvxpyLayer(problem, [y, G, h], [x], solver=solver, solver_args=options)
    return lambda y, G, h: layer(y, G, h)[0]
