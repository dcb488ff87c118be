"""Several objectives: what dominates what, which objectives there are, and the report's chart."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lab as lab
from jaxopt_lab import report
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.objective import is_on_front
from jaxopt_lab.tuning import sweep


def test_a_front_is_what_nobody_dominates() -> None:
    rng = np.random.default_rng(0)
    costs = rng.integers(0, 6, (60, 3)).astype(float)
    costs[7] = np.nan
    costs[8, 1] = np.inf
    for i, chosen in enumerate(is_on_front(costs)):
        beaten = [
            all(a <= b for a, b in zip(other, costs[i], strict=True)) and (other < costs[i]).any()
            for other in costs[np.isfinite(costs).all(axis=1)]
        ]
        assert chosen == (np.isfinite(costs[i]).all() and not any(beaten))
    assert is_on_front(np.ones((3, 2))).all()  # equal points are on it together
    assert is_on_front(np.zeros((0, 2))).shape == (0,)


def build(size: int) -> lab.Trainable:
    def init(key: Any, hparams: Any) -> Any:
        return {"w": jnp.ones((size,)), "steps": jnp.zeros((), jnp.int32)}

    def step(state: Any, hparams: Any, shared: Any) -> Any:
        state = {"w": state["w"] * (1.0 - hparams.rate), "steps": state["steps"] + 1}
        return state, {"roughness": hparams.rate}

    def evaluate(state: Any, hparams: Any, shared: Any) -> Any:
        # A larger network comes nearer to 1.
        return {"gain": (1.0 - jnp.mean(state["w"])) * (1.0 - 1.0 / size)}

    return lab.Trainable(init, step, evaluate, result=lambda state: state)


SPACE = lab.SearchSpace(size=lab.Choice([2, 4, 8]), rate=lab.Uniform(0.1, 0.9))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    problem = lab.from_steps(build, objective="gain", direction="maximize")
    where = tmp_path_factory.mktemp("front")
    settings = sweep.SweepSettings(trials=12, budget=3, search="random")
    sweep.run(problem, SPACE, settings, where, say=lambda text: None)
    return where


@pytest.fixture(scope="module")
def study(folder: Path) -> lab.Study:
    problem = lab.from_steps(build, objective="gain", direction="maximize")
    opened = lab.Study(problem, SPACE, folder)
    opened.configure(3)
    return opened


def test_score_against_size(study: lab.Study) -> None:
    found = study.pareto(["gain", "num_parameters"])
    assert list(found.columns) == ["trial_id", "gain", "num_parameters", "size", "rate"]
    assert found["num_parameters"].tolist() == found["size"].tolist()  # the count of steps is none
    assert found["trial_id"].iloc[0] == study.best.trial_id
    assert (np.diff(found["gain"]) < 0).all()
    assert (np.diff(found["num_parameters"]) < 0).all()
    best = study.trials.groupby("size")["score"].max()
    assert set(found["gain"]) <= set(best)


def test_any_metric_and_any_number_is_an_objective(study: lab.Study) -> None:
    found = study.pareto(["score", "roughness"])
    np.testing.assert_allclose(found["roughness"], found["rate"], rtol=1e-6)
    assert len(study.pareto(["rate", "size"], ["maximize", "minimize"])) >= 1
    # Of one objective in two directions every trial is on the front of distinct ones.
    assert len(study.pareto(["gain", "rate", "size"], ["maximize", "minimize", "maximize"])) >= 3


@pytest.mark.parametrize(
    ("objectives", "directions", "message"),
    [
        ("gain", None, "two objectives or more"),
        (["gain", "score"], None, "each once"),
        (["gain", "sise"], None, "no objective 'sise'"),
        (["gain", "roughnes"], None, "Did you mean 'roughness'?"),
        (["gain", "size"], ["maximize"], "give a direction for each of gain, size"),
        (["gain", "size"], ["max", "minimize"], "a direction is minimize or maximize, got 'max'"),
    ],
)
def test_what_cannot_be_is_one_line(
    study: lab.Study, objectives: Any, directions: Any, message: str
) -> None:
    with pytest.raises(UserError) as found:
        study.pareto(objectives, directions)
    assert message in str(found.value)
    assert "\n" not in str(found.value)


def test_the_report_draws_it(folder: Path) -> None:
    text = report.build(folder).read_text(encoding="utf-8")
    assert "Score against size" in text
    assert "plot-front" in text


def test_a_table_counts_the_weights_of_the_trials_own_network(houses: Any) -> None:
    data = lab.datasets.load_table(houses[["area", "price"]].head(60), target="price")
    problem = lab.tasks.tabular(data, numeric="standard")
    space = lab.SearchSpace(hidden_size=lab.Choice([4, 6]), num_layers=lab.Choice([1, 2]))
    study = lab.Study(problem, space)
    study.configure(2, 2)
    training = study.training
    config = training.complete({"hidden_size": 4, "num_layers": 2})
    amount = lab.problems.contract.Amount(4, 2, len(jax.devices()))
    programs = training.choose(space, amount, study.sizing)
    # Columns, 4 and 4 neurons, one output; a bias for each. The program is 6 wide.
    columns = training.client.data.inputs.shape[-1]
    expected = (columns + 1) * 4 + 5 * 4 + 5
    assert training.num_parameters(config, programs.signature(config)) == expected
