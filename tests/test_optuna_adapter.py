"""Our Bayesian sampler passes the sampler tests that Optuna publishes."""

import threading
import warnings
from collections.abc import Callable

import jax
import numpy as np
import pytest

optuna = pytest.importorskip("optuna")

from optuna.samplers import BaseSampler  # noqa: E402
from optuna.testing.pytest_samplers import (  # noqa: E402
    BasicSamplerTestCase,
    RelativeSamplerTestCase,
    SingleOnlySamplerTestCase,
)

from jaxopt_lab import search  # noqa: E402
from jaxopt_lab.search import History  # noqa: E402
from jaxopt_lab.search.optuna_sampler import OptunaBayesianSampler  # noqa: E402
from jaxopt_lab.spaces.distributions import Choice, LogIntUniform, Uniform  # noqa: E402
from jaxopt_lab.spaces.space import SearchSpace  # noqa: E402


@pytest.mark.slow
class TestOptunasOwnCases(BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase):
    @pytest.fixture(params=[10, 1])
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        return lambda: OptunaBayesianSampler(seed=0, num_initial=request.param)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_study_finds_the_optimum(direction: str) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sign = 1.0 if direction == "minimize" else -1.0

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", -1, 1)
        wrong = trial.suggest_categorical("c", ["a", "b"]) == "a"
        if x > 0.8:
            return float("nan")
        return sign * ((x - 0.3) ** 2 + wrong)

    study = optuna.create_study(direction=direction, sampler=OptunaBayesianSampler(seed=0))
    study.optimize(objective, n_trials=25)
    assert sign * study.best_value < 1e-3


@pytest.mark.slow
def test_two_threads_may_ask_at_the_same_time() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=OptunaBayesianSampler(seed=0, num_initial=1))
    work = threading.Thread(
        target=lambda: study.optimize(
            lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=10, n_jobs=2
        ),
        daemon=True,
    )
    work.start()
    work.join(timeout=120)
    assert not work.is_alive()
    assert len(study.trials) == 10


def test_values_come_back_as_optuna_saw_them() -> None:
    """An adapted sampler that always returns the middle gives the middle of our ranges."""

    class Middle(optuna.samplers.RandomSampler):
        def sample_independent(self, study, trial, name, dist):  # type: ignore[no-untyped-def]
            return dist.choices[1] if hasattr(dist, "choices") else (dist.low + dist.high) // 2

    space = SearchSpace(
        a=Uniform(2.0, 6.0),
        b=LogIntUniform(3, 5),
        c=Choice([64, 16, 32]),
        d=Choice(["x", "y", "z"]),
    )
    sampler = search.from_optuna(lambda seed: Middle(seed=seed))
    (config,) = sampler.propose(jax.random.key(0), space, History.empty(space), 1)
    assert config == {"a": 4.0, "b": 4, "c": 32, "d": "y"}


def test_tpe_through_the_adapter_is_better_than_random() -> None:
    space = SearchSpace(x=Uniform(-1, 1), y=Uniform(-1, 1))
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tpe = search.from_optuna(lambda seed: optuna.samplers.TPESampler(seed=seed))
    for name, sampler in {"tpe": tpe, "random": search.random()}.items():
        best = []
        for seed in range(3):
            history = History.empty(space)
            for _ in range(8):
                configs = sampler.propose(jax.random.key(seed), space, history, 5)
                values = [(c["x"] - 0.3) ** 2 + (c["y"] + 0.2) ** 2 for c in configs]
                history = history.extended(space, configs, values)
            best.append(history.values.min())
        found[name] = np.median(best)
    assert found["tpe"] < found["random"]
