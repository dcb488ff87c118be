"""Words of Keras, Optax and scikit-learn get the right hint, and numbers may be NumPy's."""

import inspect
import operator
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lab as lab
from jaxopt_lab.core import other_names
from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.errors import did_you_mean
from jaxopt_lab.core.scalars import number, whole
from jaxopt_lab.core.synonyms import ARGUMENTS, GROUPS
from jaxopt_lab.problems.mlp import hyperparameters
from jaxopt_lab.problems.mlp.hyperparameters import REGISTRY
from jaxopt_lab.search.prior import centre_of
from jaxopt_lab.storage import locks
from jaxopt_lab.tuning.settings import Settings


@pytest.mark.parametrize(
    ("word", "ours"),
    [
        ("lr", "learning_rate"),
        ("learning-rate", "learning_rate"),
        ("beta_1", "b1"),
        ("beta2", "b2"),
        ("min_scale", "plateau_floor"),
        ("minimum_learning_rate", "min_lr"),
        ("units", "hidden_size"),
        ("dropout_rate", "dropout"),
        ("batch", "batch_size"),
        ("epsilon", "eps"),
        ("weight-decay", "weight_decay"),
        ("clipnorm", "clip_norm"),
        ("kernel_initializer", "initialization"),
    ],
)
def test_a_word_of_another_library_is_understood(word: str, ours: str) -> None:
    with pytest.raises(lab.UserError, match=f"Did you mean '{ours}'"):
        hyperparameters.complete({word: 1})


def test_words_that_measure_something_else_say_so() -> None:
    with pytest.raises(lab.UserError, match="min_lr is the same as a rate"):
        hyperparameters.lookup("min_scale")
    with pytest.raises(lab.UserError, match="--epochs"):
        hyperparameters.lookup("epochs")


def test_hints_go_both_ways_and_name_only_what_there_is() -> None:
    assert did_you_mean("learning_rate", ["lr", "b1"]) == " Did you mean 'lr'?"
    assert did_you_mean("--n-trials", ["--trials", "--folds"]) == " Did you mean '--trials'?"
    assert did_you_mean("units", ["price"]) == ""
    with pytest.raises(lab.UserError, match="Did you mean 'learning_rate'"):
        centre_of(lab.SearchSpace(learning_rate=lab.Uniform(0, 1)), {"lr": 0.5})


def test_a_word_stands_for_one_thing_and_our_names_stand_first() -> None:
    words = [word for group in GROUPS for word in group]
    assert len(words) == len(set(words))
    assert not [word for group in GROUPS for word in group[1:] if word in REGISTRY]


#: What a hint names of ours.
HERE = re.compile(r"\blab(?:\.\w+)+")


class Unopened(lab.Study):
    """A study of nothing: a call that Python refuses needs none."""

    def __init__(self) -> None:
        pass


ROWS: Any = (np.zeros((4, 2)), np.zeros(4))


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: Unopened().optimize("random", n_trials=8), "Did you mean 'num_trials'"),
        (lambda: Unopened().optimize("random", 8, epochs=3), "Did you mean 'budget'"),
        (lambda: Unopened().optimize("random", 8, timeout=60), "Did you mean 'time_limit'"),
        (lambda: Unopened().optimize("random", 8, pruner=1), "Did you mean 'scheduler'"),
        (lambda: Unopened().optimize("random"), r"needs num_trials: Study.optimize\(sampler, num"),
        (lambda: Unopened().optimize("random", 1, 1, 1, 1), "by name: budget, time_limit"),
        (lambda: Unopened().optimize("random", 1, num_trials=1), "num_trials is given twice"),
        (lambda: Unopened().ask(), r"Study\.ask needs n"),
        (lambda: lab.Study(None, None, n_jobs=2), "Study has no argument 'n_jobs'.*all devices"),
        (lambda: lab.Study(None, None, direction="min"), "the problem has it"),
        (lambda: lab.Study(None, None, random_state=1), "Did you mean 'seed'"),
        (lambda: lab.Study(None, None, storage="x"), "directory="),
        (lambda: lab.Study(None), "Study needs space"),
        (lambda: lab.from_function(print, metric="x"), "Did you mean 'objective'"),
        (lambda: lab.from_function(print, mode="max"), "Did you mean 'direction'"),
        (lambda: lab.supervised(None, ROWS, criterion=1), "Did you mean 'loss'"),
        (lambda: lab.supervised(None, ROWS, cv=3), "Did you mean 'splits'"),
        (lambda: lab.supervised(None, ROWS, epochs=3), "Did you mean 'budget'"),
        (lambda: lab.supervised(None, ROWS, seed=3), "Did you mean 'random_state'"),
        (lambda: lab.supervised(None, ROWS, learning_rate=0.1), "SearchSpace.learning_rate=...."),
        (lambda: lab.from_steps(print, executor="pmap"), "executor must be one of.*'vmap'"),
        (lambda: lab.from_function(print, executor=1), "executor must be one of"),
        (lambda: lab.supervised(None, *ROWS, loss=1), r"one pair.*\(inputs, targets\), loss="),
        (lambda: lab.Uniform(0, 1, when={"a": 1}), r"lab.Uniform\(0.5, 0.99\).when\("),
        (lambda: lab.Choice([1, 2], when={"a": 1}), r"no argument 'when'.*\.when\("),
        (lambda: lab.Uniform(1e-3, 1, log=True), "Uniform has no argument 'log'.*lab.LogUniform"),
        (lambda: lab.IntUniform(1, 9, step=2), r"IntUniform.*lab\.Choice"),
        (lambda: lab.LogUniform(1), "LogUniform needs high"),
        (lambda: lab.Choice(1, 2, 3), r"as one list: lab\.Choice\(\[1, 2, 3\]\)"),
        (lambda: lab.SearchSpace({"x": lab.Uniform(0, 1)}), r"lab\.SearchSpace\(\*\*space\)"),
        (lambda: lab.schedulers.hyperband(eta=3), "Did you mean 'reduction'"),
        (lambda: lab.schedulers.hyperband(max_t=81), r"study\.optimize\(\.\.\., budget=N\)"),
        (lambda: lab.schedulers.population_based_training(interval=4), "Did you mean 'every'"),
        (lambda: lab.search.random(seed=1), r"lab\.Study\(\.\.\., seed=0\)"),
        (lambda: lab.search.bayesian(n_startup_trials=9), "Did you mean 'num_initial'"),
        (lambda: lab.stabilize(None, {}, epochs=3), "Did you mean 'num_epochs'"),
        (lambda: lab.tasks.tabular(None, test_size=0.2), "Did you mean 'test_fraction'"),
        (lambda: lab.datasets.load_table("x.csv", label="y"), "Did you mean 'target'"),
        (lambda: lab.search.grid(zzz=1), "'zzz'. It has: points_per_range"),
    ],
)
def test_a_call_with_other_words_is_one_line_with_the_mend(
    call: Callable[[], Any], line: str
) -> None:
    with pytest.raises(lab.UserError, match=line) as refused:
        call()
    assert "\n" not in str(refused.value)


def test_a_type_error_from_within_a_call_stays_what_it_is() -> None:
    @checked_call(lr="write rate")
    def twice(rate: Any, *, seed: int = 0) -> Any:
        """Doubles."""
        return rate * 2 + seed

    assert twice(3, seed=1) == 7
    assert list(inspect.signature(twice).parameters) == ["rate", "seed"]
    assert twice.__doc__ == "Doubles."
    with pytest.raises(TypeError, match="unsupported operand"):
        twice({})
    with pytest.raises(lab.UserError, match=r"twice has no argument 'lr'; write rate"):
        twice(lr=3)


def test_every_argument_that_is_hinted_at_is_understood_as_one_thing() -> None:
    words = [word for group in ARGUMENTS for word in group[1:]]
    assert len(words) == len(set(words))


@pytest.mark.parametrize(
    ("owner", "name", "hint"),
    [
        (Unopened(), "best_params", "write study.best.hyperparameters"),
        (Unopened(), "trials_dataframe", "write study.trials"),
        (Unopened(), "optimise", "Did you mean 'optimize'"),
        (lab, "create_study", r"write lab\.Study\(problem, space\)"),
        (lab, "LogUnif", "Did you mean 'LogUniform'"),
        (lab, "ASHAScheduler", r"lab\.schedulers\.successive_halving"),
        (lab, "load_table", r"write lab\.datasets\.load_table"),
        (lab.schedulers, "asha", r"successive_halving\(\), whose rungs.*hyperband"),
        (lab.schedulers, "cosine", r"optimizer=lambda h, total_steps"),
        (lab.schedulers, "hyper_band", "Did you mean 'hyperband'"),
        (lab.search, "TPESampler", r"lab\.search\.bayesian\(\), or lab\.search\.from_optuna"),
        (lab.search, "sobol", "Did you mean 'quasi_random'"),
        (lab.search, "hyperband", 'scheduler="hyperband"'),
        (lab.trackers, "wandb", "Did you mean 'WandB'"),
        (lab.trackers, "Comet", r"lab\.Callback"),
        (lab.placements, "slurm", r'lab\.placements\.ray\("auto"\)'),
        (lab.placements, "local", "without placement"),
        (lab.metrics, "mse", r"write lab\.metrics\.squared_error"),
        (lab.metrics, "precision", "over_all_rows"),
        (lab.stopping, "timeout", "time_limit"),
        (lab.datasets, "load_tabel", "Did you mean 'load_table'"),
    ],
)
def test_attributes_of_other_libraries_get_a_hint(owner: Any, name: str, hint: str) -> None:
    with pytest.raises(AttributeError, match=hint):
        getattr(owner, name)
    assert not hasattr(owner, name)


def test_what_a_hint_says_to_write_exists() -> None:
    tables = [value for value in vars(other_names).values() if isinstance(value, dict)]
    said = [line for table in tables for line in table.values() if isinstance(line, str)]
    paths = {found for line in said for found in HERE.findall(line)}
    assert "lab.schedulers.hyperband" in paths
    for path in paths:
        operator.attrgetter(path.removeprefix("lab."))(lab)


def test_no_word_is_a_name_that_is_there() -> None:
    rooms = {"SCHEDULERS": lab.schedulers, "SEARCH": lab.search, "TRACKERS": lab.trackers}
    rooms |= {"PLACEMENTS": lab.placements, "METRICS": lab.metrics, "STOPPING": lab.stopping}
    for table, room in {**rooms, "PACKAGE": lab}.items():
        assert not set(getattr(other_names, table)) & set(room.__all__)


@pytest.mark.parametrize("three", [3, np.int64(3), np.float32(3), np.array(3), jnp.asarray(3)])
def test_numbers_of_any_library_are_numbers(three: Any) -> None:
    assert whole("n", three) == 3
    assert type(whole("n", three)) is int
    assert number("x", three) == 3.0
    settings = Settings(trials=three, epochs=three, folds=three, seed=three)
    assert (settings.trials, settings.epochs, settings.folds, settings.seed) == (3, 3, 3, 3)
    assert hyperparameters.check_value("batch_size", three) == 3
    space = lab.SearchSpace(a=lab.Choice([three, 5]), b=lab.Uniform(0, three), c=three)
    assert space == lab.SearchSpace(a=lab.Choice([3, 5]), b=lab.Uniform(0, 3), c=3)


@pytest.mark.parametrize("wrong", ["3", True, 2.5, None, np.array([1, 2])])
def test_what_is_no_whole_number_is_one_line(wrong: Any) -> None:
    with pytest.raises(lab.UserError, match="n must be a whole number"):
        whole("n", wrong)


def test_a_study_takes_numbers_of_numpy(tmp_path: Path) -> None:
    def train(key: Any, hparams: Any) -> dict[str, Any]:
        return {"loss": (hparams["x"] - 1.0) ** 2}

    problem = lab.from_function(train, num_seeds=np.int64(1))
    space = lab.SearchSpace(x=lab.Uniform(np.float64(0), np.float32(2)))
    with lab.Study(problem, space, tmp_path, seed=np.int32(1)) as study:
        study.optimize("random", num_trials=np.int64(3), time_limit=np.float64(600))
        assert len(study.trials) == 3
        with pytest.raises(lab.UserError, match="number of trials must be a whole number"):
            study.optimize("random", num_trials="3")
        for wrong, line in {
            "stopping": r"such as lab\.stopping\.target\(0\.1\)",
            "space": r"space must be a lab\.SearchSpace",
            "progress": r"lab\.ProgressBar",
            "phase": "phase must be a name",
            "callbacks": "callbacks must be a list",
        }.items():
            with pytest.raises(lab.UserError, match=line):
                study.optimize("random", 4, **{wrong: 0.1})
        with pytest.raises(lab.UserError, match=r"study\.enqueue\(\[\{"):
            study.enqueue({"x": 1.0})
    with pytest.raises(lab.UserError, match="directory must be a path"):
        lab.Study(problem, space, 3)
    with pytest.raises(lab.UserError, match=r"such as jax\.devices\(\)"):
        lab.Study(problem, space, devices="cpu")


def test_without_fcntl_the_package_imports(tmp_path: Path) -> None:
    pytest.importorskip("filelock")
    code = (
        "import sys; sys.modules['fcntl'] = sys.modules['resource'] = None\n"
        "import jaxopt_lab; from jaxopt_lab.storage.store import Store\n"
        "Store.open(sys.argv[1]).close()"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=300)
    assert (tmp_path / "study.sqlite").exists()


@pytest.mark.parametrize("portable", [False, True])
def test_one_holds_a_lock_at_a_time(
    portable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if portable:
        pytest.importorskip("filelock")
        monkeypatch.setattr(locks, "fcntl", None)
    path = tmp_path / ".lock"
    path.write_bytes(b"mine")
    give_up = locks.take(path)
    with pytest.raises(BlockingIOError):
        locks.take(path)
    give_up()
    locks.take(path)()
    assert path.read_bytes() == b"mine"
