"""Where the best epoch counts, a tuning says which it is, and the refit trains for the mean."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

import jaxopt_lab as lab
from jaxopt_lab.analysis import learned
from jaxopt_lab.cli.summary import _epochs
from jaxopt_lab.datasets import load_table
from jaxopt_lab.report import build
from jaxopt_lab.report.best_file import read_best
from jaxopt_lab.spaces.space import SearchSpace
from jaxopt_lab.storage.store import Store
from jaxopt_lab.tuning import tune
from jaxopt_lab.tuning.settings import Settings

KEPT = {
    "ema": True,
    "ema_decay": 0.995,
    "early_stopping": True,
    "early_stopping_monitor": "calibrated_loss",
}
EPOCHS = 16


def noisy(rows: int = 160) -> pd.DataFrame:
    """Two classes that two columns tell apart, but for a third of the rows, which are learnt by
    heart."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(rows, 2)).round(3), columns=["a", "b"])
    flipped = rng.random(rows) < 0.33
    frame["kind"] = np.where((frame["a"] + frame["b"] > 0) ^ flipped, "yes", "no")
    return frame


SPACE = SearchSpace(
    **KEPT, hidden_size=32, num_layers=2, batch_size=32, learning_rate=lab.LogUniform(0.05, 0.1)
)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder, table = tmp_path_factory.mktemp("classes"), load_table(noisy(), "kind")
    how: dict[str, Any] = {"trials": 2, "folds": 2, "epochs": EPOCHS, "scheduler": "none"}
    settings = Settings(**how, search="random", space=SPACE)
    return folder, tune.run(table, settings, folder, say=lambda text: None)


def test_a_tuning_says_which_epochs_count(tuned: Any) -> None:
    folder, content = tuned
    found, winner = content["validation"]["epochs"], content["trial_id"]
    store = Store.open(folder, read_only=True)
    members = store.member_arrays(winner)
    known = {row.trial_id: row.keeps_best for row in learned(store)}
    store.close()
    folds = {m.fold: m for m in members if m.replicate == 0}
    seeds = [m.best_unit + 1 for m in members if m.fold < 2]
    assert found["of"] == EPOCHS
    assert found["refit"] == folds[2].num_units == round(np.mean(seeds))
    for fold, epoch in enumerate(found["folds"]):
        curves = folds[fold].curves
        assert epoch == int(np.argmin(curves["calibrated_loss"])) + 1
        assert (curves["calibrated_loss"] <= curves["loss"] + 1e-6).all()
        score = content["validation"]["folds"][fold]
        assert score == pytest.approx(float(curves["loss"][epoch - 1]))
    assert min(found["folds"]) < EPOCHS, "the table would not show which epoch counts"
    assert all(known.values())
    read = read_best(folder / "best.json")
    assert read["validation"]["epochs"] == found
    (line,) = _epochs(read["validation"]["epochs"])
    assert f"of {EPOCHS}: {found['folds'][0]}, {found['folds'][1]};" in line
    assert "the best of each fold counts" in build(folder).read_text(encoding="utf-8")
    assert _epochs(None) == []


def test_the_refit_keeps_its_last_epoch(tuned: Any) -> None:
    folder, content = tuned
    store = Store.open(folder, read_only=True)
    (refit,) = [m for m in store.member_arrays(content["trial_id"]) if m.fold == 2]
    store.close()
    assert refit.best_unit == refit.num_units - 1
