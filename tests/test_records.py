"""What waves leave behind: what each training came to, and the weights of the best trials."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jaxopt_lab as lab
from jaxopt_lab.study.records import _found
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


def from_steps(*, width: int = 3) -> lab.Trainable:
    """Grows without bound at large rates."""

    def init(key: Any, hparams: Any) -> Any:
        return jax.random.normal(key, (width,))

    def step(state: Any, hparams: Any, shared: lab.Shared) -> Any:
        state = state * (1 - hparams.rate)
        return state, {"loss": jnp.sum(state**2), "each": state}

    return lab.Trainable(init, step)


@pytest.mark.parametrize("at", ["last", "best"])
@pytest.mark.parametrize("kind", ["table", "steps"])
def test_a_wave_judged_by_arrays_is_judged_as_one_by_one(
    kind: str, at: str, houses_csv: Path
) -> None:
    if kind == "table":
        table = lab.datasets.load_table(str(houses_csv), target="price")
        problem = lab.tasks.tabular(table, numeric="standard")
        rates = {"learning_rate": lab.LogUniform(1e-4, 1e12), "early_stopping": at == "best"}
        space = lab.SearchSpace(**rates, num_layers=1, hidden_size=4)
    else:
        way = "maximize" if at == "best" else "minimize"
        options = {"direction": way, "objective_at": at, "num_seeds": 2, "budget": 6}
        problem = lab.from_steps(from_steps, objective="loss", **options)
        space = lab.SearchSpace(rate=lab.LogUniform(1e-3, 1e12))
    study = lab.Study(problem, space)
    study.optimize(lab.search.random(), 12, 6, 2 if kind == "table" else None)
    jobs = [study.job(t.trial_id, t.config, fold) for t in study.store.trials() for fold in (0, 1)]
    by_arrays, one_by_one = [], []
    for report in study.runner.run(jobs):
        by_arrays += _found(study.store, study.training, report)
        alone = report._replace(results=list(report.results))
        assert [result.job for result in alone.results] == report.jobs == alone.jobs
        one_by_one += _found(study.store, study.training, alone)
    assert by_arrays == one_by_one
    scores = [row.member.score for row in by_arrays]
    assert None in scores
    assert any(score is not None for score in scores)
    assert all(bool(row.member.reason) == (row.member.score is None) for row in by_arrays)
    assert sorted(row.member for row in by_arrays) == study.store.members()
    study.close()
