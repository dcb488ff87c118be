"""Members of an ensemble are chosen by what a model of them predicts."""

import numpy as np
import pandas as pd
import pytest

import jaxopt_lab as lab
from jaxopt_lab.tuning import final_models


@pytest.mark.parametrize("log_target", [True, False])
def test_members_are_chosen_by_predictions_within_bounds(
    houses: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, log_target: bool
) -> None:
    frame = houses[["area", "age", "price"]].head(120)
    table = lab.datasets.load_table(frame, target="price", log_target=log_target)
    space = lab.SearchSpace(learning_rate=1e-2, hidden_size=4, num_layers=1, batch_size=64)
    study = lab.Study(lab.tasks.tabular(table, numeric="standard"), space)
    study.optimize("random", 1, num_epochs=2, num_folds=2)
    given, seen = final_models._of_folds, []

    def wild(study: lab.Study, trial_id: int) -> list:
        return [m._replace(outputs=np.full_like(m.outputs, 1e4)) for m in given(study, trial_id)]

    def greedy(predictions: np.ndarray, truth: np.ndarray, loss: object) -> np.ndarray:
        seen.append(predictions[0])
        return np.ones(1)

    monkeypatch.setattr(final_models, "_of_folds", wild)
    monkeypatch.setattr(final_models.ensemble, "greedy", greedy)
    final_models.ensemble_weights(study, [0])
    predicted = np.exp(seen[0]) if log_target else seen[0]
    assert predicted.shape == (len(frame), 1)
    assert predicted.max() < 3 * frame["price"].max()
