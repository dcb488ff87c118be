"""Means over near rows: what they are of, that no row tells of itself, and where they are used."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import jaxopt_lab as lab
from jaxopt_lab import datasets
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.datasets.neighbours import COUNTS, NearCode, fit_near
from jaxopt_lab.problems.tabular.effects import permutation_importance
from jaxopt_lab.problems.tabular.task import reopen, tabular
from jaxopt_lab.tuning import final_models, phases, tune
from jaxopt_lab.tuning.settings import Settings


def houses(rows: int = 600, seed: int = 0) -> pd.DataFrame:
    """Prices of quarters that are a chessboard, so that neither coordinate alone says a thing."""
    rng = np.random.default_rng(seed)
    east, north = rng.uniform(7, 8, rows), rng.uniform(50, 52, rows)
    size = rng.uniform(40, 200, rows)
    dear = (np.floor(east * 4) + np.floor(north * 2)) % 2
    price = size + 100 * dear + rng.normal(0, 10, rows)
    frame = pd.DataFrame({"size": size, "east": east, "north": north, "price": price})
    return frame.assign(kind=rng.choice(["flat", "house"], rows))


def expected(
    frame: pd.DataFrame, targets: np.ndarray, asked: pd.DataFrame, apart: list[set[int]]
) -> np.ndarray:
    """Mean targets of the nearest rows of `frame`, those of `apart` left out, one by one."""
    scale = frame[["east", "north"]].std(ddof=0).to_numpy()
    found = []
    for place, left in zip(asked[["east", "north"]].to_numpy(), apart, strict=True):
        away = ((frame[["east", "north"]].to_numpy() - place) / scale) ** 2
        order = [i for i in np.argsort(away.sum(axis=1), kind="stable") if i not in left]
        found.append([targets[order[:count]].mean() for count in COUNTS])
    return np.array(found)


def test_training_rows_are_told_of_others_and_held_out_rows_of_all() -> None:
    frame = houses(80)
    frame = pd.concat([frame, frame.iloc[:9]], ignore_index=True)
    table = datasets.load_table(frame, "price")
    prepared = tabular(table, near=("east", "north")).prepare(1, 0)
    (train, valid), encoder = prepared.folds[0], prepared.encoders[0]
    targets = prepared.transforms[0].forward(table.target[train])
    mine = frame.iloc[train].reset_index(drop=True)
    keys = mine["size"].to_numpy()
    twins = [set(np.flatnonzero(keys == key).tolist()) for key in keys]
    assert max(len(rows) for rows in twins) == 2
    assert encoder.near is not None
    scale, mean = np.array(encoder.near.scale), np.array(encoder.near.mean)
    columns = encoder.num_features - len(COUNTS)
    inputs = encoder.transform(table.frame, np.full(len(table), -1))[:, columns:]
    own = np.full(len(table), -1)
    own[train] = datasets.kin_of(table.take(train))
    known = encoder.transform(table.frame, own)[:, columns:]
    of_train = expected(mine, targets, mine, twins)
    of_valid = expected(mine, targets, frame.iloc[valid], [set()] * len(valid))
    np.testing.assert_allclose(known[train] * scale + mean, of_train, atol=1e-5)
    np.testing.assert_allclose(inputs[valid] * scale + mean, of_valid, atol=1e-5)
    np.testing.assert_array_equal(known[valid], inputs[valid])
    np.testing.assert_allclose(known[train].mean(axis=0), 0, atol=1e-5)
    # What is trained on is that.
    laid = np.asarray(prepared.arrays.inputs[0])
    assert any(np.array_equal(row, known[train[0]]) for row in laid[:, columns : columns + 2])


def test_a_code_goes_through_json_and_back() -> None:
    frame = houses(60)
    places = frame[["east", "north"]].to_numpy(copy=True)
    places[3] = np.nan
    targets = frame["price"].to_numpy()[:, None]
    code = fit_near(("east", "north"), places, targets, np.arange(60))
    again = NearCode.from_dict(json.loads(json.dumps(code.to_dict())))
    assert again == code
    assert again.kin is None
    np.testing.assert_array_equal(again.raw(places), code.raw(places))
    assert np.isnan(again.raw(places)[3]).all()
    assert (again.encode(places)[3] == 0.0).all()
    one_by_one = np.concatenate([again.raw(places[i : i + 1]) for i in range(60)])
    np.testing.assert_array_equal(one_by_one, again.raw(places))
    with pytest.raises(UserError, match="10 training rows have both"):
        fit_near(("east", "north"), places[10:20], targets[10:20], np.arange(10))


def test_coordinates_are_found_and_nothing_else_is() -> None:
    frame = houses()
    found = datasets.find_location(datasets.load_table(frame, "price"))
    assert found is not None
    assert found.columns == ("east", "north")
    assert found.gain > 0.3
    labels = frame.assign(price=np.where(frame["price"] > frame["price"].median(), "dear", "cheap"))
    of_classes = datasets.find_location(datasets.load_table(labels, "price"))
    assert of_classes is not None
    assert of_classes.columns == ("east", "north")
    added = frame.assign(price=frame["size"] + 40 * np.sin(20 * frame["east"]) + frame["north"])
    assert datasets.find_location(datasets.load_table(added, "price")) is None
    noise = frame.assign(price=np.random.default_rng(0).normal(size=600))
    assert datasets.find_location(datasets.load_table(noise, "price")) is None
    streets = frame.assign(street=np.arange(600) // 6)
    grouped = datasets.load_table(streets, "price", group="street")
    assert datasets.find_location(grouped) is None


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, list[str], Path]:
    """What `best.json` says, what was said, and the folder, of a search on these houses."""
    place = tmp_path_factory.mktemp("near")
    space = lab.SearchSpace(learning_rate=0.02, num_layers=1, hidden_size=4)
    settings = Settings(
        trials=1,
        folds=2,
        epochs=4,
        space=space,
        numeric="standard",
        ensemble="all",
        search="grid",
        members=2,
    )
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        # All kinds, whatever would be best.
        patch.setattr(final_models.ensemble, "greedy", lambda p, *_: np.full(len(p), 1 / len(p)))
        patch.setattr(phases, "NUM_RERUN", 0)
        patch.setattr("jaxopt_lab.datasets.baselines.fit_baselines", lambda *args: {})
        table = lab.datasets.load_table(houses(), "price")
        content = tune.run(table, settings, place, say=said.append)
    return content, said, place


def test_a_search_finds_them_says_so_and_publishes_what_it_tested(study) -> None:
    content, said, place = study
    assert any(line.startswith("note: 'east' and 'north' say where a row is") for line in said)
    described = json.loads((place / "model" / "model.json").read_text())
    assert described["schema"] == 8, "a kernel is among its kinds"
    model = lab.Predictor.load(place / "model")
    alone = replace(model, others=(), ensemble=(1.0, *[0.0] * (len(model.networks) - 1)))
    alone.save(place / "alone")
    assert json.loads((place / "alone" / "model.json").read_text())["schema"] == 5
    table = lab.datasets.load_table(houses(), "price")
    _, test = datasets.test_split(table, 0.2, 0)
    rows = houses().iloc[test]
    found = model.predict(rows)
    error = float(np.sqrt(np.mean((found - rows["price"]) ** 2)))
    assert error == pytest.approx(content["test"]["ensemble"]["rmse"], rel=1e-6)
    by_itself = np.concatenate([model.predict(rows.iloc[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(by_itself, found[:5], rtol=1e-5)
    trees = [other for other in model.others if other.reader is not None]
    assert trees
    assert all(other.reader.near is not None for other in trees)


def test_networks_of_members_are_told_of_neighbours_too(study) -> None:
    content, _, place = study
    assert len(content["members"]["trials"]) == 2
    model = lab.Predictor.load(place / "model")
    pairs = zip(model.networks, model.ensemble, strict=True)
    of_members = [n for n, weight in pairs if weight and "ensemble_size" in n.architecture]
    assert of_members, "the ensemble is of everything"
    assert all(model.encoders[n.encoder].near is not None for n in of_members)


def test_what_changes_with_a_coordinate_is_part_of_its_importance(study) -> None:
    _, _, place = study
    model, frame = lab.Predictor.load(place / "model"), houses(60, seed=1)
    truth = frame["price"].to_numpy()

    def rmse(predicted: np.ndarray, known: np.ndarray) -> float:
        return float(np.sqrt(np.mean((predicted - known) ** 2)))

    found = permutation_importance(model, frame, truth, rmse, seed=3)
    assert found is not None
    rng, rises = np.random.default_rng(3), []
    for column in model.encoders[0].columns:
        for _ in range(found.repeats):
            order = rng.permutation(60)
            if column == "north":
                shuffled = frame.assign(north=frame["north"].to_numpy()[order])
                rises.append(rmse(model.predict(shuffled), truth) - found.error)
    np.testing.assert_allclose(found.columns["north"], rises, rtol=1e-4, atol=1e-5)


def test_a_study_knows_its_columns_when_it_is_opened_again() -> None:
    frame = houses(120)
    task = tabular(datasets.load_table(frame, "price"), near=["east", "north"])
    assert reopen(task.describe(), frame).describe() == task.describe()
    assert "near" not in tabular(datasets.load_table(frame, "price")).describe()


@pytest.mark.parametrize(
    ("near", "options", "words"),
    [
        (("east", "nord"), {}, "no column 'nord'. Did you mean 'north'"),
        (("east", "kind"), {}, "'kind' holds no numbers"),
        ("east", {}, "takes two columns"),
        (("east", "north"), {"group": "kind"}, "does not go with groups"),
    ],
)
def test_what_cannot_be_is_refused(near, options, words: str) -> None:
    table = datasets.load_table(houses(60), "price", **options)
    with pytest.raises(UserError, match=words):
        tabular(table, near=near)
    if near == "east":
        with pytest.raises(UserError, match="two columns, auto or none"):
            Settings(near=near)
