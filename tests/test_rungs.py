"""Trials that a scheduler stops cost nothing more, and those that go on never notice."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import jaxopt_lab as lab
from jaxopt_lab.core.errors import UserError

SPACE = lab.SearchSpace(
    learning_rate=lab.LogUniform(1e-3, 1e-1),
    batch_size=lab.Choice([32, 64]),
    dropout=lab.Uniform(0.0, 0.3),
    early_stopping=True,
    schedule="cosine",
    num_layers=1,
    hidden_size=4,
)
NUM_TRIALS, BUDGET = 20, {"num_epochs": 9, "num_folds": 2}
HALVING = lab.schedulers.successive_halving(num_brackets=2)


def make_study(table: Path, folder: str | None = None, space: lab.SearchSpace = SPACE) -> lab.Study:
    data = lab.datasets.load_table(str(table), target="price")
    directory = None if folder is None else table.parent / folder
    return lab.Study(lab.tasks.tabular(data, numeric="standard"), space, directory)


def optimize(study: lab.Study, **options: Any) -> None:
    given = {"scheduler": HALVING, **options}
    study.optimize(lab.search.random(), NUM_TRIALS, **BUDGET, **given)


def stored(study: lab.Study) -> dict[tuple[int, int], tuple]:
    """(trial, fold) -> everything that was stored about a network."""
    found = {}
    for trial_id in range(NUM_TRIALS):
        for m in study.store.member_arrays(trial_id):
            curves = {name: values.tobytes() for name, values in m.curves.items()}
            facts = (m.score, m.best_unit, m.num_units)
            found[trial_id, m.fold] = (*facts, curves, m.outputs.tobytes())
    return found


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, houses: pd.DataFrame) -> Path:
    path = tmp_path_factory.mktemp("rungs") / "table.csv"
    houses[["area", "age", "price"]].head(150).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def halved(table: Path) -> lab.Study:
    study = make_study(table)
    optimize(study)
    return study


def test_two_brackets_of_ten_are_halved_to_one_each(halved: lab.Study) -> None:
    found = halved.trials
    assert found["status"].value_counts().to_dict() == {"stopped": 18, "completed": 2}
    ages = pd.DataFrame(halved.store.members()).groupby("trial_id")["num_units"].agg(["min", "max"])
    assert (ages["min"] == ages["max"]).all()
    assert ages["max"].value_counts().to_dict() == {1: 14, 3: 4, 9: 2}
    stopped = found[found["status"] == "stopped"]
    assert stopped["reason"].str.match(r"not promoted after (1 epoch|3 epochs)$").all()
    for bracket in (range(10), range(10, 20)):
        mine = ages.loc[list(bracket), "max"]
        first = {i: np.mean(scores_at(halved, i, 1)) for i in bracket}
        best = sorted(first, key=first.__getitem__)[:3]
        assert set(best) == set(mine.index[mine > 1])


def scores_at(study: lab.Study, trial_id: int, epoch: int) -> list[float]:
    """Root mean squared errors on each fold, from the curves."""
    scales = [t.scale for t in study.training.prepared.transforms]
    return [
        float(np.sqrt(m.curves["loss"][epoch - 1]) * scales[m.fold])
        for m in study.store.member_arrays(trial_id)
    ]


def test_survivors_are_bitwise_the_trials_that_never_stopped(
    table: Path, halved: lab.Study
) -> None:
    whole = make_study(table)
    whole.configure(BUDGET["num_epochs"], BUDGET["num_folds"])
    whole.store.set("programs", halved.store.settings()["programs"])
    optimize(whole, scheduler=None)
    expected, found = stored(whole), stored(halved)
    survivors = [i for i in found if found[i][2] == BUDGET["num_epochs"]]
    assert len(survivors) == 4
    for i in survivors:
        assert found[i] == expected[i]
    for i in set(found) - set(survivors):
        count = found[i][2]
        for name, values in found[i][3].items():
            assert values == expected[i][3][name][: 4 * count]


@pytest.mark.parametrize("num_waves", [1, 4, 6])
def test_interrupted_anywhere_it_comes_to_the_same(
    table: Path, halved: lab.Study, num_waves: int
) -> None:
    folder = f"interrupted-{num_waves}"
    seen = 0

    class Stopped(Exception):
        """Stands for a kill."""

    def count(progress: object) -> None:
        nonlocal seen
        seen += 1
        if seen == num_waves:
            raise Stopped

    study = make_study(table, folder)
    with pytest.raises(Stopped):
        optimize(study, progress=count)
    study.close()
    study = make_study(table, folder)
    optimize(study)
    pd.testing.assert_frame_equal(study.trials, halved.trials)
    assert stored(study) == stored(halved)
    assert study.store.kept_members("state") == set()
    study.close()


def test_survivors_of_several_brackets_share_waves(halved: lab.Study) -> None:
    waves = [w for w in halved.store.waves() if w.phase == "search"]
    trained = sum(w.units for w in waves)
    assert trained == 2 * 2 * (10 * 1 + 3 * 2 + 1 * 6)


def test_brackets_hold_all_trials_however_many_are_proposed_at_a_time(
    table: Path, halved: lab.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxopt_lab.study.proposals.BLIND_ROUND", 8)
    study = make_study(table)
    optimize(study)
    assert [len(d["trials"]) for d in study.store.decisions("bracket")] == [10, 10]
    ages = pd.DataFrame(study.store.members()).groupby("trial_id")["num_units"].max()
    assert ages.value_counts().to_dict() == {1: 14, 3: 4, 9: 2}


def test_an_exhausted_grid_makes_smaller_brackets(table: Path) -> None:
    rates = lab.SearchSpace(
        learning_rate=lab.Choice([1e-3, 3e-3, 1e-2, 3e-2]), num_layers=1, hidden_size=4
    )
    study = make_study(table, space=rates)
    study.optimize(lab.search.grid(), NUM_TRIALS, scheduler=HALVING, **BUDGET)
    assert [len(d["trials"]) for d in study.store.decisions("bracket")] == [2, 2]
    assert (study.trials["status"] == "completed").all()


def test_a_diverged_trial_leaves_at_the_first_rung(table: Path) -> None:
    wild = lab.SearchSpace(
        learning_rate=lab.Choice([1e-2, 1e30]), optimizer="sgd", num_layers=1, hidden_size=4
    )
    study = make_study(table, space=wild)
    optimize(study)
    found = study.trials
    bad = found["learning_rate"] > 1
    assert 0 < bad.sum() < NUM_TRIALS
    assert (found.loc[bad, "status"] == "infeasible").all()
    assert found.loc[bad, "reason"].str.contains("diverged at step").all()
    ages = pd.DataFrame(study.store.members()).groupby("trial_id")["num_units"].max()
    assert (ages[bad] == 1).all()
    assert (found["status"] == "completed").sum() == 2


def test_a_time_limit_stops_and_more_time_goes_on(table: Path, halved: lab.Study) -> None:
    study = make_study(table)
    optimize(study, time_limit=1e-9)
    assert (study.trials["status"] == "stopped").all()
    optimize(study)
    pd.testing.assert_frame_equal(study.trials, halved.trials)


def test_race_and_scheduler_exclude_each_other(table: Path) -> None:
    with pytest.raises(UserError, match="race or a scheduler"):
        optimize(make_study(table), race=True)


def steps() -> lab.Trainable:
    """Noisy descent; the state counts units."""

    def init(key: Any, hparams: Any) -> Any:
        return {"x": jax.random.normal(key, (3,)), "units": jnp.zeros((), jnp.int32)}

    def step(state: Any, hparams: Any, shared: Any) -> Any:
        x = state["x"] - hparams.rate * (state["x"] + jax.random.normal(shared.key, (3,)))
        return {"x": x, "units": state["units"] + 1}, {"loss": jnp.sum(x**2)}

    return lab.Trainable(init, step)


class Waves(lab.Callback):
    """The trials of each wave."""

    def __init__(self) -> None:
        self.trials: list[list[int]] = []

    def on_wave_end(self, study: Any, wave: Any) -> None:
        self.trials.append([trial for trial, *_ in wave.members])


def test_lone_cohorts_of_other_ages_share_a_wave_and_change_nothing() -> None:
    """Brackets of 9, 5 and 3 trials in cohorts of one on two devices: one is left of each."""
    space = lab.SearchSpace(rate=lab.LogUniform(1e-2, 0.5))
    problem = lab.from_steps(steps)
    waves = Waves()
    halved = lab.Study(problem, space, seed=3, cohort_width=1, callbacks=[waves])
    halved.optimize("random", 17, budget=9, scheduler=lab.schedulers.hyperband())
    whole = lab.Study(problem, space, seed=3, cohort_width=1)
    whole.optimize("random", 17, budget=9)
    last = [trials for trials in waves.trials if {8, 13} <= set(trials)]
    assert last == [[13, 8]]  # the one to 3 units first: a wave lasts as long as its slowest
    for trial_id in range(17):
        ((found,), (expected,)) = (s.store.member_arrays(trial_id) for s in (halved, whole))
        for name, values in found.curves.items():
            assert values.tobytes() == expected.curves[name][: len(values)].tobytes()


def test_a_device_without_a_cohort_trains_nothing() -> None:
    problem, space = lab.from_steps(steps), lab.SearchSpace(rate=lab.Uniform(0.1, 0.2))
    study = lab.Study(problem, space, cohort_width=2)
    study.optimize("random", 4, budget=3)
    runner = study.runner
    jobs = [study.job(i, study.store.trials()[i].config, 0) for i in (0, 1)]
    waves = iter(runner.plan(jobs))
    (report,) = runner.stream(lambda: next(waves, None), begin=lambda wave: None)
    assert len(runner.devices) == 2
    assert [3, 3, 0, 0] in [np.asarray(x).tolist() for x in jax.tree.leaves(report.state)]
