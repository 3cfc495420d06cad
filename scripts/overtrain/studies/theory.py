"""Section 4 as measurements: each experiment simulated, beside its closed form.

A seed draws everything of one network: U and V, noise, batches. Its checkpoints are those of the
gradient flow, W1 and W2 at t_1 ... t_d, not the ideal ones. Rows are `selection` "simulated" or
"closed_form"; `features` is n; losses are `evaluation` "pretraining" or "fine_tuning".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from tqdm import tqdm

from overtrain import PipelineError
from overtrain.records.measurements import row
from overtrain.records.provenance import seed_of
from overtrain.studies import linear_network as linear

POINTS = 300  # of time, in the curves of pre-training

Rows = Iterator[tuple[dict, str, float]]  # identity, metric, value


class Network:
    """The pre-trained network of one seed: W1 and W2 (d, d, d) at t_1 ... t_d."""

    def __init__(self, config: dict, seed: int):
        spectrum = config["features"]
        self.features = np.geomspace(spectrum["largest"], spectrum["smallest"], spectrum["count"])
        self.name, self.seed = f"linear-{len(self.features)}", seed
        self.u, self.v = linear.draw_bases(len(self.features), self.random("bases"))
        self.target = linear.matrix(self.u, self.features, self.v)
        self.tau = config["tau"]
        self.times = linear.checkpoint_times(self.features, self.tau)
        self.w1, self.w2 = self.flow(self.tau, self.times)

    def random(self, *purpose: str) -> np.random.Generator:
        return np.random.default_rng(seed_of("theory", self.name, self.seed, *purpose))

    def flow(self, tau: float, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        try:
            return linear.gradient_flow(self.u, self.v, self.features, tau, times)
        except RuntimeError as error:
            raise PipelineError(f"theory: tau {tau:g} cannot be integrated: {error}") from error


def simulate(experiment: str, config: dict) -> list[dict]:
    """Measurement rows of an experiment: pretraining, noise or fine_tuning."""
    rows = []
    for seed in tqdm(config["seeds"], desc=experiment, unit="network"):
        network = Network(config, seed)
        identity = {"study": "theory", "model": network.name}
        for own, metric, value in EXPERIMENTS[experiment](network, config):
            if own["selection"] == "simulated":
                rows.append(row(identity | own | {"seed": seed}, metric, float(value)))
            elif seed == config["seeds"][0]:  # a closed form knows no seed
                rows.append(row(identity | own, metric, float(value)))
    return rows


def by_checkpoint(identity: dict, metric: str, values: np.ndarray) -> Rows:
    """Rows of a quantity at checkpoints 1 ... d."""
    for n, value in enumerate(values, start=1):
        yield identity | {"checkpoint": f"t{n}", "features": n}, metric, value


def pretraining(network: Network, config: dict) -> Rows:
    """Features and loss over time (Theorem 4.1); distance of checkpoints from the ideal by tau."""
    d, features, tau = len(network.features), network.features, network.tau
    times = np.geomspace(tau / (4 * features[0]), 1.1 * network.times[-1], POINTS)
    w1, w2 = network.flow(tau, times)
    coordinates = network.u.T @ (w1 @ w2) @ network.v
    simulated = np.diagonal(coordinates, axis1=1, axis2=2)
    logistic = linear.learned(features, tau, times)
    losses = linear.loss(w1 @ w2, network.target)
    off_diagonal = linear.loss(coordinates, coordinates * np.eye(d)) ** 0.5
    for place, time in enumerate(times):
        own = {"selection": "simulated", "time": time}
        for i in range(d):
            yield own | {"features": i + 1}, "singular_value", simulated[place, i]
            closed = own | {"selection": "closed_form", "features": i + 1}
            yield closed, "singular_value", logistic[place, i]
        yield own, "off_diagonal", off_diagonal[place]
        yield own | {"evaluation": "pretraining"}, "loss", losses[place]
    closed = {"selection": "closed_form"}
    yield from by_checkpoint(closed, "time", network.times)
    for tau in config["taus"]:
        own = {"tau": tau, "selection": "simulated"}
        w1, w2 = network.flow(tau, linear.checkpoint_times(features, tau))
        ideal = linear.ideal_checkpoints(network.u, network.v, features)
        product = linear.loss(w1 @ w2, ideal[0] @ ideal[1]) ** 0.5
        yield own, "distance_of_product", product.max()
        yield own, "distance_as_printed", linear.distance(w1, w2, *ideal, rotate=False).max()
        yield own, "distance_up_to_rotation", linear.distance(w1, w2, *ideal).max()
        bound = np.exp(-linear.convergence_rate(features) * tau)
        yield own | closed, "distance_up_to_rotation", bound


def noise(network: Network, config: dict) -> Rows:
    """Loss under Gaussian noise at each checkpoint and gamma (Proposition 4.3, Theorem 4.4)."""
    d = len(network.features)
    draws = network.random("noise").standard_normal((2, config["draws"], 1, d, d))
    for gamma in config["gammas"]:
        losses = linear.noisy_losses(network.w1, network.w2, network.target, gamma, draws).mean(0)
        expected = linear.noise_losses(network.features, gamma)
        for selection, values in (("simulated", losses), ("closed_form", expected)):
            own = {"selection": selection, "gamma": gamma, "evaluation": "pretraining"}
            yield from by_checkpoint(own, "loss", values)
            yield own, "inflection", linear.inflection(values)


def fine_tuning(network: Network, config: dict) -> Rows:
    """Losses after fine-tuning from each checkpoint, by task and lambda (Theorems 4.6, 4.7)."""
    pre = network.features
    lambdas = np.array(config["lambdas"], dtype=float)
    before = linear.loss(network.w1 @ network.w2, network.target)
    for task, ratios in config["spectra"].items():
        ft = pre * np.geomspace(*ratios, len(pre))
        eta = config["step"] * linear.largest_learning_rate(pre, ft, lambdas.max())
        steps = max(linear.steps_to_converge(pre, ft, x, eta, config["tolerance"]) for x in lambdas)
        target = linear.matrix(network.u, ft, network.v)
        batches = linear.batch_covariances(
            len(pre), config["batch_size"], steps, network.random("batches", task)
        )
        # (lambdas, checkpoints, d, d), all on the same batches
        w1, w2 = linear.fine_tune(
            network.w1[None], network.w2[None], target, lambdas[:, None, None, None], eta, batches
        )
        theta = w1 @ w2
        for place, penalty in enumerate(lambdas):
            own = {"task": task, "lambda": penalty, "learning_rate": eta, "selection": "simulated"}
            closed = own | {"selection": "closed_form"}
            results = (
                (own, linear.loss(theta[place], network.target), linear.loss(theta[place], target)),
                (closed, *linear.fine_tuned_losses(pre, ft, penalty)),
            )
            for identity, on_pre, on_ft in results:
                yield from by_checkpoint(identity | {"evaluation": "pretraining"}, "loss", on_pre)
                yield from by_checkpoint(identity | {"evaluation": "fine_tuning"}, "loss", on_ft)
                yield identity, "inflection", linear.inflection(on_pre)
            yield from by_checkpoint(own, "loss_change", results[0][1] - before)
            changes = linear.sensitivity(pre, ft, penalty)
            yield from by_checkpoint(closed, "loss_change", changes)
            # How far each feature went, at the last checkpoint: 0 at sigma_pre, 1 at sigma_ft.
            ends = np.diagonal(network.u.T @ theta[place, -1] @ network.v)
            for i in np.flatnonzero(ft != pre):
                went = own | {"features": i + 1}
                yield went, "progress", (ends[i] - pre[i]) / (ft[i] - pre[i])
            yield closed, "progress", 1 / (1 + penalty)
        for penalty in np.linspace(0, lambdas.max(), POINTS):
            own = {"task": task, "lambda": penalty, "selection": "closed_form"}
            place = linear.inflection(linear.fine_tuned_losses(pre, ft, penalty)[0])
            yield own, "inflection", place


EXPERIMENTS: dict[str, Callable[[Network, dict], Rows]] = {
    "pretraining": pretraining,
    "noise": noise,
    "fine_tuning": fine_tuning,
}
