"""Words of Keras, Optax and scikit-learn get the right hint, and numbers may be NumPy's."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lab as lab
from jaxopt_lab.core.errors import did_you_mean
from jaxopt_lab.core.scalars import number, whole
from jaxopt_lab.core.synonyms import GROUPS
from jaxopt_lab.problems.mlp import hyperparameters
from jaxopt_lab.problems.mlp.hyperparameters import REGISTRY
from jaxopt_lab.search.prior import centre_of
from jaxopt_lab.storage import locks
from jaxopt_lab.tuning.tune import Settings


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
