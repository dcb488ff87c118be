"""Every experiment runs from top to bottom, small, and its parts do what their names say."""

import gzip
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lab as lab

FOLDER = Path(__file__).parent.parent / "experiments"


def experiment(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"experiment_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def as_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """`use_all_cores` is for the start of a process; the tests have set JAX up already."""
    monkeypatch.setattr(lab, "use_all_cores", lambda: None)


@pytest.fixture(scope="module")
def cartpole() -> ModuleType:
    return experiment("cartpole_ppo")


def test_random_features(capsys: pytest.CaptureFixture[str]) -> None:
    found = experiment("random_features").main(["--trials", "4"])
    assert found["curves"] == [4, 4, 300]
    assert 0.0 < found["best_loss"] < 1.0
    assert "best_loss" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.slow
def test_digits() -> None:
    found = experiment("digits_cnn").main(["--trials", "2", "--epochs", "3", "--rows", "400"])
    assert found["test_accuracy"] > 0.3
    assert len(found["seeds"]) == 3


def write_series(path: Path, num: int, seed: int) -> Path:
    """Two speakers, one low and one high, in the form of the published files."""
    rng = np.random.default_rng(seed)
    lines = ["@problemName made_up", "@data"]
    for i in range(num):
        speaker, length = i % 2, rng.integers(7, 12)
        values = rng.normal(2.0 * speaker, 1.0, size=(12, length))
        channels = [",".join(f"{value:.3f}" for value in channel) for channel in values]
        lines.append(":".join([*channels, str(speaker)]))
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


@pytest.mark.slow
def test_vowels(tmp_path: Path) -> None:
    train = write_series(tmp_path / "train.ts.gz", 60, 0)
    test = write_series(tmp_path / "test.ts.gz", 40, 1)
    found = experiment("vowels_rnn").main([str(train), str(test), "--trials", "2", "--epochs", "4"])
    assert found["test_accuracy"] > 0.8
    assert len(found["seeds"]) == 3


def test_cartpole(cartpole: ModuleType) -> None:
    found = cartpole.main(["--trials", "2", "--units", "1"])
    assert 8.0 < found["best_return"] <= 500.0
    assert set(found["hyperparameters"]) == set(cartpole.SPACE)


@pytest.mark.slow
def test_cartpole_as_a_population(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    module = experiment("cartpole_pbt")
    found = module.main(["--trials", "3", "--units", "2", "--every", "1", "--seeds", "1"])
    assert found["units"] == 2
    assert set(found["steps_to_475"]) == {"random search", "population"}
    curves = np.array([[10.0, 480.0, 20.0], [470.0, 474.0, 490.0]])
    assert module.units_to(curves, 475.0, 9) == 2
    assert module.units_to(curves, 495.0, 9) == 9


def test_the_pole_falls_as_published(cartpole: ModuleType) -> None:
    """Pushed right from rest, by the equations of Barto, Sutton & Anderson in float64."""
    body = np.array([0.01, -0.02, 0.03, 0.04])
    cart = cartpole.Cart(jnp.asarray(body, jnp.float32), jnp.int32(0))
    for _ in range(10):
        x, v, angle, spin = body
        push = (10.0 + 0.05 * spin**2 * np.sin(angle)) / 1.1
        turn = (9.8 * np.sin(angle) - np.cos(angle) * push) / (
            0.5 * (4 / 3 - 0.1 * np.cos(angle) ** 2 / 1.1)
        )
        force = push - 0.05 * turn * np.cos(angle) / 1.1
        body = np.array([x, v, angle, spin]) + 0.02 * np.array([v, force, spin, turn])
        cart, seen = jax.jit(cartpole.move)(cart, jnp.int32(1))
        np.testing.assert_allclose(cart.body, body, rtol=1e-4, atol=1e-6)
        assert bool(seen.fell) == (abs(body[2]) > 12 * np.pi / 180)
    assert bool(seen.fell)


def cart_at(cartpole: ModuleType, angle: float, steps: int) -> Any:
    return cartpole.Cart(jnp.asarray([0.0, 0.0, angle, 0.0]), jnp.int32(steps))


@pytest.mark.parametrize(
    ("angle", "steps", "fell", "timed_out"),
    [(0.0, 10, False, False), (0.3, 10, True, False), (0.0, 499, False, True),
     (0.3, 499, True, False)],
)  # fmt: skip
def test_an_ended_episode_begins_anew(
    cartpole: ModuleType, angle: float, steps: int, fell: bool, timed_out: bool
) -> None:
    move = jax.jit(cartpole.move_or_reset)
    cart, seen = move(cart_at(cartpole, angle, steps), jnp.int32(0), jax.random.key(0))
    assert (bool(seen.fell), bool(seen.timed_out)) == (fell, timed_out)
    if fell or timed_out:
        assert int(cart.steps) == 0
        assert np.abs(cart.body).max() <= 0.05
        # What is seen is where it ended, not where the next one begins.
        assert abs(float(seen.observation[1])) > 0.1
    else:
        assert int(cart.steps) == steps + 1
        np.testing.assert_array_equal(cart.body, seen.observation)
