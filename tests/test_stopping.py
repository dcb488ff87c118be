"""When a search has found enough."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxopt_lab as lab
from jaxopt_lab import cli
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.search import History, stopping
from jaxopt_lab.search.bayesian import Improvement

SPACE = lab.SearchSpace(x=lab.Uniform(0.0, 1.0), y=lab.Uniform(0.0, 1.0))


def bowl(num: int, noise: float) -> History:
    points = np.random.default_rng(0).random((num, 2))
    values = ((points - 0.4) ** 2).sum(1)
    return History(points, values, noise=np.full(num, noise))


def test_a_target_stops_once_it_is_reached() -> None:
    rule, history = stopping.target(0.1), bowl(30, 0.0)
    assert rule.reason(SPACE, History.empty(SPACE)) is None
    missed = History(history.points, history.values + 1.0)
    assert rule.reason(SPACE, missed) is None
    assert "reaches the target 0.1" in str(rule.reason(SPACE, history))


def test_improvement_is_weighed_against_the_noise_of_folds() -> None:
    rule = stopping.small_improvement()
    assert rule.reason(SPACE, bowl(40, 0.0)) is None, "without errors there is nothing to weigh"
    assert rule.reason(SPACE, bowl(40, 1e-6)) is None, "much is to be gained beside such errors"
    assert "expected improvement" in str(rule.reason(SPACE, bowl(44, 0.1)))
    assert rule.reason(SPACE, bowl(43, 0.1)) is None, "too few scores at the first look"


@pytest.mark.parametrize(("before", "stops"), [(0.01, True), (5.0, False)])
def test_a_dip_of_the_improvement_stops_nothing(
    before: float, stops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def improvement(space: lab.SearchSpace, history: History) -> Improvement:
        seen.append(len(history))
        return Improvement(before if len(history) < 50 else 0.01, 1.0)

    monkeypatch.setattr(stopping, "best_improvement", improvement)
    reason = stopping.small_improvement().reason(SPACE, bowl(60, 0.1))
    assert (reason is not None) == stops
    assert seen == ([60, 52, 44, 36] if stops else [60, 52, 44])


def test_the_first_of_several_rules_stops() -> None:
    rule = stopping.any_of(stopping.target(-1.0), stopping.target(5.0))
    assert "target 5" in str(rule.reason(SPACE, bowl(3, 0.0)))
    assert stopping.any_of(stopping.target(-1.0)).reason(SPACE, bowl(3, 0.0)) is None


@pytest.mark.parametrize(
    "make", [lambda: stopping.target(np.nan), lambda: stopping.small_improvement(0.0)]
)
def test_rules_check_their_settings(make: Any) -> None:
    with pytest.raises(UserError, match="must be"):
        make()


def test_a_study_stops_and_says_why(houses_csv: Path, tmp_path: Path) -> None:
    table = lab.datasets.load_table(str(houses_csv), target="price")
    space = lab.SearchSpace(learning_rate=lab.LogUniform(1e-4, 1e-2))
    for _ in range(2):  # again, as after an interruption
        task = lab.tasks.tabular(table, numeric="standard")
        study = lab.Study(task, space, tmp_path / "study")
        rule = stopping.target(1e9)
        study.optimize(lab.search.random(), 12, 1, 1, round_size=4, stopping=rule)
        assert len(study.trials) == 4
        (decision,) = study.store.decisions("enough")
        assert "reaches the target" in decision["reason"]
        study.close()


SMALL = """
[space]
learning_rate = { log_uniform = [1e-3, 1e-1] }
num_layers = 1
hidden_size = 4
"""


def only_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """`tune` in this process, without baselines and report, which are made after the search."""
    monkeypatch.setattr("jaxopt_lab.cli.tune.prepare_jax", lambda *a, **k: None)
    monkeypatch.setattr("jaxopt_lab.cli.tune.write_report", lambda directory: True)
    monkeypatch.setattr("jaxopt_lab.datasets.baselines.fit_baselines", lambda *a: {})


def test_the_command_line_stops(
    houses_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    only_search(monkeypatch)
    out, small = str(tmp_path / "run"), tmp_path / "small.toml"
    small.write_text(SMALL)
    options = ["--trials", "8", "--epochs", "1", "--folds", "2", "--numeric", "standard"]
    options += ["--space", str(small)]
    command = ["tune", str(houses_csv), "--target", "price", "--out", out, *options]
    assert cli.run([*command, "--stop-at", "1e9"]) == 0
    assert "stopped searching: the best score" in capsys.readouterr().out
    study = lab.Study.load(out)
    assert len(study.trials) == 4, "the refined search was not begun"
    study.close()
    assert cli.run([*command, "--stop-improvement", "0"]) == 2


def test_the_command_line_tries_a_prior_first(
    houses_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    only_search(monkeypatch)
    out, file = tmp_path / "run", tmp_path / "prior.toml"
    options = ["--trials", "4", "--epochs", "1", "--folds", "2", "--numeric", "standard"]
    command = ["tune", str(houses_csv), "--target", "price", *options]

    def tune(lines: str, folder: Path) -> int:
        file.write_text(f"[hyperparameters]\n{lines}\n")
        return cli.run([*command, "--out", str(folder), "--prior", str(file)])

    assert tune("learning_rate = 0.004\noptimizer = 'adamw'\nb1 = 0.9", out) == 0
    study = lab.Study.load(out)
    assert study.trials["learning_rate"][0] == pytest.approx(0.004)
    study.close()
    capsys.readouterr()
    assert tune("learning_rate = 0.005", out) == 2
    assert "another prior" in capsys.readouterr().err
    for lines, message in {
        "optimizer = 'adam'": "optimizer is 'adamw' in every trial, got 'adam'",
        "learning_rat = 0.1": "Did you mean 'learning_rate'?",
        "learning_rate = 5.0": "learning_rate = 5.0 is not in",
    }.items():
        assert tune(lines, tmp_path / "other") == 2
        assert message in capsys.readouterr().err
