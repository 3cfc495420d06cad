"""Two-layer linear networks theta = W1 W2 (paper, section 4, appendix A): dynamics, closed forms.

Pre-training is gradient flow to A_pre = U diag(sigma_pre) V^T from a small multiple of the
identity; it learns the features sigma_1 > ... > sigma_d one after the other, and checkpoint n is
the moment at which n of them are there. Modifications are Gaussian noise, and fine-tuning by
gradient descent to A_ft = U diag(sigma_ft) V^T with a penalty lambda |theta - theta(0)|^2. Losses
are squared Frobenius norms. Arrays of networks are (..., d, d), arrays of features (d,), largest
first; index n - 1 holds what belongs to checkpoint n.

docs/theory.md says where these closed forms differ from what the paper prints.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.integrate import solve_ivp
from scipy.stats import special_ortho_group, wishart

RTOL = 1e-9  # of the solver; its absolute tolerance is RTOL times the initial scale exp(-tau)


# --- pre-training ---------------------------------------------------------------------------------


def draw_bases(d: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """U and V (d, d), uniform among rotations.

    Both have determinant 1. The flow keeps the sign of det(theta), positive at a multiple of the
    identity: with det(U V^T) = -1 the last feature is never learned and t_d does not exist. (In
    full: U^T V must not have the eigenvalue -1, which no random rotation has.)
    """
    return (
        special_ortho_group.rvs(d, random_state=rng),
        special_ortho_group.rvs(d, random_state=rng),
    )


def matrix(u: np.ndarray, features: np.ndarray, v: np.ndarray) -> np.ndarray:
    """U diag(features) V^T for features (..., d)."""
    return u * features[..., None, :] @ v.T


def gradient_flow(
    u: np.ndarray, v: np.ndarray, features: np.ndarray, tau: float, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """W1 and W2 (times, d, d) on the flow of eqs. 5 and 6 from W1 = W2 = exp(-tau) I.

    `times` increase. Solved in the features' coordinates, for U^T W1 and W2 V: there a feature that
    is not yet learned is a small row, not a small difference of large numbers. Raises RuntimeError
    if the solver gives up.
    """
    d = len(features)

    def velocity(_: float, state: np.ndarray) -> np.ndarray:
        w1, w2 = state.reshape(2, d, d)
        residual = w1 @ w2 - np.diag(features)
        return -2 * np.concatenate([(residual @ w2.T).ravel(), (w1.T @ residual).ravel()])

    scale = np.exp(-tau)
    solution = solve_ivp(
        velocity,
        (0.0, times[-1]),
        scale * np.concatenate([u.T.ravel(), v.ravel()]),
        method="LSODA",  # stiff near rest, where a step may be many times 1 / sigma_1
        t_eval=times,
        rtol=RTOL,
        atol=RTOL * scale,
    )
    if not solution.success:
        raise RuntimeError(f"gradient flow from exp(-{tau}) I: {solution.message}")
    w1, w2 = solution.y.T.reshape(-1, 2, d, d).swapaxes(0, 1)
    return u @ w1, w2 @ v.T


def learned(features: np.ndarray, tau: float, times: np.ndarray) -> np.ndarray:
    """Features of theta(t), (times, d), in closed form where U = V: a logistic curve for each.

    ds/dt = 4 s (sigma - s) from exp(-2 tau). Where U and V differ, the overlaps of their vectors
    shift each curve by a time that does not grow with tau.
    """
    growth = 4 * features * times[:, None] - 2 * tau  # log s while s is small
    return features / (1 + np.exp(np.log(features) - growth) - np.exp(-growth - 2 * tau))


def checkpoint_times(features: np.ndarray, tau: float) -> np.ndarray:
    """t_1 ... t_d: when feature n is learned and feature n + 1 is not, as nearly as can be.

    In W, what is missing of feature n is about exp(2 tau - 4 sigma_n t) and what has come of
    feature n + 1 about exp(2 sigma_(n+1) t - tau); at t_n they are equal, exp(-C_n tau).
    """
    return 3 * tau / (4 * features + 2 * np.append(features[1:], 0.0))


def convergence_rate(features: np.ndarray) -> float:
    """The constant C of Theorem A.1 at `checkpoint_times`: the smallest C_n."""
    following = np.append(features[1:], 0.0)
    return float(np.min(2 * (features - following) / (2 * features + following)))


def first(features: np.ndarray) -> np.ndarray:
    """The features of checkpoints 1 ... d, (d, d): row n - 1 holds the first n, then zeros."""
    return np.tril(np.ones((len(features), len(features)))) * features


def ideal_checkpoints(
    u: np.ndarray, v: np.ndarray, features: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """W1 and W2 (d, d, d) of the ideal checkpoints 1 ... d (eqs. 7 and 8)."""
    root = np.sqrt(first(features))
    return u * root[:, None, :], root[:, :, None] * v.T


def distance(
    w1: np.ndarray, w2: np.ndarray, ideal1: np.ndarray, ideal2: np.ndarray, rotate: bool = True
) -> np.ndarray:
    """The larger of |W1 - W1'|_F and |W2 - W2'|_F for networks (..., d, d) and their ideals.

    rotate: after the rotation Q of the hidden layer, W1' Q and Q^T W2', that brings them nearest.
    theta, and every loss here, is the same for all Q; the flow ends at a Q of its own.
    """
    if rotate:
        left, _, right = np.linalg.svd(ideal1.mT @ w1 + ideal2 @ w2.mT)
        q = left @ right
        ideal1, ideal2 = ideal1 @ q, q.mT @ ideal2
    return np.maximum(
        np.linalg.norm(w1 - ideal1, axis=(-2, -1)), np.linalg.norm(w2 - ideal2, axis=(-2, -1))
    )


# --- Gaussian noise -------------------------------------------------------------------------------


def loss(theta: np.ndarray, target: np.ndarray) -> np.ndarray:
    """|theta - A|_F^2 of (..., d, d) (eq. 4)."""
    return ((theta - target) ** 2).sum(axis=(-2, -1))


def noisy_losses(
    w1: np.ndarray, w2: np.ndarray, target: np.ndarray, gamma: float, noise: np.ndarray
) -> np.ndarray:
    """Loss of W1 + gamma Z1 and W2 + gamma Z2; `noise` is (2, ..., d, d), standard normal."""
    return loss((w1 + gamma * noise[0]) @ (w2 + gamma * noise[1]), target)


def expected_noisy_loss(
    w1: np.ndarray, w2: np.ndarray, target: np.ndarray, gamma: float
) -> np.ndarray:
    """The mean of `noisy_losses` over the noise (eq. 13), exact for any W1 and W2.

    |theta - A|^2 + d gamma^2 (|W1|^2 + |W2|^2) + d^3 gamma^4: Lemma A.5 for each term of eq. 15.
    """
    d = w1.shape[-1]
    norms = (w1**2).sum(axis=(-2, -1)) + (w2**2).sum(axis=(-2, -1))
    return loss(w1 @ w2, target) + d * gamma**2 * norms + d**3 * gamma**4


def noise_losses(features: np.ndarray, gamma: float) -> np.ndarray:
    """Expected loss under noise at the ideal checkpoints 1 ... d; steps by Lemma A.4's equality.

    L(n) - L(n - 1) = (2 d gamma^2 - sigma_n) sigma_n.
    """
    d = len(features)
    at_rest = (features**2).sum() + d**3 * gamma**4
    return at_rest + np.cumsum((2 * d * gamma**2 - features) * features)


def inflection(losses: np.ndarray) -> int:
    """The smallest r with losses(r) < losses(r + 1) (Definition 4.2); d if the loss never rises."""
    rises = np.flatnonzero(np.diff(losses) > 0)
    return int(rises[0]) + 1 if len(rises) else len(losses)


# --- fine-tuning ----------------------------------------------------------------------------------


def batch_covariances(d: int, batch_size: int, steps: int, rng: np.random.Generator) -> np.ndarray:
    """Sigma_k = sum of x x^T / m over a batch of m standard normal x: (steps, d, d), Wishart.

    The batch must have at least d inputs.
    """
    draws = wishart(df=batch_size, scale=np.eye(d)).rvs(steps, random_state=rng)
    return draws.reshape(steps, d, d) / batch_size


def fine_tune(
    w1: np.ndarray,
    w2: np.ndarray,
    target: np.ndarray,
    penalty: float | np.ndarray,
    learning_rate: float,
    covariances: Iterable[np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """W1 and W2 after a step of gradient descent for each of `covariances` (eqs. 10 and 11).

    penalty: lambda, a number or (..., 1, 1). The identity as covariance is the infinite batch
    (eqs. 16 and 17). The covariance stands behind the residual in both updates, where the gradient
    of the batch loss has it; the print of eq. 11 has it in front.
    """
    start = w1 @ w2
    for covariance in covariances:
        theta = w1 @ w2
        residual = (theta - target) @ covariance + penalty * (theta - start)
        step1, step2 = residual @ w2.mT, w1.mT @ residual
        w1, w2 = w1 - 2 * learning_rate * step1, w2 - 2 * learning_rate * step2
    return w1, w2


def recursion(x: np.ndarray, ft: np.ndarray, pre: np.ndarray, penalty: float, eta: float):
    """f of eq. 18, with the factor x of A.6: one step of the roots x of a network's features.

    x, ft, pre: roots of the current, the fine-tuning and the pre-training features.
    """
    return x + 2 * eta * x * (ft**2 - x**2) + 2 * eta * penalty * x * (pre**2 - x**2)


def largest_learning_rate(pre: np.ndarray, ft: np.ndarray, penalty: float) -> float:
    """Assumption A.8: 4 eta (lambda + 2) Gamma < 1; Gamma is the largest of all features."""
    return 1 / (4 * (penalty + 2) * max(pre.max(), ft.max()))


def steps_to_converge(
    pre: np.ndarray, ft: np.ndarray, penalty: float, eta: float, tolerance: float
) -> int:
    """Steps until every learned feature is within `tolerance`, relatively, of its limit."""
    end, x, steps = limit(pre, ft, penalty), np.sqrt(pre), 0
    while np.any(np.abs(x**2 - end) > tolerance * end):
        x, steps = recursion(x, np.sqrt(ft), np.sqrt(pre), penalty, eta), steps + 1
    return steps


def limit(pre: np.ndarray, ft: np.ndarray, penalty: float) -> np.ndarray:
    """Learned features after fine-tuning without end: (sigma_ft + lambda sigma_pre) / (1 + lambda).

    As in Lemma A.23; Lemmas A.11 and A.28 print the weights the other way round.
    """
    return (ft + penalty * pre) / (1 + penalty)


def fine_tuned_losses(
    pre: np.ndarray, ft: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pre-training loss and fine-tuning loss (without the penalty) after fine-tuning, (d,) each.

    At checkpoints 1 ... d: what is learned ends at `limit`, what is not stays zero (Theorem 4.7).
    """
    ends = first(limit(pre, ft, penalty))
    return ((ends - pre) ** 2).sum(axis=1), ((ends - ft) ** 2).sum(axis=1)


def sensitivity(pre: np.ndarray, ft: np.ndarray, penalty: float) -> np.ndarray:
    """Delta_pre(n), the rise of the pre-training loss by fine-tuning, at n = 1 ... d.

    Its steps are (sigma_ft - sigma_pre)^2 / (1 + lambda)^2 (Theorem 4.6), never negative.
    """
    return np.cumsum(((ft - pre) / (1 + penalty)) ** 2)
