"""Networks of members in a study: searched, merged with others, stopped, predicted, saved."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_engine import EXACT, make_engine, train

import jaxopt_lab as lab
from jaxopt_lab import report
from jaxopt_lab.cli import summary
from jaxopt_lab.datasets import baselines
from jaxopt_lab.problems.mlp import hyperparameters
from jaxopt_lab.problems.mlp.hyperparameters import MERGEABLE
from jaxopt_lab.problems.mlp.network import count_parameters
from jaxopt_lab.problems.tabular.predictor import Predictor, assemble
from jaxopt_lab.problems.tabular.task import to_target
from jaxopt_lab.storage.store import Store
from jaxopt_lab.tuning import tune, with_members
from jaxopt_lab.tuning.final_models import ensemble_weights
from jaxopt_lab.tuning.settings import Settings

SPACE = {
    "learning_rate": lab.LogUniform(1e-3, 1e-2),
    "hidden_size": 6,
    "num_layers": lab.Choice([1, 2]),
    "dropout": 0.2,
    "batch_size": 64,
}


def trained(frame: pd.DataFrame, folder: Path, members: Any, trials: int = 4) -> lab.Study:
    """A study of a classification; two epochs, two folds."""
    table = lab.datasets.load_table(frame, target="wall")
    space = lab.SearchSpace(**SPACE, ensemble_size=members)
    study = lab.Study(lab.tasks.tabular(table, numeric="standard"), space, folder, cohort_width=2)
    study.optimize("random", num_trials=trials, num_epochs=2, num_folds=2)
    return study


@pytest.fixture(scope="module")
def study(houses: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> lab.Study:
    return trained(houses, tmp_path_factory.mktemp("members"), 3)


def test_what_is_scored_is_the_mean_probability(study: lab.Study, houses: pd.DataFrame) -> None:
    prepared = study.training.prepared
    for trial_id in range(4):
        config = hyperparameters.complete(study.store.trials()[trial_id].config)
        for member in study.store.member_arrays(trial_id):
            networks = [(config, study.kept((trial_id, member.fold, 0)), member.fold)]
            model = assemble(study.problem, prepared, networks, [1.0])
            valid = prepared.folds[member.fold][1]
            predicted = model.predict_raw(houses.iloc[valid])
            np.testing.assert_allclose(predicted, to_target(member.outputs, None), atol=1e-5)
            loss = -np.log(predicted[np.arange(len(valid)), study.problem.table.target[valid]])
            assert member.score == pytest.approx(loss.mean(), rel=1e-4)


def test_a_model_of_members_is_of_a_later_schema(study: lab.Study, tmp_path: Path) -> None:
    config, frame = hyperparameters.complete(study.best.hyperparameters), study.problem.table.frame
    model = study.training.predictor(config, study.best.refit())
    model.save(tmp_path)
    content = json.loads((tmp_path / "model.json").read_text())
    assert content["schema"] == 3
    shape = content["networks"][0]["architecture"]
    assert (shape["ensemble_size"], shape["ensemble_form"]) == (3, "mini")
    np.testing.assert_array_equal(
        Predictor.load(tmp_path).predict_raw(frame), model.predict_raw(frame)
    )
    content["networks"][0]["architecture"]["ensemble_size"] = 2
    del content["sha256"]
    (tmp_path / "model.json").write_text(json.dumps(content))
    with pytest.raises(lab.UserError, match="shape"):
        Predictor.load(tmp_path)


def test_the_greedy_ensemble_takes_networks_of_members(study: lab.Study) -> None:
    chosen = ensemble_weights(study, list(range(4)))
    assert sum(chosen.trials.values()) == pytest.approx(1.0)
    assert not chosen.others


@pytest.mark.slow
def test_a_stopped_study_goes_on_to_the_same_trials(
    study: lab.Study, houses: pd.DataFrame, tmp_path: Path
) -> None:
    trained(houses, tmp_path, 3, trials=2).close()
    with trained(houses, tmp_path, 3, trials=4) as again:
        pd.testing.assert_frame_equal(again.trials, study.trials)


def test_plan_counts_programs_of_one_and_of_several(houses: pd.DataFrame) -> None:
    table = lab.datasets.load_table(houses, target="price")
    task = lab.tasks.tabular(table, numeric="standard")

    def planned(size: Any, form: Any = "mini") -> Any:
        space = lab.SearchSpace(**SPACE, ensemble_size=size, ensemble_form=form)
        return lab.Study(task, space).plan(32, 30, 2)

    one, both = planned(1), planned(lab.Choice([1, 8]))
    assert one.programs == lab.Study(task, lab.SearchSpace(**SPACE)).plan(32, 30, 2).programs
    assert any("8 members (mini)" in program.name for program in both.programs)
    assert not any("members" in program.name for program in one.programs)
    seconds = [
        sum(program.run_seconds for program in planned(8, form).programs)
        for form in ("late", "mini")
    ]
    assert sum(program.run_seconds for program in one.programs) < seconds[0] < seconds[1]


@pytest.mark.parametrize(
    ("value", "message"),
    [(0, "outside"), (2.5, "whole number"), ("eight", "must be a number")],
)
def test_a_wrong_number_of_members_is_one_line(value: Any, message: str) -> None:
    with pytest.raises(lab.UserError, match=f"ensemble_size.*{message}"):
        hyperparameters.complete({"ensemble_size": value})


@pytest.mark.slow
@pytest.mark.parametrize("form", hyperparameters.ENSEMBLE_FORMS)
def test_members_in_a_merged_program_learn_what_they_learn_alone(form: str) -> None:
    exact = replace(EXACT, ensemble_size=3, ensemble_form=form)
    merged = replace(
        exact,
        hidden_size=16,
        masked_width=True,
        num_layers=4,
        masked_depth=True,
        block=16,
        noise_rows=16,
        accumulate=True,
        activations=("relu", "tanh"),
        optimizers=MERGEABLE,
    )
    exact = replace(exact, noise_rows=16)
    alone = train(make_engine(exact, 1), [0])["loss"][0]
    found = train(make_engine(merged, 1), [0, 99, 1], block=16)["loss"]
    np.testing.assert_allclose(found[0], alone, rtol=2e-5)
    assert not np.isfinite(found[1]).all()


def test_one_member_is_the_network_without(houses: pd.DataFrame) -> None:
    assert count_parameters(5, 6, 2, 3, 1, "full") == count_parameters(5, 6, 2, 3)


@pytest.fixture(scope="module")
def tuned(houses: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A finished study, and one that went on from it with members."""
    place = tmp_path_factory.mktemp("finals")
    table = lab.datasets.load_table(houses, target="price")
    space = lab.SearchSpace(learning_rate=lab.LogUniform(1e-3, 1e-2), hidden_size=6, num_layers=1)
    facts: dict[str, Any] = {"trials": 2, "folds": 1, "epochs": 4, "numeric": "standard"}
    settings = Settings(**facts, space=space, cohort_width=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "fit_baselines", lambda *args: {})
        plain = tune.run(table, settings, place / "study", say=lambda text: None)
        more = replace(settings, members=3)
        found = tune.run(table, more, place / "study", say=lambda text: None)
        again = tune.run(table, more, place / "study", say=lambda text: None)
    assert again["trial_id"] == found["trial_id"]
    assert again["trials"] == found["trials"], "nothing is trained twice"
    return place / "study", (plain, found)


def test_members_win_where_they_score_better(tuned: tuple[Path, Any]) -> None:
    folder, (plain, found) = tuned
    assert "members" not in plain
    trials = found["members"]["trials"]
    assert [t["trial_id"] for t in trials] == [2, 3]
    best = min(trials, key=lambda trial: trial["mean"])
    wins = best["mean"] < found["members"]["without"]
    assert found["trial_id"] == (best["trial_id"] if wins else plain["trial_id"])
    assert found["trials"]["completed"] == plain["trials"]["completed"] + 2
    assert found["analysis"]["importance"] == plain["analysis"]["importance"]
    store = Store.open(folder, read_only=True)
    rows = store.trials()
    store.close()
    before = rows[plain["trial_id"]].config
    for row, rate in zip(rows[2:], with_members.RATES, strict=True):
        assert row.phase == "members"
        assert row.config["learning_rate"] == pytest.approx(rate * before["learning_rate"])
        own = {"ensemble_size": 3, "ensemble_form": "late"}
        assert row.config == {**before, **own, "learning_rate": row.config["learning_rate"]}
    assert not any(m.replicate for m in found_members(folder, 2)), "reruns are of the search's best"


def found_members(folder: Path, first: int) -> list[Any]:
    store = Store.open(folder, read_only=True)
    try:
        return [m for m in store.members() if m.trial_id >= first]
    finally:
        store.close()


def test_terminal_and_page_say_whether_members_were_taken(tuned: tuple[Path, Any]) -> None:
    folder, (_, found) = tuned
    (line,) = summary._members(found["members"], found["trial_id"])
    assert line.startswith("with 3 members it scores ")
    assert line.endswith("taken")
    assert summary._members(None, 0) == []
    assert "not taken" in summary._members(found["members"], -1)[0]
    page = report.build(folder).read_text()
    assert "With 3 members its validation score is" in page


@pytest.mark.parametrize(("limit", "fits"), [(1e9, True), (1e-3, False)])
def test_members_are_not_begun_where_time_is_short(limit: float, fits: bool) -> None:
    store = Store.open(None)
    with store.transaction():
        store.add_wave("wide", 9.0, 1.0, 8, 80, "a program")
    runner = SimpleNamespace(devices=[None, None])
    study: Any = SimpleNamespace(store=store, num_folds=5, runner=runner)
    assert with_members._fits(study, 8, 2, limit) is fits
    # 9 seconds so far; 8 members of 10 networks of the trials and of a refit, each 8 seconds.
    assert with_members._fits(study, 8, 2, 9.0 + 8 * (10 + 2))
    assert not with_members._fits(study, 8, 2, 8.9 + 8 * (10 + 2))
    store.close()


def test_a_winner_that_has_members_needs_no_more() -> None:
    assert with_members.configs({"ensemble_size": 4}, 8) == []
    assert with_members.configs({}, 1) == []
    assert [c["learning_rate"] for c in with_members.configs({}, 8)] == [1e-3, 2e-3]


@pytest.mark.parametrize("members", [0, 257, 1.5, "many"])
def test_members_are_a_number(members: Any) -> None:
    with pytest.raises(lab.UserError, match=r"members|ensemble_size"):
        Settings(members=members)
