"""What waves leave behind: the weights of the best trials, all of them and no others."""

from pathlib import Path

import pytest

import jaxopt_lab as lab
from jaxopt_lab.study.weights import Weights


@pytest.mark.parametrize(("num_folds", "race"), [(1, False), (2, False), (2, True)])
def test_the_best_trials_keep_their_weights_and_poor_ones_never_write_any(
    num_folds: int, race: bool, houses_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    put = Weights.put
    monkeypatch.setattr(
        Weights,
        "put",
        lambda self, member, *args: written.append(member) or put(self, member, *args),
    )
    table = lab.datasets.load_table(str(houses_csv), target="price")
    space = lab.SearchSpace(learning_rate=lab.LogUniform(1e-4, 1e-1))
    study = lab.Study(
        lab.tasks.tabular(table, numeric="standard"),
        space,
        tmp_path / "study",
        cohort_width=1,
        keep=3,
    )
    study.optimize(lab.search.random(), 16, 2, num_folds, race=race)
    best = study.store.best_trials(3)
    members = {(t, f, 0) for t in best for f in range(num_folds)}
    assert all(study.weights.has(member) for member in members)
    assert study.weights.trials == set(best)
    last_fold = [member for member in written if member[1] == num_folds - 1]
    assert len(last_fold) < len(study.store.trials_with(lab.Status.COMPLETED))
    poor = study.store.best_trials(-1)[-1]
    assert study.refit(poor), "whoever is refitted was chosen for it, by its size, say"
    assert study.weights.trials == {*best, poor}
    study.close()
