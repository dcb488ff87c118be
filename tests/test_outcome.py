"""What a finished search says: infinities in JSON, seconds of sessions, one story everywhere."""

import json
import math
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

import jaxopt_lab as lab
from jaxopt_lab.datasets import baselines, load_table
from jaxopt_lab.report.best_file import read_best
from jaxopt_lab.storage.store import Store
from jaxopt_lab.storage.validation import read_setting
from jaxopt_lab.tuning.held_out import baselines_meanwhile
from jaxopt_lab.tuning.outcome import to_json
from jaxopt_lab.tuning.settings import Settings
from jaxopt_lab.tuning.tune import _budget_in_words, seconds_before


def test_infinite_settings_come_back_and_no_score_stops_the_result(tmp_path: Path) -> None:
    content = {
        "trial_id": 0,
        "hyperparameters": {"clip_norm": math.inf, "learning_rate": 0.1, "activation": "relu"},
        "validation": {"mean": math.nan, "folds": [0.5, math.inf]},
        "baselines": {"ridge": {"rmse": math.inf}},
    }
    (tmp_path / "best.json").write_bytes(to_json(content))
    strict = json.loads(
        (tmp_path / "best.json").read_text(), parse_constant=lambda name: pytest.fail(name)
    )
    assert strict["hyperparameters"]["clip_norm"] == "inf"
    assert strict["validation"] == {"mean": None, "folds": [0.5, None]}
    assert read_setting(strict["hyperparameters"]["clip_norm"]) == math.inf
    found = read_best(tmp_path / "best.json")
    assert found["hyperparameters"] == content["hyperparameters"]
    assert found["baselines"] == {"ridge": {"rmse": None}}


def add_wave(store: Store, seconds: float) -> None:
    with store.transaction():
        store.add_wave("wide", seconds, 0.0, 1, 1, "a program")


def end_session(store: Store, seconds: float, waves: list[int]) -> None:
    with store.transaction():
        store.decide("session", seconds)
        store.decide("session waves", waves)


def test_an_interrupted_session_counts_by_its_waves() -> None:
    store = Store.open(None)
    assert seconds_before(store) == 0
    add_wave(store, 10.0)
    add_wave(store, 20.0)
    assert seconds_before(store) == 30, "stopped after two waves"
    add_wave(store, 5.0)
    end_session(store, 9.0, [2, 3])
    assert seconds_before(store) == 39, "the stopped one, and one that came to its end"
    add_wave(store, 1.0)
    assert seconds_before(store) == 40
    store.close()


def test_sessions_of_an_earlier_version_count_once() -> None:
    store = Store.open(None)
    add_wave(store, 10.0)
    with store.transaction():
        store.decide("session", 14.0)
    assert seconds_before(store) == 14
    store.close()


def test_a_plan_tells_trials_by_phase_and_folds() -> None:
    text = _budget_in_words(Settings(), 9, 5, 30)
    assert text.startswith("9 trials (5 of the wide search, 4 of the refined one), 5 folds, 30")
    assert "first fold only" in text
    text = _budget_in_words(Settings(search="grid"), 9, 1, 30)
    assert text.startswith("9 trials (9 of the wide search), one hold-out split, 30 epochs; then")


@pytest.fixture
def regression(tmp_path: Path) -> Any:
    """A study of a table, of which nothing is trained."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.standard_normal((120, 3)), columns=["a", "b", "c"])
    frame.assign(y=frame.a + 0.1 * frame.b).to_csv(tmp_path / "table.csv", index=False)
    table = load_table(str(tmp_path / "table.csv"), target="y")
    space = lab.SearchSpace(learning_rate=lab.LogUniform(1e-3, 1e-2))
    with lab.Study(lab.tasks.tabular(table, test_fraction=0.2), space) as study:
        with study.store.transaction():
            study.store.set("num_folds", 1)
        yield study


def test_baselines_of_large_tables_are_fitted_meanwhile(
    regression: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another thread, with the same scores, and the filters of warnings are as before."""
    with baselines_meanwhile(regression) as fitted, threadpool_limits(1):
        alone = fitted()
    assert "ridge" in alone[0]
    threads, fit = [], baselines.fit_baselines
    monkeypatch.setattr(baselines, "ROWS_PER_THREAD", 50)

    def watched(*arguments: Any) -> Any:
        threads.append(threading.current_thread())
        warnings.simplefilter("ignore")
        return fit(*arguments)

    monkeypatch.setattr(baselines, "fit_baselines", watched)
    filters = list(warnings.filters)
    with baselines_meanwhile(regression) as fitted:
        assert fitted() == alone
    (thread,) = threads
    assert thread is not threading.main_thread()
    assert warnings.filters == filters

    monkeypatch.setattr(baselines, "fit_baselines", lambda *arguments: 1 / 0)
    with baselines_meanwhile(regression) as fitted, pytest.raises(ZeroDivisionError):
        fitted()
    with regression.store.transaction():
        regression.store.decide("baselines", alone[0])
    with baselines_meanwhile(regression) as fitted:
        assert fitted() == ({}, {}), "known ones are not fitted again"
