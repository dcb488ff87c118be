"""Test scores of several targets: of each in its own units, and of all together."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxopt_lab.datasets import Table, TargetLoss, one_by_one
from jaxopt_lab.problems.tabular.task import TabularTask

#: Baseline -> metric -> value.
Scores = Mapping[str, Mapping[str, float]]


def fit_baselines(
    train: Table, test: Table, seed: int, failed: dict[str, str], loss: TargetLoss, scale: Any
) -> dict[str, Any]:
    """The baselines of a target, or target -> those of it where there are several.

    Args:
      train: training rows.
      test: test rows of the same table.
      seed: of gradient boosting.
      failed: receives baseline -> reason where one cannot be fitted.
      loss: of a regression.
      scale: of the target's standardisation; [T] of several targets.
    """
    from jaxopt_lab.datasets import baselines

    if not train.targets:
        return baselines.fit_baselines(train, test, seed, failed, loss, scale)
    sides = zip(one_by_one(train), one_by_one(test), scale, strict=True)
    return {
        mine.target_name: baselines.fit_baselines(mine, new, seed, failed, loss, float(unit))
        for mine, new, unit in sides
    }


def baselines_together(
    problem: TabularTask, baselines: Mapping[str, Scores], scale: np.ndarray
) -> dict[str, dict[str, float]]:
    """What baselines that could be fitted to each target come to together."""
    in_all = [
        name
        for name in next(iter(baselines.values()))
        if all(name in of_target for of_target in baselines.values())
    ]
    found = {}
    for name in in_all:
        each = {target: of_target[name] for target, of_target in baselines.items()}
        found[name] = {problem.metric: problem.shared_score(each, scale)}
    return found


def told(
    problem: TabularTask,
    truth: np.ndarray,
    predicted: Mapping[str, np.ndarray],
    baselines: Mapping[str, Scores],
    scale: np.ndarray,
    intervals: Callable[[int], dict[str, Any]],
) -> dict[str, Any]:
    """Scores of each target, for `best.json`.

    Args:
      problem: with the targets.
      truth: [n, T] of test rows, in the targets' units.
      predicted: "single" and "ensemble" -> [n, T].
      baselines: target -> their scores.
      scale: [T] of the standardisation.
      intervals: place of a target -> what there is to say of its intervals.

    Returns:
      Target -> the metric that it is learnt by, its scores, those of its baselines, its intervals.
    """
    scores = {n: problem.scores_by_target(truth, values, scale) for n, values in predicted.items()}
    return {
        target.name: {
            "metric": problem.target_loss.metric(target.log),
            "test": {name: of_targets[target.name] for name, of_targets in scores.items()},
            "baselines": baselines[target.name],
            **intervals(place),
        }
        for place, target in enumerate(problem.table.targets)
    }
