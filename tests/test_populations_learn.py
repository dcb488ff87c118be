"""What a population is for: a schedule that no constant value matches, at every front door."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

import jaxopt_lab as lab
from jaxopt_lab import cli, report
from jaxopt_lab.report import contents
from jaxopt_lab.study.lineages import GENERATION

PBT = lab.schedulers.population_based_training


def bowl() -> lab.Trainable:
    """Ascent of Q = 1.2 - |theta|^2 by the gradient of 1.2 - (h0 theta0^2 + h1 theta1^2)."""

    def init(key: Any, hparams: Any) -> Any:
        return jnp.full((2,), 0.9)

    def step(theta: Any, hparams: Any, shared: lab.Shared) -> Any:
        theta = theta - 0.1 * 2 * jnp.stack([hparams.h0, hparams.h1]) * theta
        return theta, {"quality": 1.2 - jnp.sum(theta**2)}

    return lab.Trainable(init, step)


def test_the_papers_quadratic_reaches_its_optimum() -> None:
    """Of two workers that each see one coordinate of the two: Jaderberg et al. 2017, figure 2."""
    problem = lab.from_steps(bowl, objective="quality", direction="maximize")
    space = lab.SearchSpace(h0=lab.Uniform(0.0, 1.0), h1=lab.Uniform(0.0, 1.0))
    study = lab.Study(problem, space, seed=0)
    grid = [{"h0": 1.0, "h1": 0.0}, {"h0": 0.0, "h1": 1.0}]
    for phase, scheduler in (("grid", None), ("population", PBT(every=4))):
        study.enqueue(grid, phase)
        study.optimize("random", 2, budget=60, scheduler=scheduler, phase=phase)
    frame = study.trials.groupby("phase")["score"].max()
    assert frame["grid"] < 0.4
    assert frame["population"] > 1.19


def descent() -> lab.Trainable:
    """Noisy descent from afar: the best rate is high at first and falls as 1 / t in the end."""

    def init(key: Any, hparams: Any) -> Any:
        return {"x": jnp.full((64,), 1000.0), "key": key}

    def step(state: Any, hparams: Any, shared: lab.Shared) -> Any:
        key, now = jax.random.split(state["key"])
        x = state["x"] - hparams.rate * (state["x"] + jax.random.normal(now, (64,)))
        return {"x": x, "key": key}, {"loss": jnp.mean(x**2)}

    return lab.Trainable(init, step)


@pytest.fixture(scope="module")
def raced() -> list[lab.Study]:
    """For each of five seeds the same sixteen rates: constant, and as a population."""
    problem, studies = lab.from_steps(descent), []
    space = lab.SearchSpace(rate=lab.LogUniform(1e-3, 1.0))
    for seed in range(5):
        study = lab.Study(problem, space, seed=seed)
        study.optimize("random", 16, budget=60, phase="constant")
        study.enqueue([{"rate": r} for r in study.trials["rate"]], "population")
        study.optimize("random", 16, budget=60, phase="population", scheduler=PBT(every=5))
        studies.append(study)
    return studies


def test_a_population_beats_the_best_constant_rate(raced: list[lab.Study]) -> None:
    ratios = []
    for study in raced:
        best = study.trials.groupby("phase")["score"].min()
        ratios.append(best["population"] / best["constant"])
    assert max(ratios) < 0.9, ratios
    rates = raced[0].best.schedule["rate"]
    assert rates.iloc[-1] < rates.max() / 2, "the rate falls"


def test_the_report_draws_lineage_and_values_and_obeys_nothing(
    raced: list[lab.Study], tmp_path: Path
) -> None:
    problem, space = raced[0].problem, raced[0].space
    mark = "<x-mark onerror=hit()>%{x}"
    with lab.Study(problem, space, tmp_path, seed=0) as study:
        study.optimize("random", 6, budget=9, scheduler=PBT(every=3), phase=mark)
    page = report.build(tmp_path).read_text(encoding="utf-8")
    assert "plot-lineage-0" in page
    assert "plot-over-time-0-0" in page
    assert "<x-mark" not in page
    found = contents.read(tmp_path)
    assert [row["unit"] for row in found.generations] == [0, 3, 6]
    with lab.Study(problem, space, tmp_path, seed=0) as study, study.store.transaction():
        broken = {**study.store.decisions(GENERATION)[-1], "parents": [99] * 6}
        study.store.decide(GENERATION, broken)
    with pytest.raises(lab.UserError, match="is damaged: generation 2 does not fit its trials"):
        report.page_of(tmp_path)


SCRIPT = """
import flax.linen as nn
import numpy as np
import optax
import jaxopt_lab as lab

rows = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
labels = (rows.sum(1) > 0).astype(np.int32)
problem = lab.supervised(
    lambda *, features=4: nn.Sequential([nn.Dense(features), nn.BatchNorm(True), nn.Dense(2)]),
    (rows, labels),
    loss=optax.softmax_cross_entropy_with_integer_labels,
    optimizer=lambda h: optax.adam(h["lr"]),
    roles={"learning_rate": "lr"},
    splits=2,
    batch_size=8,
)
space = lab.SearchSpace(lr=lab.LogUniform(1e-4, 1e-1))
"""


@pytest.mark.slow
def test_replay_of_a_script_prints_a_schedule_that_optax_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxopt_lab.cli.tune.configure_jax", lambda *args: None)
    Path("net.py").write_text(SCRIPT)
    names: dict[str, Any] = {}
    exec(SCRIPT, names)
    with lab.Study(names["problem"], names["space"], "net", seed=1) as study:
        study.optimize("random", 5, budget=4, scheduler=PBT(every=1, exploit="tournament"))
        schedule = study.best.schedule
    assert cli.run(["replay", "net", "net.py", "-o", "schedule.csv"]) == 0
    out = capsys.readouterr().out
    assert "the same curves as in the population, bit for bit" in out
    pd.testing.assert_frame_equal(pd.read_csv("schedule.csv"), schedule)
    made: dict[str, Any] = {"optax": optax}
    exec(out[out.index("learning_rate =") :], made)
    rate = made["learning_rate"]
    for row in schedule.itertuples():
        for update in (4 * row.unit, 4 * row.unit + 3):
            assert float(rate(update) if callable(rate) else rate) == pytest.approx(row.lr)
    assert cli.run(["replay", "net"]) == 2
    assert "give it: jaxopt-lab replay net FILE.py" in capsys.readouterr().err


def test_a_table_learns_as_a_population(houses: pd.DataFrame, tmp_path: Path) -> None:
    """A copy has its parent's network, shape and all; a refit follows the schedule."""
    path = tmp_path / "table.csv"
    houses[["area", "age", "price"]].head(120).to_csv(path, index=False)
    table = lab.datasets.load_table(str(path), target="price")
    space = lab.SearchSpace(
        learning_rate=lab.LogUniform(1e-4, 1e-1),
        hidden_size=lab.Choice([4, 8]),
        num_layers=1,
        weight_decay=lab.LogUniform(1e-6, 1e-2),
    )
    study = lab.Study(lab.tasks.tabular(table, numeric="standard"), space, tmp_path / "study")
    with study:
        scheduler = PBT(every=2, exploit="tournament")
        study.optimize("random", 6, num_epochs=6, num_folds=2, scheduler=scheduler)
        lineage = study.lineage
        copies = lineage[lineage["parent"] != lineage["trial_id"]]
        assert len(copies)
        sizes = lineage.set_index(["generation", "trial_id"])["hidden_size"]
        for row in copies.itertuples():
            assert row.hidden_size == sizes[row.generation - 1, row.parent]
        best = study.best
        assert study.replay().is_same
        assert best.complete["hidden_size"] == best.schedule["hidden_size"].iloc[0]
        assert best.result()["hidden_0"]["kernel"].shape[1] == best.complete["hidden_size"]
        assert np.isfinite(best.predict(houses.head(3))).all()
        refit = study.store.member_arrays(best.trial_id)[-1]
        assert (refit.fold, refit.num_units) == (2, 6)
        study.rerun([best.trial_id], replicate=1)
        again = [m for m in study.store.member_arrays(best.trial_id) if m.replicate == 1]
        assert [(m.fold, m.num_units) for m in again] == [(0, 6), (1, 6)]
        assert again[0].curves["loss"][0] != best.curves[0]["loss"][0], "other seeds"
