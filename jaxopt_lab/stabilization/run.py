"""The whole job: observe, measure, diagnose, try the cures, recommend, confirm on fresh seeds."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.scalars import scalar
from jaxopt_lab.core.scalars import whole as whole_number
from jaxopt_lab.problems.general import GeneralProblem
from jaxopt_lab.problems.mlp import hyperparameters
from jaxopt_lab.stabilization.comparison import SHARES, Clock
from jaxopt_lab.stabilization.diagnose import STUCK_TAIL
from jaxopt_lab.stabilization.diagnosis import Diagnosis
from jaxopt_lab.stabilization.gain import is_doubtful
from jaxopt_lab.stabilization.general import stabilize_problem
from jaxopt_lab.stabilization.length import fitting, whole
from jaxopt_lab.stabilization.population import Population, Task
from jaxopt_lab.stabilization.stages import NotShownError, Stages

#: A training shortened to no less than this part of the whole shows by itself what is wrong: the
#: base is observed over all its epochs only if it is calm in those. A program is compiled less.
OBSERVED_BY_ITSELF = 4


@checked_call()
def stabilize(
    problem: Any,
    hparams: Mapping[str, Any],
    *,
    num_epochs: Any = None,
    num_seeds: Any = None,
    shorten: bool | None = None,
    seed: Any = 0,
    time_limit: Any = None,
    evaluations: Any = None,
    curve: str | None = None,
    devices: Sequence[jax.Device] | None = None,
    directory: str | Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Diagnosis:
    """Find out why a configuration's validation loss fluctuates, and how to calm it.

    A table is diagnosed with all that is known of its networks: sharpness, noise and norms of
    gradients, the noise of few validation rows, schedules and averages as cures. Of a problem of
    any other kind (`from_function`, `from_steps`, `supervised`) the curve of its objective is
    measured, and those hyperparameters are varied that have a role, are given a value, and are read
    by its functions: see `general.ROLES`. What is left out is said. A minimised objective above 0
    is measured relative to its trend; rewards, shares and others in units of what training gains.

    Args:
      problem: a table (`tasks.tabular`), or what `from_function`, `from_steps` or `supervised`
        returned; images and sequences go through `supervised`.
      hparams: the configuration. Defaults fill the rest of a table's, `early_stopping` is left off;
        keywords of another problem's builder may be among them.
      num_epochs: of each training; of a table 600,000 / rows, between 20 and 60, by default. Of
        another problem, units of its budget: the problem's own, or 40 to 80 epochs, by default.
      num_seeds: seeds of the comparison; as many fresh ones confirm it. 4 by default.
      shorten: whether an MLP whose comparison is expected to take longer than some 36 s on two slow
        cores, or than the time limit, is compared in fewer epochs and with 2 seeds, if what is
        wrong shows there too; what is calm there is observed over all epochs. By default where
        `num_epochs` is not given. Of tables only.
      seed: of everything.
      time_limit: seconds for everything; what was found by then is returned, on fewer seeds if
        need be.
      evaluations: per epoch, of a table; about 120 in all by default.
      curve: metric to measure instead of the objective, not of tables. Where one unit is a whole
        training (`from_function`), the one metric that is a list of numbers by default. It has the
        objective's direction; `loss` and `train_loss` of supervised problems are minimised.
      devices: JAX devices; all local ones by default.
      directory: keeps finished trainings, so that the same call goes on after an interruption;
        `Diagnosis.save` into it removes them.
      say: takes one line of text at a time.

    Returns:
      Causes with evidence, cures with intervals, and the fix.

    Raises:
      UserError: for settings that cannot be.
      MachineError: if there was no time for the base.

    Examples:
      >>> import jaxopt_lab as lab
      >>> table = lab.datasets.load_table("lucas_houses", target="price")  # doctest: +SKIP
      >>> found = lab.stabilize(lab.tasks.tabular(table), {"learning_rate": 0.1})  # doctest: +SKIP
      >>> found.main_cause  # doctest: +SKIP
      'learning_rate_too_high'
    """
    seed, time_limit, evaluations = (
        whole_number("seed", seed),
        scalar(time_limit),
        scalar(evaluations),
    )
    if num_seeds is not None:
        num_seeds = whole_number("the number of seeds", num_seeds, least=2)
    if num_epochs is not None:
        num_epochs = whole_number("the number of epochs", num_epochs)
    if isinstance(problem, GeneralProblem):
        if shorten or evaluations is not None:
            what = "shorten" if shorten else "evaluations"
            raise UserError(
                f"{what} is for tables: the curve of {problem.source} has one point per "
                f"{problem.unit}; say with num_epochs how many"
            )
        return stabilize_problem(
            problem,
            hparams,
            num_units=num_epochs,
            num_seeds=num_seeds,
            seed=seed,
            time_limit=time_limit,
            curve=curve,
            devices=devices,
            directory=directory,
            say=say,
        )
    if not isinstance(problem, Task):
        raise UserError(
            "stabilize takes a table (lab.tasks.tabular(...)) or a problem of lab.supervised, "
            f"lab.from_steps or lab.from_function, got {type(problem).__name__}"
        )
    if curve is not None:
        raise UserError("curve is for problems that are no tables: a table's is its loss")
    base = hyperparameters.complete(hparams)
    num_rows = int(problem.fold_arrays(seed).num_train[0])
    epochs = num_epochs or min(max(round(6e5 / num_rows), 20), 60)
    if epochs < 1:
        raise UserError(f"the number of epochs must be at least 1, got {epochs}")
    population = Population(problem, base, epochs, seed, evaluations, devices, directory=directory)
    clock = Clock(time_limit, time.monotonic())
    wanted = length = whole(population, num_seeds)
    if shorten or (shorten is None and num_epochs is None):
        length = fitting(population, num_seeds, time_limit)
    if length[:-1] == wanted[:-1]:  # all but the expected seconds, which may be nan
        return Stages(population, wanted, clock, say).run()
    often = evaluations or length.evaluations
    short = replace(population, num_epochs=length.num_epochs, evaluations=often)
    shows = OBSERVED_BY_ITSELF * length.num_epochs >= wanted.num_epochs
    if shows:
        say(f"in {length.num_epochs} of {wanted.num_epochs} epochs, to end in time")
        found = Stages(short, length, clock, say).run()
        if found.main_cause != "no_problem" or clock.passed(SHARES["ladder"]):
            return found
        say(f"calm in {length.num_epochs} epochs: observing all {wanted.num_epochs}")
    seen = Stages(replace(population, width=1), length, clock, say).observe()
    looked_at = shows or not is_doubtful(seen.evidence)
    if seen.main_cause == "no_problem" and seen.evidence.norm_tail < STUCK_TAIL and looked_at:
        return seen
    if not shows:
        say(
            f"comparing in {wanted.num_epochs} epochs with {wanted.num_seeds} seeds would take "
            f"about {wanted.seconds:.0f} s: in {length.num_epochs} epochs with "
            f"{length.num_seeds} seeds, about {length.seconds:.0f} s"
        )
        try:
            return Stages(short, length, clock, say, seen).run()
        except NotShownError:
            pass
    say(f"it does not show in {length.num_epochs} epochs: comparing in all of them")
    return Stages(population, wanted, clock, say, seen).run()
