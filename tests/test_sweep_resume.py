"""A sweep of each front door, killed again and again, comes to the same, byte for byte."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

FUNCTION = """
import jax
import jaxopt_lab as lab


def train(key, hparams, *, power=2):
    noise = 0.01 * jax.random.normal(key)
    return {"loss": abs(hparams["x"] - 0.3) ** power + noise, "curve": noise + jax.numpy.zeros(3)}


problem = lab.from_function(train, num_seeds=2)
space = lab.SearchSpace(x=lab.Uniform(0.0, 1.0), power=lab.Choice([1, 2]))
"""
STEPS = """
import jax
import jax.numpy as jnp
import jaxopt_lab as lab


def build():
    def init(key, hparams):
        return jax.random.normal(key, (3,)) + 3.0

    def step(state, hparams, shared):
        noise = jax.random.normal(shared.key, (3,))
        state = state - hparams["learning_rate"] * (state + 0.1 * noise)
        return state, {"reward": -jnp.sum(state**2)}

    return lab.Trainable(init, step)


problem = lab.from_steps(build, objective="reward", direction="maximize", num_seeds=2)
space = lab.SearchSpace(learning_rate=lab.LogUniform(1e-3, 1.0))
"""
SUPERVISED = """
import flax.linen as nn
import numpy as np
import optax
import jaxopt_lab as lab

rows = np.random.default_rng(0).normal(size=(48, 3)).astype(np.float32)
labels = (rows.sum(1) > 0).astype(np.int32)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, *, train, hparams):
        x = nn.relu(nn.Dense(4)(x))
        return nn.Dense(2)(x)


problem = lab.supervised(
    Net,
    (rows, labels),
    loss=optax.softmax_cross_entropy_with_integer_labels,
    optimizer=lambda h: optax.adam(h["learning_rate"]),
    splits=2,
    batch_size=16,
)
space = lab.SearchSpace(learning_rate=lab.LogUniform(1e-3, 1e-1))
"""
DOORS = {
    "function": (FUNCTION, "--search random --trials 8 --cohort-width 2"),
    "steps": (
        STEPS,
        "--search random --trials 9 --budget 9 --cohort-width 2 --scheduler successive_halving",
    ),
    "supervised": (
        SUPERVISED,
        "--search random --trials 6 --budget 2 --scheduler race",
    ),
}
# Imported once; every run is a fork of the process that has them.
HEAVY = ["jaxopt_lab.cli.sweep", "jaxopt_lab.tuning.sweep", "jaxopt_lab.cli.script"]
HEAVY += ["jaxopt_lab.problems.supervised", "optax", "flax.linen"]
#: No run takes nearly as long; a hang fails the test instead of stopping it.
PATIENCE = 240.0


def run_command(argv: list[str], log: str, cache: str, num_transactions: int | None) -> None:
    """Run one command line in a fresh process, without a report; its output goes to the log.

    Args:
      argv: what follows the command's name.
      log: file.
      cache: folder of compiled programs.
      num_transactions: how many the process may finish; it is killed inside the next one, when all
        is written and nothing committed. None for all.
    """
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    import jax

    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    from jaxopt_lab.cli import main, tune
    from jaxopt_lab.storage.store import Store

    tune.write_report = lambda directory: True
    tune._keep_programs = lambda: None
    transaction, left = Store.transaction, [num_transactions]

    @contextmanager
    def counted(self: Store) -> Iterator[None]:
        with transaction(self):
            yield
            if left[0] is not None:
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

    Store.transaction = counted
    main(argv)


class Door:
    """Starts a sweep of one script, over and over, cheaply."""

    def __init__(self, folder: Path, name: str) -> None:
        text, options = DOORS[name]
        self.options = options.split()
        self.folder, self.script, self.log = folder, folder / f"{name}.py", folder / "log.txt"
        self.script.write_text(text)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(HEAVY)

    def start(
        self, directory: Path, options: list[str], num_transactions: int | None = None
    ) -> BaseProcess:
        argv = ["sweep", str(self.script), "--out", str(directory), *self.options, *options]
        args = (argv, str(self.log), str(self.folder / "programs"), num_transactions)
        process = self._context.Process(target=run_command, args=args)
        process.start()
        return process

    def finish(self, process: BaseProcess) -> int:
        process.join(PATIENCE)
        assert process.exitcode is not None, f"still running:\n{self.log.read_text()}"
        return process.exitcode

    def sweep(self, directory: Path, options: list[str]) -> str:
        """Run to the end; what `show --csv` prints then."""
        assert self.finish(self.start(directory, options)) == 0, self.log.read_text()
        return self.show(directory)

    def show(self, directory: Path) -> str:
        from jaxopt_lab.cli import show
        from jaxopt_lab.storage.store import Store
        from jaxopt_lab.storage.validation import settings_of

        store = Store.open(directory, read_only=True)
        try:
            settings = settings_of(store)
            rows = show.signed(show.table_rows(store, timing=False), settings)
        finally:
            store.close()
        text = show.csv_of(rows, settings)
        assert (directory / "trials.csv").read_text() == text
        return text


@pytest.mark.parametrize("name", DOORS)
def test_killed_inside_transactions_it_comes_to_the_same(name: str, tmp_path: Path) -> None:
    door, moments = Door(tmp_path, name), random.Random(name)
    expected = door.sweep(tmp_path / "whole", [])
    assert expected.count("completed") >= 1
    kills, directory = 0, tmp_path / "killed"
    for _ in range(2):
        # The first transactions store settings; each run gets past them, so that some waves count.
        process = door.start(directory, [], moments.randint(5, 9))
        code = door.finish(process)
        assert code in (0, -signal.SIGKILL), door.log.read_text()
        kills += code != 0
    assert kills
    assert door.sweep(directory, []) == expected


@pytest.mark.slow
@pytest.mark.parametrize("search", ["random", "bayesian"])
@pytest.mark.parametrize("name", DOORS)
def test_killed_at_any_moment_it_comes_to_the_same(name: str, search: str, tmp_path: Path) -> None:
    door, moments, options = Door(tmp_path, name), random.Random(0), ["--search", search]
    expected = door.sweep(tmp_path / "whole", options)
    started = time.monotonic()
    assert door.sweep(tmp_path / "again", options) == expected
    duration, kills, number = time.monotonic() - started, 0, 0
    while kills < 5:
        directory, code = tmp_path / f"killed-{number}", None
        number += 1
        while code is None:
            process = door.start(directory, options)
            process.join(moments.uniform(0.0, duration))
            if process.exitcode is None:
                process.kill()
                process.join()
                kills += 1
            else:
                code = process.exitcode
        assert code == 0, door.log.read_text()
        assert door.show(directory) == expected
