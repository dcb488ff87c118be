"""The whole job: observe, measure, diagnose, try the cures, recommend, confirm on fresh seeds."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.problems.mlp import hyperparameters
from jaxopt_lab.stabilization.comparison import Clock
from jaxopt_lab.stabilization.diagnose import STUCK_TAIL
from jaxopt_lab.stabilization.diagnosis import Diagnosis
from jaxopt_lab.stabilization.length import fitting, whole
from jaxopt_lab.stabilization.population import Population, Task
from jaxopt_lab.stabilization.stages import NotShownError, Stages


def stabilize(
    task: Task,
    hparams: Mapping[str, Any],
    *,
    num_epochs: int | None = None,
    num_seeds: int | None = None,
    shorten: bool | None = None,
    seed: int = 0,
    time_limit: float | None = None,
    evaluations: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    directory: str | Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Diagnosis:
    """Find out why a configuration's validation loss fluctuates, and how to calm it.

    Args:
      task: a table (`tasks.tabular`) or rows with a network of their own (`tasks.ArrayTask`).
      hparams: the configuration; defaults fill the rest. `early_stopping` is left off here.
      num_epochs: of each training; 600,000 / rows, between 20 and 60, by default.
      num_seeds: seeds of the comparison; as many fresh ones confirm it. 4 by default.
      shorten: whether an MLP whose comparison is expected to take longer than some two minutes, or
        than the time limit, is compared in fewer epochs and with 2 seeds, if what is wrong shows
        there too; the base is still observed over all epochs. By default where `num_epochs` is
        not given.
      seed: of everything.
      time_limit: seconds after which no more cures are tried.
      evaluations: per epoch; about 120 in all by default.
      devices: JAX devices; all local ones by default.
      directory: keeps finished trainings, so that the same call goes on after an interruption;
        `Diagnosis.save` into it removes them.
      say: takes one line of text at a time.

    Returns:
      Causes with evidence, cures with intervals, and the fix.

    Raises:
      UserError: for settings that cannot be.
      MachineError: if there was no time for the base.

    Example:
      >>> import jaxopt_lab as lab
      >>> table = lab.datasets.load_table("lucas_houses", target="price")  # doctest: +SKIP
      >>> found = lab.stabilize(lab.tasks.tabular(table), {"learning_rate": 0.1})  # doctest: +SKIP
      >>> found.main_cause  # doctest: +SKIP
      'learning_rate_too_high'
    """
    if num_seeds is not None and num_seeds < 2:
        raise UserError(f"the number of seeds must be at least 2, got {num_seeds}")
    base = hyperparameters.complete(hparams)
    num_rows = int(task.fold_arrays(seed).num_train[0])
    epochs = num_epochs or min(max(round(6e5 / num_rows), 20), 60)
    if epochs < 1:
        raise UserError(f"the number of epochs must be at least 1, got {epochs}")
    population = Population(task, base, epochs, seed, evaluations, devices, directory=directory)
    clock = Clock(time_limit, time.monotonic())
    wanted = length = whole(population, num_seeds)
    if shorten or (shorten is None and num_epochs is None):
        length = fitting(population, num_seeds, time_limit)
    if length[:-1] == wanted[:-1]:  # all but the expected seconds, which may be nan
        return Stages(population, wanted, clock, say).run()
    observer = Stages(replace(population, width=1), length, clock, say)
    seen = observer.observe()
    if seen.main_cause == "no_problem" and seen.evidence.norm_tail < STUCK_TAIL:
        return seen
    say(
        f"comparing in {wanted.num_epochs} epochs with {wanted.num_seeds} seeds would take about "
        f"{wanted.seconds / 60:.0f} minutes: in {length.num_epochs} epochs with "
        f"{length.num_seeds} seeds, about {max(length.seconds / 60, 1):.0f}"
    )
    often = evaluations or length.evaluations
    short = replace(population, num_epochs=length.num_epochs, evaluations=often)
    try:
        return Stages(short, length, clock, say, seen).run()
    except NotShownError:
        say(f"it does not show in {length.num_epochs} epochs: comparing in all of them")
    return Stages(population, wanted, clock, say, seen).run()
