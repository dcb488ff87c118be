"""The cohort width of each program of a study: written before its first wave, reused ever after."""

from collections.abc import Sequence

import jax

from jaxopt_lab.core.cohorts import Job
from jaxopt_lab.core.runner import Runner
from jaxopt_lab.planning.sizing import Sizing
from jaxopt_lab.problems.contract import Programs, Training
from jaxopt_lab.storage.store import Store


def fix_widths(
    store: Store,
    runner: Runner,
    sizing: Sizing,
    training: Training,
    programs: Programs,
    jobs: Sequence[Job],
) -> None:
    """Write the cohort width of each new program before its first wave; reuse stored ones.

    A bound that the user gives holds for stored widths too: after running out of memory a study
    goes on with smaller cohorts.

    Args:
      store: of the study.
      runner: takes the widths.
      sizing: bounds.
      training: of the problem.
      programs: of the study.
      jobs: what is to train.
    """
    stored = store.settings().get("widths", {})
    data_bytes = sum(x.nbytes for x in jax.tree.leaves(training.client.data))
    for program in dict.fromkeys(job.program for job in jobs):
        name = str(program)
        if name in stored:
            bound = sizing.bound(training.trial_bytes(program), data_bytes)
            stored[name] = min(stored[name], bound)
        else:
            stored[name] = training.width(program, sizing, programs.max_cohort(program))
        runner.use_width(program, stored[name])
    with store.transaction():
        store.set("widths", stored)
