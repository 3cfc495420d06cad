"""Section 4, appendix A and Proposition D.1 of the paper as properties of random linear networks.

Each test names the result it states. Where the paper's print and its algebra disagree, the test
states what holds and, beside it, that the print does not. Monte-Carlo estimates are compared within
five standard errors. Examples are derandomized: every run tries the same networks.
"""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from overtrain.studies.linear_network import (
    batch_covariances,
    checkpoint_times,
    convergence_rate,
    distance,
    draw_bases,
    expected_noisy_loss,
    fine_tune,
    fine_tuned_losses,
    first,
    gradient_flow,
    ideal_checkpoints,
    inflection,
    largest_learning_rate,
    learned,
    limit,
    loss,
    matrix,
    noise_losses,
    noisy_losses,
    recursion,
    sensitivity,
    steps_to_converge,
)

ERRORS = 5  # standard errors

dimensions = st.integers(2, 6)
seeds = st.integers(0, 2**32 - 1)
penalties = st.sampled_from([0.0, 0.1, 0.5, 1.0, 3.0, 10.0])


def examples(count: int) -> Callable:
    """Settings; a failing example is not made smaller: with a flow in it that takes minutes."""
    phases = [Phase.generate]
    return settings(max_examples=count, deadline=None, derandomize=True, phases=phases)


@st.composite
def spectra(draw, d: int, largest=(0.5, 3.0), ratios=(0.5, 0.85)) -> np.ndarray:
    """d features, strictly decreasing: the largest, and the ratios of neighbours, in a range."""
    falls = draw(st.lists(st.floats(*ratios), min_size=d - 1, max_size=d - 1))
    return draw(st.floats(*largest)) * np.cumprod([1.0, *falls])


@st.composite
def targets(draw, **ranges) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """U, features, V."""
    features = draw(dimensions.flatmap(lambda d: spectra(d, **ranges)))
    u, v = draw_bases(len(features), np.random.default_rng(draw(seeds)))
    return u, features, v


@st.composite
def task_pairs(draw) -> tuple[np.ndarray, np.ndarray]:
    """Features of a pre-training and a fine-tuning task, each decreasing, otherwise unrelated."""
    d = draw(dimensions)
    return draw(spectra(d)), draw(spectra(d, largest=(0.2, 6.0), ratios=(0.5, 0.98)))


def overlap(u: np.ndarray, v: np.ndarray) -> float:
    """cos^2 of half the largest angle of the rotation U^T V: 0 where it has an eigenvalue -1."""
    return np.linalg.eigvalsh(2 * np.eye(len(u)) + u.T @ v + v.T @ u)[0] / 4


def spectral_norm(*matrices: np.ndarray) -> float:
    """The largest operator norm among (..., d, d)."""
    return max(np.linalg.norm(m, 2, axis=(-2, -1)).max() for m in matrices)


def misalignment(pre: np.ndarray, ft: np.ndarray, alpha: float) -> int:
    """The smallest r for which the tasks are (alpha, r)-misaligned (Definition 4.5)."""
    return max(np.flatnonzero(ft <= alpha * pre) + 1, default=0)


def last_fall(losses: np.ndarray, at_rest: float) -> int:
    """r of Theorem A.25: the smallest r such that the loss rises at every n > r."""
    return max(np.flatnonzero(np.diff(losses, prepend=at_rest) <= 0) + 1, default=0)


def close(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    return np.allclose(a, b, rtol=0, atol=tolerance)


# --- pre-training ---------------------------------------------------------------------------------


@given(targets(), st.floats(5, 30))
@examples(15)
def test_features_follow_logistic_curves_where_u_is_v(target, tau):
    """The flow against its closed form, every feature within 1e-7 sigma_1 at 40 times."""
    u, features, _ = target
    times = np.linspace(0, 1.3 * checkpoint_times(features, tau)[-1], 40)
    w1, w2 = gradient_flow(u, u, features, tau, times)
    closed = learned(features, tau, times)[:, None] * np.eye(len(features))
    assert close(u.T @ w1 @ w2 @ u, closed, 1e-7 * features[0])


@given(targets())
@examples(12)
def test_features_are_learned_one_at_a_time(target):
    """Theorem 4.1: from the largest on; each is half there at tau / (2 sigma), nearly."""
    u, features, v = target
    assume(overlap(u, v) > 0.01)
    tau = 40
    times = np.linspace(0, checkpoint_times(features, tau)[-1], 2000)
    w1, w2 = gradient_flow(u, v, features, tau, times)
    diagonal = ((u.T @ w1) * (w2 @ v).mT).sum(axis=-1)
    half = times[(diagonal > features / 2).argmax(axis=0)]
    assert np.all(np.diff(half) > 0)
    assert np.allclose(half, tau / (2 * features), rtol=0.25)
    assert np.all(np.diff(checkpoint_times(features, tau)) > 0)


@given(targets())
@examples(12)
def test_checkpoints_converge_to_the_ideal_ones_at_the_rate_c(target):
    """Theorem A.1, up to a rotation of the hidden layer: log distance falls as -C tau.

    Only up to it: W1 and W2 by themselves do not come near U Sigma^(1/2) and Sigma^(1/2) V^T. The
    rotation is there from the start, a multiple of the identity, since W1^T W1 - W2 W2^T stays 0.
    """
    u, features, v = target
    assume(overlap(u, v) > 0.01)  # elsewhere the rate is the same, from a larger tau on
    rate = convergence_rate(features)
    ideals = ideal_checkpoints(u, v, features)
    taus = np.array([13, 15, 17, 19]) / rate  # at 8 to 14 one target in 70 is up to 11 % off
    runs = [gradient_flow(u, v, features, tau, checkpoint_times(features, tau)) for tau in taus]
    away = [distance(*run, *ideals).max() for run in runs]
    assert np.polyfit(taus, np.log(away), 1)[0] == pytest.approx(-rate, rel=0.1)
    w1, w2 = runs[-1]
    assert close(w1 @ w2, matrix(u, first(features), v), 1e-3)
    assert close(w1.mT @ w1, w2 @ w2.mT, 1e-12)


@given(dimensions, st.sampled_from([(1, 1), (1, 0), (0, 1)]), seeds)
@examples(15)
def test_distance_is_up_to_a_rotation_of_the_hidden_layer(d, present, seed):
    rng = np.random.default_rng(seed)
    w1, w2 = np.array(present)[:, None, None] * rng.standard_normal((2, d, d))
    q, _ = draw_bases(d, rng)
    assert distance(w1 @ q, q.T @ w2, w1, w2) == pytest.approx(0, abs=1e-12)
    away = max(np.linalg.norm(w1 @ q - w1), np.linalg.norm(q.T @ w2 - w2))
    assert distance(w1 @ q, q.T @ w2, w1, w2, rotate=False) == pytest.approx(away)
    assert away > 1e-3


def test_theorem_a1_does_not_hold_without_the_rotation():
    """Where U = V the flow ends at U Sigma^(1/2) U^T: as far from U Sigma^(1/2) at every tau."""
    features = np.array([2.0, 1.2, 0.6])
    u, _ = draw_bases(3, np.random.default_rng(0))
    ideals = ideal_checkpoints(u, u, features)
    for tau in (20, 40, 80):
        flow = gradient_flow(u, u, features, tau, checkpoint_times(features, tau))
        assert distance(*flow, *ideals).max() < 2 * np.exp(-convergence_rate(features) * tau)
        expected = np.linalg.norm((u.T - np.eye(3)) * np.sqrt(features)[:, None])
        assert distance(*flow, *ideals, rotate=False)[-1] == pytest.approx(expected, rel=1e-3)
        assert expected > 1


@given(targets(), st.floats(5, 10), st.data())
@examples(15)
def test_the_last_feature_is_not_learned_where_det_is_negative(target, tau, data):
    """With det(U V^T) = -1, det(theta) stays positive and the loss above sigma_d^2.

    At moderate tau and t: rest is a saddle, where the solver's rounding grows as well.
    """
    u, features, v = target
    times = np.linspace(0, 1.3 * checkpoint_times(features, tau)[-1], 30)
    flipped = u.copy()
    flipped[:, data.draw(st.integers(0, len(features) - 1))] *= -1
    w1, w2 = gradient_flow(flipped, v, features, tau, times)
    determinants = np.linalg.det(w1 @ w2) / np.prod(features)  # -1 if all were learned
    assert determinants[0] > 0 and np.all(determinants > -1e-6)
    assert loss(w1 @ w2, matrix(flipped, features, v)).min() > features[-1] ** 2 * (1 - 1e-6)
    if overlap(u, v) > 0.01:
        w1, w2 = gradient_flow(u, v, features, tau, times)
        assert loss(w1 @ w2, matrix(u, features, v))[-1] < features[-1] ** 2 / 2


def test_nothing_is_learned_where_v_is_minus_u():
    """det(U V^T) = 1 suffices for almost all U and V only: U^T V must not have an eigenvalue -1."""
    u, _ = draw_bases(4, np.random.default_rng(0))
    features = np.array([1.0, 0.8, 0.6, 0.4])
    w1, w2 = gradient_flow(u, -u, features, 10, np.linspace(0, 30, 10))
    assert np.linalg.det(u @ -u.T) == pytest.approx(1)
    assert np.abs(w1 @ w2).max() == np.abs(w1[0] @ w2[0]).max()


# --- Gaussian noise -------------------------------------------------------------------------------


@given(targets(), st.floats(0.05, 0.6), seeds)
@examples(20)
def test_lemma_a4_is_an_equality(target, gamma, seed):
    """L(n) - L(n - 1) = (2 d gamma^2 - sigma_n) sigma_n: exactly, and in Monte-Carlo means.

    The draws are the same for all n.
    """
    u, features, v = target
    d = len(features)
    a = matrix(u, features, v)
    rest = np.zeros((1, d, d))
    w1, w2 = (np.concatenate([rest, ideal]) for ideal in ideal_checkpoints(u, v, features))
    steps = (2 * d * gamma**2 - features) * features
    exact = expected_noisy_loss(w1, w2, a, gamma)
    assert np.allclose(np.diff(exact), steps, rtol=1e-9, atol=1e-12)
    assert np.allclose(noise_losses(features, gamma), exact[1:])
    noise = np.random.default_rng(seed).standard_normal((2, 3000, 1, d, d))
    losses = noisy_losses(w1, w2, a, gamma, noise)
    for draws, mean in ((losses, exact), (np.diff(losses), steps)):
        error = draws.std(axis=0) / np.sqrt(len(draws))
        assert np.all(np.abs(draws.mean(axis=0) - mean) < ERRORS * error)


@given(dimensions, st.floats(0.1, 2), seeds)
@examples(15)
def test_lemma_a5(d, gamma, seed):
    """E |Z M|_F^2 = d gamma^2 |M|_F^2."""
    rng = np.random.default_rng(seed)
    fixed = rng.standard_normal((d, d))
    draws = loss(gamma * rng.standard_normal((3000, d, d)) @ fixed, 0)
    error = draws.std() / np.sqrt(len(draws))
    assert abs(draws.mean() - d * gamma**2 * loss(fixed, 0)) < ERRORS * error


@given(targets(), st.floats(0.3, 3.0))
@examples(100)
def test_theorem_a3_needs_half_of_its_condition(target, strength):
    """gamma^2 > sigma_d / (2 d) suffices for a rise at the end, and below it there is none.

    The theorem asks for sigma_d / d, `strength` 2. The rises are all after the falls.
    """
    _, features, _ = target
    assume(abs(strength - 1) > 1e-6)
    d = len(features)
    gamma = np.sqrt(strength * features[-1] / (2 * d))
    rises = np.diff(noise_losses(features, gamma)) > 0
    assert rises[-1] == (strength > 1)
    assert np.array_equal(rises, np.sort(rises))
    assert (inflection(noise_losses(features, gamma)) < d) == (strength > 1)


@given(targets(), st.floats(0.01, 1.0))
@examples(100)
def test_inflection_under_noise_is_one_before_the_smallest_rising_n(target, gamma):
    """Definition 4.2 names the checkpoint before the rise; section 4.2 the one after it."""
    _, features, _ = target
    d = len(features)
    rising = [n for n in range(1, d + 1) if 2 * d * gamma**2 > features[n - 1]]
    assert inflection(noise_losses(features, gamma)) == max(min(rising, default=d + 1) - 1, 1)


def a2_bound(features: np.ndarray, gamma: float) -> float:
    """What Assumption A.2 asks exp(-C tau) to be below."""
    last = features[-1] ** 2 / (16 * len(features) * features[0] * (2 * features[0] + gamma**2))
    return min(features[0] / 2, 1 / 4, last)


@given(targets(largest=(2.0, 4.0)), st.floats(1.2, 3.0))
@examples(8)
def test_lemma_a6_and_theorem_a3_at_real_checkpoints(target, strength):
    """Where Assumption A.2 holds with the measured distance as exp(-C tau).

    sigma_1 >= d / 3 here: see test_lemma_a6_fails_for_small_features.
    """
    u, features, v = target
    assume(overlap(u, v) > 0.01)
    d = len(features)
    gamma = np.sqrt(strength * features[-1] / (2 * d))
    allowed = a2_bound(features, gamma)
    tau = (3 - np.log(allowed)) / convergence_rate(features)
    w1, w2 = gradient_flow(u, v, features, tau, checkpoint_times(features, tau))
    assume(distance(w1, w2, *ideal_checkpoints(u, v, features)).max() <= allowed)
    real = expected_noisy_loss(w1, w2, matrix(u, features, v), gamma)
    ideal = noise_losses(features, gamma)
    assert np.all(np.abs(real - ideal) <= features[-1] ** 2 / 2)
    assert close(real, ideal, 0.1 * features[-1] ** 2)
    s = inflection(ideal)
    assert s < d and np.all(np.diff(real)[s - 1 :] > 0)


def grown(ideal: np.ndarray, by: float) -> np.ndarray:
    """Matrices (..., d, d) made longer by this much."""
    return ideal * (1 + by / np.linalg.norm(ideal, axis=(-2, -1), keepdims=True))


def noise_error(features: np.ndarray, gamma: float, away: float, seed: int) -> np.ndarray:
    """|L(theta) - L(ideal)| under noise, of two theta for every n at distance `away` from ideal.

    One in a random direction, one where W1 and W2 are the ideal ones made longer.
    """
    rng = np.random.default_rng(seed)
    u, v = draw_bases(len(features), rng)
    ideals, a = np.array(ideal_checkpoints(u, v, features)), matrix(u, features, v)
    noise = rng.standard_normal(ideals.shape)
    noise *= away / np.linalg.norm(noise, axis=(-2, -1), keepdims=True)
    exact = [expected_noisy_loss(*w, a, gamma) for w in (ideals + noise, grown(ideals, away))]
    return np.abs(exact - noise_losses(features, gamma))


@given(dimensions, st.data(), st.floats(0.01, 10), seeds)
@examples(40)
def test_lemma_a6_holds_for_large_features(d, data, gamma, seed):
    """sigma_1 >= d / 3 suffices, for any W1 and W2 at the distance that A.2 allows."""
    features = data.draw(spectra(d, largest=(d / 3, d), ratios=(0.5, 1 - 1e-6)))
    error = noise_error(features, gamma, a2_bound(features, gamma), seed)
    assert np.all(error <= features[-1] ** 2 / 2)


@given(dimensions, st.data(), st.floats(0.01, 10), st.floats(1e-3, 1), seeds)
@examples(40)
def test_lemma_a6_with_the_norm_of_w_holds_for_all_features(d, data, gamma, away, seed):
    """|Tr(W'^T dW)| <= |W'| |dW| with |W'|^2 = sigma_1 + ... + sigma_n; the proof has sigma_1^2."""
    features = data.draw(spectra(d, largest=(0.01, 3.0), ratios=(0.5, 1 - 1e-6)))
    norm = np.sqrt(np.cumsum(features))
    unlearned = np.linalg.norm(features - first(features), axis=1)
    product = 2 * away * np.sqrt(features[0]) + away**2  # at least |theta - theta'|
    change = product * (product + 2 * unlearned)
    growth = 2 * d * gamma**2 * (2 * away * norm + away**2)
    error = noise_error(features, gamma, away, seed)
    assert np.all(error <= change + growth + 1e-9)
    assert np.all(error[1] >= growth - change - 1e-9)  # the longer W1 and W2: it is sharp


def test_lemma_a6_fails_for_small_features():
    """sqrt(sigma_1 + ... + sigma_n) is more than 2 sigma_1 there, and the noise multiplies it.

    At networks as near to the ideal ones as A.2 asks, and on the flow too: Theorem A.1 says no more
    of the times t_n than that the flow is within exp(-C tau) of the ideal checkpoints then.
    """
    features, gamma, eye = np.array([0.1, 0.09]), 10.0, np.eye(2)
    away = a2_bound(features, gamma)
    ideals = ideal_checkpoints(eye, eye, features)
    w1, w2 = (grown(ideal, away) for ideal in ideals)
    assert distance(w1, w2, *ideals) == pytest.approx(away)
    exact = expected_noisy_loss(w1, w2, np.diag(features), gamma)
    excess = (exact - noise_losses(features, gamma)) / (features[-1] ** 2 / 2)
    assert excess == pytest.approx([1.58, 2.18], abs=0.01)  # at most 1, says the lemma

    tau = 400
    times = checkpoint_times(features, tau)  # of which the second is later than need be
    times[1] = (2 * tau + np.log(features[1] ** 1.5 / 2 / away * 1.01)) / (4 * features[1])
    assert times[1] > times[0]
    roots = np.sqrt(learned(features, tau, times))[:, None] * eye  # the flow, where U = V
    assert 0.9 * away < distance(roots, roots, *ideals).max() <= away
    exact = expected_noisy_loss(roots, roots, np.diag(features), gamma)
    excess = np.abs(exact - noise_losses(features, gamma)) / (features[-1] ** 2 / 2)
    assert excess[1] > 1.4


# --- fine-tuning ----------------------------------------------------------------------------------


@given(task_pairs(), penalties, seeds)
@examples(15)
def test_a_step_is_the_gradient_of_the_batch_loss(tasks, penalty, seed):
    """Eqs. 10 and 11, the second with the covariance behind the residual: in front it is not."""
    rng = np.random.default_rng(seed)
    d, eta = len(tasks[0]), 0.01
    u, v = draw_bases(d, rng)
    target = matrix(u, tasks[1], v)
    before = rng.standard_normal((2, d, d))
    inputs = rng.standard_normal((3 * d, 2, d))  # two batches; the first step has no penalty yet
    covariances = np.einsum("mki,mkj->kij", inputs, inputs) / len(inputs)
    weights = np.array(fine_tune(*before, target, penalty, eta, covariances[:1]))
    steps = (weights - fine_tune(*before, target, penalty, eta, covariances)) / eta

    def batch_loss(w: np.ndarray) -> float:
        theta, start = w[0] @ w[1], before[0] @ before[1]
        errors = inputs[:, 1] @ (theta - target).T
        return (errors**2).sum() / len(inputs) + penalty * ((theta - start) ** 2).sum()

    units, h = np.eye(2 * d * d).reshape(-1, 2, d, d), 1e-5
    rises = [batch_loss(weights + h * e) - batch_loss(weights - h * e) for e in units]
    gradient = np.reshape(rises, (2, d, d)) / (2 * h)
    assert close(steps, gradient, 1e-6 * np.abs(gradient).max())
    theta = weights[0] @ weights[1]
    printed = covariances[1] @ (theta - target) + penalty * (theta - before[0] @ before[1])
    assert not close(2 * weights[0].T @ printed, gradient[1], 1e-2 * np.abs(gradient).max())


@given(task_pairs(), penalties, st.integers(1, 60), seeds)
@examples(25)
def test_lemma_a7(tasks, penalty, steps, seed):
    """Infinite batch, ideal start: each learned feature follows `recursion`, the rest stays 0.

    The print of W2 lacks the transposition of V. With finite batches checkpoint n keeps rank n.
    """
    pre, ft = tasks
    rng = np.random.default_rng(seed)
    d = len(pre)
    u, v = draw_bases(d, rng)
    eta = 0.99 * largest_learning_rate(pre, ft, penalty)
    start, target = ideal_checkpoints(u, v, pre), matrix(u, ft, v)
    w1, w2 = fine_tune(*start, target, penalty, eta, [np.eye(d)] * steps)
    roots = np.sqrt(pre)
    for _ in range(steps):
        roots = recursion(roots, np.sqrt(ft), np.sqrt(pre), penalty, eta)
    diagonal = first(roots)[..., None] * np.eye(d)
    assert close(u.T @ w1, diagonal, 1e-10)
    assert close(w2 @ v, diagonal, 1e-10)
    w1, w2 = fine_tune(*start, target, penalty, eta, batch_covariances(d, 2000, steps, rng))
    singular = np.linalg.svd(w1 @ w2, compute_uv=False)
    assert close(singular[~np.tri(d, dtype=bool)], 0, 1e-10)
    assert np.diagonal(singular).min() > 1e-4


@given(task_pairs(), penalties, st.floats(0.05, 0.99))
@examples(50)
def test_lemma_a28_contracts_to_the_root_of_the_limit(tasks, penalty, share):
    """x - s shrinks by 1 - 2 eta (1 + lambda) x (x + s), in [0, 1) under A.8, where s^2 = limit.

    So x stays between sigma_pre and sigma_ft (their roots) and is within
    (1 - 4 eta (1 + lambda) min(sigma_ft, sigma_pre))^k |x_0 - s|, less than the print's
    (1 - 2 eta min)^k. Its s lacks the root and has the weights the other way round.
    """
    pre, ft = tasks
    eta = share * largest_learning_rate(pre, ft, penalty)
    end = np.sqrt(limit(pre, ft, penalty))
    low, high = np.sqrt(np.minimum(pre, ft)), np.sqrt(np.maximum(pre, ft))
    x = np.sqrt(pre)
    for k in range(1, 41):
        factor = 1 - 2 * eta * (1 + penalty) * x * (x + end)
        assert np.all((factor > 0) & (factor < 1))
        following = recursion(x, np.sqrt(ft), np.sqrt(pre), penalty, eta)
        assert close(following - end, factor * (x - end), 1e-12)
        x = following
        assert np.all((low - 1e-12 <= x) & (x <= high + 1e-12))
        bound = (1 - 4 * eta * (1 + penalty) * low**2) ** k
        assert np.all(np.abs(x - end) <= bound * np.abs(np.sqrt(pre) - end) + 1e-12)


@given(task_pairs(), penalties, st.floats(1e-4, 1e-2))
@examples(25)
def test_lemma_a11_converges_to_the_weighted_mean(tasks, penalty, epsilon):
    """After A.10's number of steps: (sigma_ft + lambda sigma_pre) / (1 + lambda), as in A.23.

    The print has (sigma_pre + lambda sigma_ft) / (1 + lambda): the same only for lambda = 1.
    """
    pre, ft = tasks
    assume(np.abs(pre - ft).max() > 0.1)
    eta = 0.9 * largest_learning_rate(pre, ft, penalty)
    bound = max(pre[0], ft[0])
    smallest = min(pre[-1], ft[-1])
    x = np.sqrt(pre)
    for _ in range(int(np.log(100 * bound / epsilon) / (eta * smallest)) + 1):
        x = recursion(x, np.sqrt(ft), np.sqrt(pre), penalty, eta)
    assert close(x**2, limit(pre, ft, penalty), epsilon)
    assert close(x**2, (ft + penalty * pre) / (1 + penalty), epsilon)
    printed = (pre + penalty * ft) / (1 + penalty)
    assert close(x**2, printed, epsilon) == (penalty == 1)


@given(task_pairs(), st.sampled_from([0.5, 1.0, 3.0]))
@examples(20)
def test_equation_18_as_printed_has_another_limit(tasks, penalty):
    """Without x in its last term the feature ends elsewhere, unless it ends at 1 or never moves."""
    pre, ft = tasks
    ends = limit(pre, ft, penalty)
    assume(np.any((np.abs(ends - 1) > 0.1) & (np.abs(ft - pre) > 0.2)))
    s, s0 = np.sqrt(ft), np.sqrt(pre)
    eta = 0.1 * largest_learning_rate(pre, ft, penalty) * min(1, pre[-1])
    x = np.sqrt(ends)
    for _ in range(2000):
        x = x + 2 * eta * x * (s**2 - x**2) + 2 * eta * penalty * (s0**2 - x**2)
    assert np.allclose(recursion(np.sqrt(ends), s, s0, penalty, eta), np.sqrt(ends))
    assert np.abs(x**2 - ends).max() > 1e-3


@given(task_pairs(), penalties, st.integers(0, 40), seeds)
@examples(25)
def test_lemma_a9_holds_with_the_root_of_gamma(tasks, penalty, steps, seed):
    """|W|_op <= Gamma^(1/2). As printed, |W|_op <= Gamma, it fails at k = 0 where Gamma < 1."""
    pre, ft = tasks
    d = len(pre)
    u, v = draw_bases(d, np.random.default_rng(seed))
    eta = 0.99 * largest_learning_rate(pre, ft, penalty)
    start = ideal_checkpoints(u, v, pre)
    weights = fine_tune(*start, matrix(u, ft, v), penalty, eta, [np.eye(d)] * steps)
    assert spectral_norm(*weights) <= np.sqrt(max(pre[0], ft[0])) * (1 + 1e-9)
    small = ideal_checkpoints(u, v, pre / pre[0] / 4)
    assert spectral_norm(*small) == pytest.approx(1 / 2)  # more than Gamma = 1 / 4


def covariances_within(
    bound: float, d: int, steps: int, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Covariances of batches just large enough, and their epsilon = max |Sigma_k - I|_op."""
    covariances = batch_covariances(d, int(10 * d / bound**2), steps, rng)
    epsilon = spectral_norm(covariances - np.eye(d))
    assume(bound / 20 < epsilon < bound)
    return covariances, epsilon


@given(
    task_pairs(), st.sampled_from([0.0, 1.0, 10.0, 100.0]), st.floats(0.1, 0.99), st.data(), seeds
)
@examples(40)
def test_lemma_a17_finite_batches(tasks, penalty, share, data, seed):
    """Finite against infinite batch, from the ideal start: the proof's bound, at every lambda.

    It is below the statement's, 2 (1 + 16 eta Gamma)^k epsilon Gamma^(1/2). The proof drops
    1 + lambda (test_lemma_a16_lacks_the_penalty), its bound holds nevertheless.
    """
    pre, ft = tasks
    rng = np.random.default_rng(seed)
    d, bound = len(pre), max(pre[0], ft[0])
    steps = data.draw(st.integers(1, 4))
    eta = share * largest_learning_rate(pre, ft, penalty)
    growth = 1 + 16 * eta * bound
    covariances, epsilon = covariances_within(1 / (4 * growth**steps), d, steps, rng)
    u, v = draw_bases(d, rng)
    start, target = ideal_checkpoints(u, v, pre), matrix(u, ft, v)
    for k in range(1, steps + 1):
        finite = fine_tune(*start, target, penalty, eta, covariances[:k])
        infinite = fine_tune(*start, target, penalty, eta, [np.eye(d)] * k)
        error = spectral_norm(np.subtract(finite, infinite))
        assert 0 < error <= (growth**k - 1) * 2 * epsilon * np.sqrt(bound)


@given(
    task_pairs(), st.sampled_from([0.0, 1.0, 10.0, 100.0]), st.floats(0.1, 0.99), st.data(), seeds
)
@examples(12)
def test_lemma_a19_real_start(tasks, penalty, share, data, seed):
    """Real against ideal start, same batches, each held to its own start.

    The ideal start is rotated to the real one; exp(-C tau) is the measured distance (Frobenius).
    """
    pre, ft = tasks
    rng = np.random.default_rng(seed)
    d, bound = len(pre), max(pre[0], ft[0])
    steps = data.draw(st.integers(1, 3))
    eta = share * largest_learning_rate(pre, ft, penalty)
    growth = 1 + 32 * eta * bound
    covariances, _ = covariances_within(1 / (4 * growth**steps), d, steps, rng)
    u, v = draw_bases(d, rng)
    target, tau = matrix(u, ft, v), data.draw(st.floats(3, 8)) / convergence_rate(pre)
    real = gradient_flow(u, v, pre, tau, checkpoint_times(pre, tau))
    ideal1, ideal2 = ideal_checkpoints(u, v, pre)
    left, _, right = np.linalg.svd(ideal1.mT @ real[0] + ideal2 @ real[1].mT)
    ideal = ideal1 @ left @ right, (left @ right).mT @ ideal2
    assert close(ideal[0] @ ideal[1], matrix(u, first(pre), v), 1e-12)
    apart = distance(*real, ideal1, ideal2)
    for k in range(1, steps + 1):
        ends = [fine_tune(*start, target, penalty, eta, covariances[:k]) for start in (real, ideal)]
        errors = np.linalg.norm(np.subtract(*ends), 2, axis=(-2, -1)).max(axis=0)
        assert np.all(errors <= growth**k * apart)


def test_lemma_a16_lacks_the_penalty():
    """Two networks held to the same start: a step may part them by more than 1 + 16 eta Gamma.

    The residual of both tasks is (1 + lambda) (theta - A_target), and A.8 lets lambda eta be large.
    """
    features, penalty = np.array([1.0, 0.17]), 100.0
    eta = 0.99 * largest_learning_rate(features, features, penalty)
    w1 = w2 = np.diag(np.sqrt(features))
    nudge = np.array([[0, 1e-6], [0, 0]])
    target = (penalty * w1 @ w2 + np.diag(features)) / (1 + penalty)

    def step(w1: np.ndarray, w2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return fine_tune(w1, w2, target, 0.0, eta * (1 + penalty), [np.eye(2)])

    apart = spectral_norm(np.subtract(step(w1 + nudge, w2 - nudge), step(w1, w2))) / 1e-6
    assert apart == pytest.approx(1.12, abs=0.01)
    assert 1 + 16 * eta * features[0] < 1.05 and 1 + 32 * eta * features[0] < 1.1


# --- Theorem 4.6 ----------------------------------------------------------------------------------


@given(task_pairs(), penalties)
@examples(100)
def test_theorem_46_needs_no_misalignment(tasks, penalty):
    """Delta_pre >= 0 never decreases, by (sigma_ft - sigma_pre)^2 / (1 + lambda)^2, for any task.

    Also for fine-tuning features below those of pre-training.
    """
    pre, ft = tasks
    for task in (ft, pre / 2, pre * ft / ft[0]):
        rises = sensitivity(pre, task, penalty)
        steps = np.diff(rises, prepend=0)
        assert np.all(steps >= 0)
        assert np.allclose(steps, (task - pre) ** 2 / (1 + penalty) ** 2, atol=1e-12)
        remaining = (pre**2).sum() - np.cumsum(pre**2)  # before fine-tuning
        assert np.allclose(rises, fine_tuned_losses(pre, task, penalty)[0] - remaining)
    assert close(sensitivity(pre, pre, penalty), 0, 0)


@given(task_pairs(), penalties, seeds)
@examples(12)
def test_fine_tuning_ends_at_the_closed_forms(tasks, penalty, seed):
    """`sensitivity` and `fine_tuned_losses` against gradient descent with the infinite batch."""
    pre, ft = tasks
    d = len(pre)
    u, v = draw_bases(d, np.random.default_rng(seed))
    a, target = matrix(u, pre, v), matrix(u, ft, v)
    eta = 0.9 * largest_learning_rate(pre, ft, penalty)
    steps = steps_to_converge(pre, ft, penalty, eta, 1e-6)
    start = ideal_checkpoints(u, v, pre)
    w1, w2 = fine_tune(*start, target, penalty, eta, [np.eye(d)] * steps)
    theta = w1 @ w2
    tolerance = 1e-4 * max(pre[0], ft[0]) ** 2
    rises = loss(theta, a) - loss(start[0] @ start[1], a)
    assert close(rises, sensitivity(pre, ft, penalty), tolerance)
    ends = fine_tuned_losses(pre, ft, penalty)
    assert close([loss(theta, a), loss(theta, target)], ends, tolerance)
    if steps:
        w1, w2 = fine_tune(*start, target, penalty, eta, [np.eye(d)] * (steps - 1))
        ends = limit(pre, ft, penalty)
        missing = np.diagonal(u.T @ (w1 @ w2)[-1] @ v) / ends - 1
        assert np.abs(missing).max() > 1e-6  # one step fewer would not do


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("ft", [(3.0, 2.4, 1.9, 1.5), (1.0, 0.6, 0.3, 0.1)])
def test_theorem_46_for_real_checkpoints_and_finite_batches(penalty, ft):
    rng = np.random.default_rng(0)
    pre, ft = np.array([2.0, 1.2, 0.7, 0.4]), np.array(ft)
    u, v = draw_bases(4, rng)
    a, tau = matrix(u, pre, v), 80
    start = gradient_flow(u, v, pre, tau, checkpoint_times(pre, tau))
    eta = 0.5 * largest_learning_rate(pre, ft, penalty)
    steps = steps_to_converge(pre, ft, penalty, eta, 1e-3)
    covariances = batch_covariances(4, 100_000, steps, rng)
    w1, w2 = fine_tune(*start, matrix(u, ft, v), penalty, eta, covariances)
    rises = loss(w1 @ w2, a) - loss(start[0] @ start[1], a)
    assert rises[0] > 0 and np.all(np.diff(rises) > 0)
    assert np.allclose(rises, sensitivity(pre, ft, penalty), rtol=0.02)


# --- Theorem 4.7 ----------------------------------------------------------------------------------


@given(task_pairs(), penalties)
@examples(100)
def test_feature_n_raises_the_loss_above_2_plus_lambda_times_sigma_pre(tasks, penalty):
    """Theorem 4.7, part 1, sharp: at lambda = 0, alpha_0 = 2 where A.26 has 4."""
    pre, ft = tasks
    for task in (ft, (2 + penalty) * pre * (1 + 1e-6), (2 + penalty) * pre * (1 - 1e-6)):
        assume(np.all(np.abs(task / pre - 2 - penalty) > 1e-7))
        losses, _ = fine_tuned_losses(pre, task, penalty)
        rises = np.diff(losses, prepend=(pre**2).sum()) > 0
        assert np.array_equal(rises, task > (2 + penalty) * pre)


@given(dimensions, st.floats(2.0, 5.0, exclude_min=True), st.data())
@examples(60)
def test_theorem_47_misaligned_tasks_raise_the_loss_from_r_on(d, alpha, data):
    """(alpha, r)-misaligned with alpha > 2: the loss rises from n = r on, as 4.7 says.

    Theorem A.25 prints "for n <= r", where nothing is known: see the next test.
    """
    pre = data.draw(spectra(d))
    ft = data.draw(spectra(d, largest=(0.5, 6.0), ratios=(0.85, 0.98)))
    r = misalignment(pre, ft, alpha)
    assume(r < d)
    losses, _ = fine_tuned_losses(pre, ft, 0.0)
    assert np.all(np.diff(losses, prepend=(pre**2).sum())[r:] > 0)
    assert inflection(losses) <= max(r, 1) and last_fall(losses, (pre**2).sum()) <= r


def test_theorem_a25_does_not_hold_for_n_up_to_r():
    """(4, 2)-misaligned: features 1 and 2 lower the loss, 3 and 4 raise it."""
    pre, ft = np.array([2.0, 1.0, 0.2, 0.1]), np.array([1.5, 1.2, 1.0, 0.9])
    assert misalignment(pre, ft, 4.0) == 2
    losses, _ = fine_tuned_losses(pre, ft, 0.0)
    steps = np.diff(losses, prepend=(pre**2).sum())
    assert steps == pytest.approx([-3.75, -0.96, 0.6, 0.63])
    assert steps == pytest.approx(ft * (ft - 2 * pre))


@given(task_pairs(), st.floats(0, 20), st.floats(0, 20))
@examples(200)
def test_theorem_47_penalty_delays_the_rise_and_costs_fine_tuning_loss(tasks, one, other):
    """Part 2: r(lambda) never decreases, by both definitions; the fine-tuning loss rises at all n.

    Theorem A.25 prints r_lambda1 <= r_lambda2 for lambda1 > lambda2: see the next test.
    """
    pre, ft = tasks
    weaker, stronger = sorted((one, other))
    assume(stronger - weaker > 1e-3 and np.abs(ft - pre).min() > 1e-3)
    (pre1, ft1), (pre2, ft2) = (fine_tuned_losses(pre, ft, p) for p in (weaker, stronger))
    at_rest = (pre**2).sum()
    assert inflection(pre1) <= inflection(pre2)
    assert last_fall(pre1, at_rest) <= last_fall(pre2, at_rest)
    assert np.all(ft1 < ft2)


def test_theorem_a25_has_the_inequality_of_r_the_wrong_way_round():
    """lambda_1 = 3 > lambda_2 = 0: r is 4 and 1, and 4.7's "increases" is not strict either."""
    pre, ft = np.array([1.0, 0.6, 0.3, 0.15]), np.array([1.5, 1.3, 1.0, 0.6])
    rise = {p: fine_tuned_losses(pre, ft, p)[0] for p in (0.0, 0.1, 1.0, 3.0)}
    assert [inflection(losses) for losses in rise.values()] == [1, 1, 2, 4]
    assert [last_fall(losses, (pre**2).sum()) for losses in rise.values()] == [1, 1, 2, 4]


# --- Proposition D.1 ------------------------------------------------------------------------------


@given(dimensions, st.floats(0.1, 3.0), seeds)
@examples(15)
def test_proposition_d1(d, strength, seed):
    """E L(theta + lambda e) - L(theta) = lambda^2 Tr(H Sigma) / 2: Tr H where Sigma is I."""
    rng = np.random.default_rng(seed)
    hessian, root = rng.standard_normal((2, d, d))
    hessian, gradient, theta = hessian + hessian.T, *rng.standard_normal((2, d))

    def quadratic(x: np.ndarray) -> np.ndarray:
        return 0.5 * ((x @ hessian) * x).sum(axis=-1) + x @ gradient + 1.0

    traces = []
    for factor in (np.eye(d), root):
        noise = rng.standard_normal((20_000, d)) @ factor.T
        draws = quadratic(theta + strength * noise) - quadratic(theta)
        error = draws.std() / np.sqrt(len(draws))
        traces.append(np.trace(hessian @ factor @ factor.T))
        assert abs(draws.mean() - strength**2 * traces[-1] / 2) < ERRORS * error
    if strength**2 * abs(traces[1] - traces[0]) / 2 > 2 * ERRORS * error:
        assert abs(draws.mean() - strength**2 * traces[0] / 2) > ERRORS * error


@given(targets(), st.floats(0.01, 0.1))
@examples(10)
def test_checkpoints_grow_sharper_as_they_grow_more_sensitive(target, gamma):
    """Tr H of the pre-training loss at checkpoint n is 4 d (sigma_1 + ... + sigma_n).

    D.1 with it is the sensitivity to noise, up to d^3 gamma^4, which is the same at all n.
    """
    u, features, v = target
    d = len(features)
    a = matrix(u, features, v)
    w1, w2 = ideal_checkpoints(u, v, features)
    here, h, traces = loss(w1 @ w2, a), 1e-3, 0.0
    for unit in np.eye(d * d).reshape(-1, 1, d, d):
        for sign in (h, -h):
            traces += (loss((w1 + sign * unit) @ w2, a) - here) / h**2
            traces += (loss(w1 @ (w2 + sign * unit), a) - here) / h**2
    assert np.allclose(traces, 4 * d * np.cumsum(features), rtol=1e-6)
    rises = noise_losses(features, gamma) - here
    assert np.allclose(rises, gamma**2 * traces / 2 + d**3 * gamma**4, rtol=1e-6)


# --- drawing --------------------------------------------------------------------------------------


@given(dimensions, st.integers(6, 60), seeds)
@examples(10)
def test_batch_covariances_are_those_of_batches(d, batch_size, seed):
    """Mean I; variance, and third moments, of covariances made from drawn x."""
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((4000, batch_size, d))
    drawn = inputs.mT @ inputs / batch_size
    covariances = batch_covariances(d, batch_size, len(drawn), rng)
    assert np.array_equal(covariances, covariances.mT)
    error = np.sqrt((1 + np.eye(d)) / batch_size / len(drawn))  # variance 2 / m or 1 / m
    assert np.all(np.abs(covariances.mean(axis=0) - np.eye(d)) < ERRORS * error)
    for power in (2, 3):
        moments = [(sample - np.eye(d)) ** power for sample in (covariances, drawn)]
        errors = [moment.std(axis=0) / np.sqrt(len(drawn)) for moment in moments]
        difference = np.abs(moments[0].mean(axis=0) - moments[1].mean(axis=0))
        assert np.all(difference < ERRORS * np.hypot(*errors))


@given(dimensions, st.integers(6, 10**6), st.integers(1, 5), seeds)
@examples(20)
def test_a_seed_draws_the_same_batches_and_bases(d, batch_size, steps, seed):
    one, same, other = (
        batch_covariances(d, batch_size, steps, np.random.default_rng(s))
        for s in (seed, seed, seed + 1)
    )
    assert one.shape == (steps, d, d)
    assert one.tobytes() == same.tobytes() != other.tobytes()
    bases = [np.stack(draw_bases(d, np.random.default_rng(s))) for s in (seed, seed)]
    assert bases[0].tobytes() == bases[1].tobytes()
    assert close(bases[0] @ bases[0].mT, np.eye(d), 1e-12)
    assert np.allclose(np.linalg.det(bases[0]), 1)
    assert not close(*bases[0], 1e-6)


@given(task_pairs(), penalties)
@examples(20)
def test_assumption_a8_is_the_largest_learning_rate(tasks, penalty):
    eta = largest_learning_rate(*tasks, penalty)
    assert 4 * eta * (penalty + 2) * np.concatenate(tasks).max() == pytest.approx(1)
