"""A study's trials as `cv_results_` of scikit-learn's searches: greater scores are better."""

from typing import Any

import numpy as np

from jaxopt_lab.core.status import Status
from jaxopt_lab.study.study import Study


def cv_results(study: Study, ranked: list[int]) -> dict[str, Any]:
    """Tell trials, one entry each.

    Args:
      study: whose search is done.
      ranked: completed trials, best first.

    Returns:
      `params`, `param_NAME` (masked where a trial has no such), `split0_test_score`, ... (NaN where
      a trial was not trained), `mean_test_score` and `std_test_score` (NaN for trials that were not
      completed), `rank_test_score` from 1, and `status`.
    """
    rows, num_folds = study.store.trials(), study.num_folds
    scores = np.full((len(rows), num_folds), np.nan)
    for member in study.store.members():
        if member.fold < num_folds and member.replicate == 0 and member.score is not None:
            scores[member.trial_id, member.fold] = -member.score
    done = np.array([row.status == Status.COMPLETED for row in rows])
    whole = np.where(done[:, None], scores, np.nan)
    places = {trial_id: place for place, trial_id in enumerate(ranked)}
    return {
        "params": [row.config for row in rows],
        **{f"param_{name}": _values(rows, name) for name in _names(rows)},
        **{f"split{fold}_test_score": scores[:, fold] for fold in range(num_folds)},
        "mean_test_score": whole.mean(axis=1),
        "std_test_score": whole.std(axis=1),
        "rank_test_score": np.array([places.get(i, len(ranked)) + 1 for i in range(len(rows))]),
        "status": np.array([str(row.status) for row in rows]),
    }


def _names(rows: list[Any]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.config))


def _values(rows: list[Any], name: str) -> np.ma.MaskedArray:
    found = np.ma.MaskedArray(np.empty(len(rows), dtype=object), mask=True)
    for i, row in enumerate(rows):
        if name in row.config:
            found[i] = row.config[name]
    return found
