"""Plans before anything trains: which programs, which cohorts, how long, and why."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jaxopt_lab import hyperparameters
from jaxopt_lab.plan import Cohort, Job, Wave, default_width, make_waves
from jaxopt_lab.programs import (
    Costs,
    Estimate,
    Load,
    Programs,
    choose,
    count_weights,
    epoch_seconds,
    exact_estimate,
)
from jaxopt_lab.signature import Signature
from jaxopt_lab.space import SearchSpace
from jaxopt_lab.tasks import Prepared
from jaxopt_lab.types import Config


@dataclass(frozen=True)
class ProgramPlan:
    """One program of a plan.

    Attributes:
      name: what it is compiled for.
      width: cohort width V.
      num_networks: networks that train in it.
      num_cohorts: cohorts that they fill.
      compile_seconds: expected.
      run_seconds: expected.
    """

    name: str
    width: int
    num_networks: int
    num_cohorts: int
    compile_seconds: float
    run_seconds: float


@dataclass(frozen=True)
class Plan:
    """What a study would do, from `Study.plan`; `str` of it says so in words.

    Attributes:
      programs: in the order in which they run.
      num_waves: one cohort per device each.
      num_devices: D.
      empty_slots: share of the places in cohorts and waves that no network fills.
      padding: share of the arithmetic that is spent on units which networks do not have.
      exact: the estimate of a study that compiles every shape by itself; None if its shapes are
        too many.
    """

    programs: tuple[ProgramPlan, ...]
    num_waves: int
    num_devices: int
    empty_slots: float
    padding: float
    exact: Estimate | None

    @property
    def compile_seconds(self) -> float:
        """Expected, without a cache of programs."""
        return sum(p.compile_seconds for p in self.programs)

    @property
    def run_seconds(self) -> float:
        """Expected."""
        return sum(p.run_seconds for p in self.programs)

    def __str__(self) -> str:
        networks = sum(p.num_networks for p in self.programs)
        lines = [
            f"{networks} networks, {len(self.programs)} programs, {self.num_waves} waves on "
            f"{self.num_devices} devices",
            f"{self.empty_slots:.0%} of the places are empty, {self.padding:.0%} of the arithmetic "
            "is padding",
            f"expected: {self.compile_seconds:.0f} s compiling (none of it again with a warm "
            f"cache), {self.run_seconds:.0f} s training",
        ]
        if self.exact is not None and round(self.exact.num_programs) > len(self.programs):
            lines.append(
                f"why: every shape by itself would be {self.exact.num_programs:.0f} programs, "
                f"{self.exact.compile_seconds:.0f} s compiling, {self.exact.run_seconds:.0f} s "
                "training"
            )
        lines += [
            f"  {p.num_networks} networks in {p.num_cohorts} cohorts of {p.width}: {p.name} "
            f"({p.compile_seconds:.0f} + {p.run_seconds:.0f} s)"
            for p in self.programs
        ]
        return "\n".join(lines)


def make_plan(
    configs: Sequence[Config], space: SearchSpace, load: Load, costs: Costs, on_cpu: bool
) -> Plan:
    """Choose programs, lay configurations out in waves, and add their costs up.

    Args:
      configs: as a sampler proposes them.
      space: where they are from.
      load: epochs, folds, rows, columns, devices.
      costs: of the devices.
      on_cpu: else an accelerator.
    """
    chosen, epochs = choose(space, load, costs, on_cpu), load.num_epochs
    complete = [hyperparameters.complete(config) for config in configs]
    jobs = [
        Job(i, fold, 0, config, chosen.signature(config), epochs, epochs)
        for fold in range(load.num_folds)
        for i, config in enumerate(complete)
    ]
    widths = {
        s: min(default_width(_size(s, load), on_cpu, costs.cohort_bytes), chosen.max_width)
        for s in {job.signature for job in jobs}
    }
    waves = make_waves(jobs, widths, load.num_devices)
    exact = exact_estimate(space, chosen, load, costs, on_cpu)
    by_program: dict[Signature, list[Wave]] = {}
    for wave in waves:
        by_program.setdefault(wave.signature, []).append(wave)
    found, places, filled, padded, real = [], 0, 0, 0.0, 0.0
    for signature, mine in by_program.items():
        width = widths[signature]
        cohorts = [cohort for wave in mine for cohort in wave.cohorts]
        seconds = 0.0
        for wave in mine:
            times = [_seconds(cohort, chosen, load, costs) for cohort in wave.cohorts]
            seconds += width * max(times)
            places += width * load.num_devices * wave.cohorts[0].num_epochs
        for cohort in cohorts:
            for job in cohort.jobs:
                filled += job.num_epochs
                size = job.config["hidden_size"]
                real += job.num_epochs * _weights(load, size, job.config["num_layers"])
                padded += job.num_epochs * _weights(load, signature.hidden_size, cohort.depth)
        compile_seconds = costs.compile_seconds + costs.per_layer_seconds * signature.num_layers
        found.append(
            ProgramPlan(
                str(signature),
                width,
                sum(len(cohort.jobs) for cohort in cohorts),
                len(cohorts),
                compile_seconds,
                seconds,
            )
        )
    return Plan(
        tuple(found), len(waves), load.num_devices, 1 - filled / places, 1 - real / padded, exact
    )


def _size(signature: Signature, load: Load) -> int:
    width, depth = signature.hidden_size, signature.num_layers
    return _weights(load, width, depth) + (depth + 1) * width + 1


def _seconds(cohort: Cohort, chosen: Programs, load: Load, costs: Costs) -> float:
    """One network of a cohort on one device."""
    width, batch = cohort.signature.hidden_size, cohort.jobs[0].config["batch_size"]
    return cohort.num_epochs * epoch_seconds(chosen, load, costs, width, cohort.depth, batch)


def _weights(load: Load, width: int, depth: int) -> int:
    return count_weights(load.num_features, width, depth)


def load_of(
    prepared: Prepared,
    num_trials: int,
    num_epochs: int,
    num_devices: int,
    num_last: int | None = None,
) -> Load:
    """How much a study trains on prepared data; its last fold is the refit."""
    arrays = prepared.arrays
    num_features = math.prod(arrays.inputs.shape[2:])
    num_folds, num_rows = len(prepared.folds) - 1, int(arrays.num_train[0])
    return Load(num_trials, num_epochs, num_folds, num_rows, num_features, num_devices, num_last)
