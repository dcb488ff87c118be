"""A study from Python: what it promises to someone who never sees the command line."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import jaxopt_lab as lab
from jaxopt_lab.core.errors import MachineError, UserError
from jaxopt_lab.core.status import Status
from jaxopt_lab.problems.mlp import training

SMALL = {"num_layers": 1, "hidden_size": 4, "batch_size": 32}
SPACE = lab.SearchSpace(learning_rate=lab.LogUniform(1e-3, 1e-1), **SMALL)
WILD = lab.SearchSpace(learning_rate=lab.Choice([1e-2, 1e30]), optimizer="sgd", **SMALL)
BUDGET = {"num_epochs": 2, "num_folds": 2}


def make_study(path: Path, space: lab.SearchSpace = SPACE, folder: str | None = None) -> lab.Study:
    table = lab.datasets.load_table(str(path), target="price")
    directory = None if folder is None else path.parent / folder
    return lab.Study(lab.tasks.tabular(table, numeric="standard"), space, directory)


@pytest.fixture(scope="module")
def begun(houses: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> lab.Study:
    """A study of one trial, to which nothing is added."""
    path = tmp_path_factory.mktemp("begun") / "houses.csv"
    houses.to_csv(path, index=False)
    study = make_study(path)
    study.optimize(lab.search.random(), 1, **BUDGET)
    return study


def comparable(study: lab.Study) -> pd.DataFrame:
    return study.trials.set_index("trial_id")


def test_no_diverged_trial_wins(houses_csv: Path) -> None:
    study = make_study(houses_csv, WILD)
    study.optimize(lab.search.random(), 6, **BUDGET)
    found = study.trials
    wild = found["learning_rate"] > 1
    assert 0 < wild.sum() < 6, "the draw must hold both kinds"
    assert (found["status"] == "infeasible").tolist() == wild.tolist()
    assert found.loc[wild, "score"].isna().all()
    assert found.loc[wild, "reason"].str.contains("step").all()
    assert study.best.hyperparameters["learning_rate"] == 1e-2


def test_a_loss_far_above_a_constant_predictors_is_infeasible(
    houses_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "INFEASIBLE_RATIO", 1e-6)
    study = make_study(houses_csv)
    study.optimize(lab.search.random(), 2, **BUDGET)
    assert (study.trials["status"] == "infeasible").all()
    with pytest.raises(MachineError, match="every trial diverged"):
        _ = study.best


def test_a_race_stops_the_worse_half_after_one_fold(houses_csv: Path) -> None:
    study = make_study(houses_csv)
    study.optimize(lab.search.random(), 6, race=True, **BUDGET)
    members = pd.DataFrame(study.store.members()).query("replicate == 0")
    first = members[members["fold"] == 0].set_index("trial_id")["score"]
    status = comparable(study)["status"]
    assert (status == "completed").sum() == (status == "stopped").sum() == 3
    assert first[status == "completed"].max() <= first[status == "stopped"].min()
    assert len(members) == 6 + 3


def test_a_second_call_goes_on_and_a_smaller_one_does_nothing(houses_csv: Path) -> None:
    study, at_once = make_study(houses_csv), make_study(houses_csv)
    study.optimize(lab.search.random(), 3, **BUDGET)
    study.optimize(lab.search.random(), 5, **BUDGET)
    study.optimize(lab.search.random(), 2, **BUDGET)
    at_once.optimize(lab.search.random(), 5, **BUDGET)
    pd.testing.assert_frame_equal(comparable(study), comparable(at_once))


def test_loaded_again_it_predicts_and_goes_on(houses_csv: Path, houses: pd.DataFrame) -> None:
    study = make_study(houses_csv, folder="study")
    study.optimize(lab.search.random(), 2, **BUDGET)
    before, predicted = comparable(study), study.best.predict(houses)
    study.close()
    again = lab.Study.load(houses_csv.parent / "study")
    pd.testing.assert_frame_equal(comparable(again), before)
    np.testing.assert_array_equal(again.best.predict(houses), predicted)
    again.optimize(lab.search.random(), 3, **BUDGET)
    assert len(again.trials) == 3
    again.close()


def test_a_table_that_moved_can_be_given(houses_csv: Path, houses: pd.DataFrame) -> None:
    make_study(houses_csv, folder="study").close()
    moved = houses_csv.rename(houses_csv.with_name("moved.csv"))
    folder = houses_csv.parent / "study"
    with pytest.raises(UserError, match=r"houses\.csv"):
        lab.Study.load(folder)
    lab.Study.load(folder, source=moved).close()
    lab.Study.load(folder).close()


def test_a_changed_table_is_refused(houses_csv: Path) -> None:
    study = make_study(houses_csv, folder="study")
    study.close()
    with houses_csv.open("a") as handle:
        handle.write("1000,5000,3,5,brick,gas,100000\n")
    with pytest.raises(UserError, match="has changed since"):
        lab.Study.load(houses_csv.parent / "study")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_trials": 0}, "number of trials must be at least 1"),
        ({"num_epochs": 0}, "number of epochs must be at least 1"),
        ({"num_folds": 0}, "number of folds must be at least 1"),
        ({"num_epochs": 3}, "another budget: 2 there, 3 now"),
        ({"num_folds": 3}, "another num_folds: 2 there, 3 now"),
    ],
)
def test_other_budgets_are_refused(begun: lab.Study, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        begun.optimize(lab.search.random(), **{"num_trials": 2, **BUDGET, **changes})
    assert begun.trials["status"].tolist() == ["completed"]


def test_a_space_outside_the_hard_limits_is_refused(houses_csv: Path) -> None:
    with pytest.raises(UserError, match="dropout"):
        make_study(houses_csv, lab.SearchSpace(dropout=lab.Uniform(0.0, 1.5)))
    with pytest.raises(UserError, match="learning_rate"):
        make_study(houses_csv, lab.SearchSpace(learning_rat=1e-3))


def test_only_the_best_trials_keep_their_weights(houses_csv: Path) -> None:
    study = make_study(houses_csv)
    study.keep = 2
    study.optimize(lab.search.random(), 5, **BUDGET)
    ranked = study.trials.sort_values(["score", "trial_id"])["trial_id"].tolist()
    kept = [i for i in range(5) if study.weights.has((i, 0, 0))]
    assert sorted(kept) == sorted(ranked[:2])


def test_reruns_use_other_seeds_and_leave_the_score(houses_csv: Path) -> None:
    study = make_study(houses_csv)
    study.optimize(lab.search.random(), 2, **BUDGET)
    before = comparable(study)
    study.rerun([1], replicate=1)
    pd.testing.assert_frame_equal(comparable(study), before)
    scores = {(m.replicate, m.fold): m.score for m in study.store.members_of(1)}
    assert set(scores) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert scores[0, 0] != scores[1, 0]


def test_the_cohort_width_of_a_study_is_never_recomputed(houses_csv: Path) -> None:
    study = make_study(houses_csv, folder="study")
    study.optimize(lab.search.random(), 2, **BUDGET)
    (name,), (width,) = zip(*study.store.settings()["widths"].items(), strict=True)
    with study.store.transaction():
        study.store.set("widths", {name: width + 1})
    study.close()
    again = make_study(houses_csv, folder="study")
    again.optimize(lab.search.random(), 4, **BUDGET)
    assert again.store.settings()["widths"] == {name: width + 1}
    assert list(again.runner.widths.values()) == [width + 1]
    again.close()


def test_a_race_under_a_scheduler_is_refused_and_nothing_stored(houses_csv: Path) -> None:
    study = make_study(houses_csv)
    before, halving = study.store.settings(), lab.schedulers.successive_halving()
    with pytest.raises(UserError, match="race or a scheduler"):
        study.optimize(lab.search.random(), 4, race=True, scheduler=halving, **BUDGET)
    assert study.store.settings() == before


def test_progress_tells_what_is_done(houses_csv: Path) -> None:
    seen: list[Any] = []
    study = make_study(houses_csv)
    study.optimize(lab.search.random(), 3, progress=seen.append, **BUDGET)
    assert [p.jobs_done for p in seen] == sorted(p.jobs_done for p in seen)
    last = seen[-1]
    assert (last.jobs_done, last.jobs_total, last.phase) == (6, 6, "search")
    assert last.counts[Status.COMPLETED] == 3
    assert last.best == pytest.approx(study.best.score)
    assert math.isfinite(last.seconds)


def test_a_time_limit_ends_one_phase_and_asks_for_nothing_more(houses_csv: Path) -> None:
    study, asked = make_study(houses_csv), []

    def counted(*args: Any) -> list[Any]:
        asked.append(args[-1])
        return lab.search.random().propose(*args)

    sampler = lab.search.Sampler("counted", counted)
    study.enqueue([{"learning_rate": 0.002}], phase="later")
    study.enqueue([{"learning_rate": 0.003}], phase="now")
    study.optimize(sampler, 4, phase="now", time_limit=1e-9, **BUDGET)
    assert asked == []
    assert study.trials["status"].tolist() == ["pending", "stopped"]
    study.optimize(sampler, 2, phase="now", **BUDGET)
    assert asked == [1]
    assert study.trials["status"].tolist() == ["pending", "completed", "completed"]


def test_a_reordered_space_goes_on_as_it_began(houses_csv: Path) -> None:
    both = {"learning_rate": lab.LogUniform(1e-3, 1e-1), "dropout": lab.Uniform(0, 0.5)}
    first = make_study(houses_csv, lab.SearchSpace(**both, **SMALL), "study")
    first.close()
    turned = lab.SearchSpace(**dict(reversed(both.items())), **SMALL)
    again = make_study(houses_csv, turned, "study")
    assert again.space.names == ("learning_rate", "dropout")
    assert lab.Study.load(houses_csv.parent / "study").space.names == again.space.names
