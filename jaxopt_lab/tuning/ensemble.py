"""Greedy ensembles: which trained members to average, chosen on out-of-fold predictions."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Shaped

#: (prediction [n, o], targets) -> a number, lower is better.
Loss = Callable[[np.ndarray, np.ndarray], float]


def greedy(
    predictions: Float[np.ndarray, "m n o"],
    targets: Shaped[np.ndarray, "..."],
    loss: Loss,
    *,
    max_steps: int = 50,
    max_sorted: int = 5,
    tolerance: float = 0.0,
) -> Float[np.ndarray, " m"]:
    """Weight members by forward selection with replacement; the weighted mean is the ensemble.

    It starts with the average of the k best members, k <= `max_sorted` being the best such k,
    and then adds, one at a time, the member that lowers the loss most (or raises it least). What
    counts in the end is the best ensemble on that way, the smallest where several tie. Ties
    between members go to the lower index, so the result depends on nothing but the arguments.

    On the rows it is chosen on it is never worse than the best single member.

    Args:
      predictions: of m members for the same n rows, in the space in which they are averaged. A
        member with a value that is not finite is never chosen.
      targets: what `loss` compares with.
      loss: (prediction [n, o], targets) -> float, lower is better; NaN counts as infinite.
      max_steps: members in the ensemble at most, repetitions counted.
      max_sorted: most members to start with.
      tolerance: a longer ensemble must lower the loss by more than this share of it. A small
        value such as 1e-4 keeps the ensemble from fitting the noise of the rows.

    Returns:
      [m] float64 weights, at least 0, multiples of 1 / (number of members), summing to 1.

    Raises:
      ValueError: for wrong lengths or limits, or if no member is finite.

    Source: Caruana, Niculescu-Mizil, Crew & Ksikes 2004, "Ensemble selection from libraries of
    models", ICML, doi:10.1145/1015330.1015432 (with replacement, sorted ensemble initialisation).

    Examples:
      >>> truth = np.array([0.0, 1.0])
      >>> members = np.array([[[0.5], [1.5]], [[-0.5], [0.5]], [[9.0], [9.0]]])
      >>> greedy(members, truth, lambda p, t: float(np.mean((p[:, 0] - t) ** 2)))
      array([0.5, 0.5, 0. ])
    """
    _check(predictions, targets, max_steps, max_sorted, tolerance)
    usable = _usable(predictions)
    if not usable.any():
        raise ValueError("no member has finite predictions for all rows")
    singles = np.array(
        [
            _loss(loss, p, targets) if ok else np.inf
            for p, ok in zip(predictions, usable, strict=True)
        ]
    )
    order = [int(i) for i in np.argsort(singles, kind="stable") if usable[i]]
    path, losses = _sorted_start(predictions, targets, loss, order[: min(max_sorted, max_steps)])
    total = predictions[path].sum(axis=0, dtype=np.float64)
    while len(path) < max_steps:
        size = len(path) + 1
        tried = [_loss(loss, (total + predictions[i]) / size, targets) for i in sorted(order)]
        path.append(sorted(order)[int(np.argmin(tried))])
        total += predictions[path[-1]]
        losses[size] = float(np.min(tried))
    best = _shortest(losses, tolerance)
    return np.bincount(path[:best], minlength=len(predictions)) / best


def bagged(
    predictions: Float[np.ndarray, "m n o"],
    targets: Shaped[np.ndarray, "..."],
    loss: Loss,
    *,
    num_bags: int = 20,
    share: float = 0.5,
    seed: int = 0,
    max_steps: int = 50,
    max_sorted: int = 5,
) -> Float[np.ndarray, " m"]:
    """Average the weights of greedy ensembles from random subsets of the members.

    With many members and few rows plain forward selection finds members that fit those rows by
    chance; a member that is chosen from many different subsets deserves it. Should the result be
    worse on the rows than the best single member, plain `greedy` is returned instead.

    Args:
      predictions: as in `greedy`.
      targets: as in `greedy`.
      loss: as in `greedy`.
      num_bags: subsets.
      share: of the usable members in each, at least one.
      seed: of the subsets.
      max_steps: as in `greedy`, in each bag.
      max_sorted: as in `greedy`, in each bag.

    Returns:
      [m] float64 weights, at least 0, summing to 1.

    Raises:
      ValueError: as `greedy`, and for a share outside (0, 1] or no bag.

    Source: Caruana et al. 2004 (bagged ensemble selection: 20 bags of half of the
    models).
    """
    if num_bags < 1 or not 0 < share <= 1:
        raise ValueError(f"need num_bags >= 1 and 0 < share <= 1, got {num_bags} and {share}")
    plain = greedy(predictions, targets, loss, max_steps=max_steps, max_sorted=max_sorted)
    members = np.flatnonzero(_usable(predictions))
    size = max(1, round(share * len(members)))
    rng = np.random.default_rng(seed)
    weights = np.zeros(len(predictions))
    for _ in range(num_bags):
        bag = np.sort(rng.choice(members, size, replace=False))
        found = greedy(predictions[bag], targets, loss, max_steps=max_steps, max_sorted=max_sorted)
        weights[bag] += found / num_bags
    weights /= weights.sum()
    single = min(_loss(loss, predictions[i], targets) for i in members)
    return weights if _loss(loss, combine(predictions, weights), targets) <= single else plain


def combine(
    predictions: Float[np.ndarray, "m n o"], weights: Float[np.ndarray, " m"]
) -> Float[np.ndarray, "n o"]:
    """The weighted mean of the members' predictions; members of weight 0 are not read."""
    used = np.flatnonzero(weights)
    return np.tensordot(weights[used], predictions[used].astype(np.float64), axes=1)


def _usable(predictions: Float[np.ndarray, "m n o"]) -> Bool[np.ndarray, " m"]:
    return np.isfinite(predictions).all(axis=(1, 2))


def _loss(loss: Loss, prediction: np.ndarray, targets: np.ndarray) -> float:
    value = float(loss(np.asarray(prediction, np.float64), targets))
    return np.inf if np.isnan(value) else value


def _sorted_start(
    predictions: np.ndarray, targets: np.ndarray, loss: Loss, ranked: list[int]
) -> tuple[list[int], dict[int, float]]:
    """The best prefix of the ranked members, and the loss by number of members."""
    sums = np.cumsum(predictions[ranked], axis=0, dtype=np.float64)
    losses = {k + 1: _loss(loss, sums[k] / (k + 1), targets) for k in range(len(ranked))}
    best = _shortest(losses, 0.0)
    return ranked[:best], {k: v for k, v in losses.items() if k <= best}


def _shortest(losses: dict[int, float], tolerance: float) -> int:
    """The number of members with the least loss; more members must earn it."""
    best = min(losses)
    for size in sorted(losses):
        if losses[size] < losses[best] - tolerance * abs(losses[best]):
            best = size
    return best


def _check(
    predictions: np.ndarray,
    targets: np.ndarray,
    max_steps: int,
    max_sorted: int,
    tolerance: float,
) -> None:
    if predictions.ndim != 3 or not len(predictions):
        raise ValueError(f"predictions must be [m, n, o] with m >= 1, got {predictions.shape}")
    if len(targets) != predictions.shape[1]:
        raise ValueError(f"{predictions.shape[1]} rows predicted, {len(targets)} targets")
    if max_steps < 1 or max_sorted < 1 or tolerance < 0:
        raise ValueError(
            "need max_steps >= 1, max_sorted >= 1 and tolerance >= 0, "
            f"got {max_steps}, {max_sorted} and {tolerance}"
        )
