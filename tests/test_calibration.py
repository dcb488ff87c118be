"""Temperatures of class probabilities: fitted, kept or not, applied, stored, refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxopt_lab as lab
from jaxopt_lab.cli.summary import _calibration
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.datasets import load_table
from jaxopt_lab.problems.tabular.predictor import Predictor
from jaxopt_lab.problems.tabular.temperatures import LOWEST, UNTEMPERED, Temperatures, tempered
from jaxopt_lab.report.best_file import read_best
from jaxopt_lab.tuning import calibration, final_models, held_out, outcome
from jaxopt_lab.tuning.calibration import calibrate, calibration_error


def drawn(factor: float, rows: int = 4000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities whose logits are too large by a factor, classes, folds."""
    rng = np.random.default_rng(0)
    logits = 1.5 * rng.standard_normal((rows, 3))
    chance = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = (rng.random((rows, 1)) > np.cumsum(chance, axis=1)).sum(axis=1)
    return tempered(chance, 1 / factor), truth, np.arange(rows) % 4


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_logits_that_are_too_large_or_small_get_their_temperature(factor: float) -> None:
    chance, truth, fold = drawn(factor)
    found = calibrate(chance, truth, fold)
    assert found.temperature == found.fitted == pytest.approx(factor, rel=0.06)
    assert found.log_loss[1] < found.log_loss[0]
    assert found.calibration_error[1] < 0.02 < found.calibration_error[0]
    better = tempered(chance, found.temperature)
    np.testing.assert_allclose(better.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(better.argmax(axis=1), chance.argmax(axis=1))


def test_what_is_averaged_later_is_not_made_less_sure_before() -> None:
    """The mean of the networks of all folds is less sure by itself."""
    above, below = (calibrate(*drawn(factor), averaged=True) for factor in (3.0, 0.5))
    assert (above.temperature, below.temperature) == (1.0, below.fitted)
    assert above.fitted == pytest.approx(3.0, rel=0.06)


def test_calibrated_probabilities_stay_as_they_are() -> None:
    found = calibrate(*drawn(1.0))
    assert found.temperature == 1.0
    assert found.fitted == pytest.approx(1.0, rel=0.06)


def test_rows_are_scored_by_temperatures_of_other_folds() -> None:
    """Where only one fold is off, the temperature that the others give it does not help it."""
    chance, truth, fold = drawn(1.0)
    off = tempered(chance, 0.25)
    mixed = np.where((fold == 0)[:, None], off, chance)
    found = calibrate(mixed, truth, fold)
    alone = calibrate(mixed, truth, np.zeros(len(truth), int))
    assert found.fitted == alone.fitted > 1.1
    assert found.log_loss[1] > alone.log_loss[1] + 1e-4, "one split is taken apart row by row"


def test_weights_count_rows() -> None:
    chance, truth, fold = drawn(2.0, 600)
    twice = np.concatenate([np.arange(600), np.flatnonzero(fold == 1)])
    weights = np.where(fold == 1, 2.0, 1.0)
    found = calibrate(chance, truth, fold, weights)
    repeated = calibrate(chance[twice], truth[twice], fold[twice])
    assert found.fitted == pytest.approx(repeated.fitted, rel=1e-4)
    assert found.log_loss == pytest.approx(repeated.log_loss, rel=1e-6)
    assert found.calibration_error == pytest.approx(repeated.calibration_error, rel=1e-6)


def test_probabilities_that_are_never_wrong_do_not_become_certain() -> None:
    truth = np.arange(60) % 2
    chance = np.where(truth[:, None] == np.arange(2), 0.9, 0.1)
    found = calibrate(chance, truth, np.arange(60) % 3)
    assert found.temperature == pytest.approx(LOWEST, rel=1e-3)
    impossible = calibrate(np.where(chance > 0.5, 1.0, 0.0), 1 - truth, np.arange(60) % 3)
    assert np.isfinite(impossible.log_loss).all()


def test_the_calibration_error_by_hand() -> None:
    chance = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    truth = np.array([0, 1, 1, 1])
    assert calibration_error(chance, truth) == pytest.approx((0.4 + 0.4) / 2)


# A study of classes, and its model folder.


@pytest.fixture(scope="module")
def study(houses: Any) -> Any:
    table = load_table(houses, target="wall")
    space = lab.SearchSpace(learning_rate=lab.LogUniform(0.03, 0.2), hidden_size=8, num_layers=1)
    with lab.Study(lab.tasks.tabular(table, test_fraction=0.2), space) as study:
        study.optimize("random", num_trials=2, num_epochs=3, num_folds=2)
        yield study


@pytest.fixture(scope="module")
def predictor(study: lab.Study) -> Predictor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "STANDARD_ERRORS", -1e9)  # whatever is found is kept
        found = final_models.final_predictor(study, study.best.trial_id, [0, 1])
    told = study.recall("calibration", dict)
    fitted = [told[name]["fitted"] for name in ("single", "ensemble")]
    assert found.temperatures == (fitted[0], min(fitted[1], 1.0))
    assert fitted[0] != 1.0
    return dataclasses.replace(found, temperatures=Temperatures(2.0, 0.5))


def test_a_study_says_what_was_found_and_what_it_does_to_test_rows(
    study: lab.Study, predictor: Predictor, tmp_path: Path
) -> None:
    plain = dataclasses.replace(predictor, temperatures=UNTEMPERED)
    frame, truth = study.problem.table.frame, study.problem.table.target
    single = predictor.predict_raw(frame, single=True)
    np.testing.assert_allclose(single, tempered(plain.predict_raw(frame, single=True), 2.0))
    together = predictor.predict_raw(frame)
    np.testing.assert_allclose(together, tempered(plain.predict_raw(frame), 0.5))
    np.testing.assert_array_equal(predictor.predict(frame), plain.predict(frame))
    both = {"single": single, "ensemble": together}
    content = held_out.calibrated(study, predictor, truth, both)
    for name, found in content["calibration"].items():
        before = study.problem.scores(truth, plain.predict_raw(frame, name == "single"))
        after = study.problem.scores(truth, predictor.predict_raw(frame, name == "single"))
        scores = {"before": before["log_loss"], "after": after["log_loss"]}
        assert found["test_log_loss"] == pytest.approx(scores)
    (tmp_path / "best.json").write_bytes(outcome.to_json(content))
    read = read_best(tmp_path / "best.json")["calibration"]
    read["ensemble"]["temperature"] = 1.25
    lines = _calibration(read)
    assert any("ensemble): temperature 1.25, out-of-fold log loss" in line for line in lines)


def test_temperatures_are_stored_and_older_folders_have_none(
    predictor: Predictor, houses: Any, tmp_path: Path
) -> None:
    predictor.save(tmp_path)
    described = json.loads((tmp_path / "model.json").read_text())
    assert described["schema"] == 6
    again = Predictor.load(tmp_path)
    assert again.temperatures == Temperatures(2.0, 0.5)
    np.testing.assert_array_equal(again.predict_raw(houses), predictor.predict_raw(houses))
    older = dataclasses.replace(predictor, temperatures=UNTEMPERED)
    older.save(tmp_path)
    described = json.loads((tmp_path / "model.json").read_text())
    assert described["schema"] < 6
    assert "temperatures" not in described
    assert Predictor.load(tmp_path).temperatures == UNTEMPERED


@pytest.mark.parametrize(
    "wrong",
    [{"single": value, "ensemble": 1.0} for value in (float("nan"), 0.0, -1.0, 1e9, True, "2")]
    + [{"single": 2.0}, [2.0, 2.0]],
    ids=str,
)
def test_a_wrong_temperature_is_refused(predictor: Predictor, wrong: Any, tmp_path: Path) -> None:
    predictor.save(tmp_path)
    path = tmp_path / "model.json"
    described = json.loads(path.read_text()) | {"temperatures": wrong}
    described.pop("sha256")
    path.write_text(json.dumps(described))
    with pytest.raises(UserError, match="damaged"):
        Predictor.load(tmp_path)


def test_an_onnx_model_is_tempered_alike(predictor: Predictor, houses: Any, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    for single in (False, True):
        path = tmp_path / f"{single}.onnx"
        predictor.save_onnx(path, single)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        encoded = predictor.encode(houses, single)
        (found,) = session.run(None, {f"rows_{i}": rows for i, rows in encoded.items()})
        np.testing.assert_allclose(found, predictor.predict_raw(houses, single), rtol=1e-4)
