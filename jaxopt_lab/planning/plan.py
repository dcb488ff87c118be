"""Plans before anything trains: which programs, which cohorts, how long, and why."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jaxopt_lab.core.cohorts import Cohort, Job, Wave, make_waves
from jaxopt_lab.core.types import Config
from jaxopt_lab.models.mlp import count_parameters
from jaxopt_lab.planning.costs import Costs, Load
from jaxopt_lab.planning.sizing import Sizing, trial_bytes
from jaxopt_lab.problems import Prepared
from jaxopt_lab.problems.mlp import hyperparameters
from jaxopt_lab.problems.mlp.choosing import choose, exact_estimate
from jaxopt_lab.problems.mlp.estimates import Estimate, count_weights, epoch_seconds
from jaxopt_lab.problems.mlp.programs import Programs
from jaxopt_lab.problems.mlp.signature import Signature
from jaxopt_lab.schedulers.base import Scheduler, bracket_slices
from jaxopt_lab.spaces.space import SearchSpace


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
            f"{count(networks, 'network')}, {count(len(self.programs), 'program')}, "
            f"{count(self.num_waves, 'wave')} on {count(self.num_devices, 'device')}",
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
            f"  {count(p.num_networks, 'network')} in {count(p.num_cohorts, 'cohort')} of "
            f"{p.width}: {p.name} "
            f"({p.compile_seconds:.0f} + {p.run_seconds:.0f} s)"
            for p in self.programs
        ]
        return "\n".join(lines)


def make_plan(
    configs: Sequence[Config],
    space: SearchSpace,
    load: Load,
    sizing: Sizing,
    race: bool = False,
    scheduler: Scheduler | None = None,
) -> Plan:
    """Choose programs, lay configurations out in waves, and add their costs up.

    Args:
      configs: as a sampler proposes them.
      space: where they are from.
      load: epochs, folds, rows, columns, devices; its number of trials chooses the programs.
      sizing: costs and bounds of the devices.
      race: whether only half of them train on more than one fold.
      scheduler: stops them early, as if the first were the best.
    """
    costs = sizing.costs
    chosen = choose(space, load, costs, sizing.on_cpu)
    complete = [hyperparameters.complete(config) for config in configs]
    jobs = [
        Job(
            i,
            fold,
            0,
            complete[i],
            chosen.signature(complete[i]),
            epochs,
            load.num_epochs,
            start=start,
        )
        for fold in range(load.num_folds)
        for i, start, epochs in _pieces(len(complete), load.num_epochs, race and fold, scheduler)
    ]
    widths = {
        s: sizing.width(_size(s, load), _bytes(s, load), load.data_bytes, chosen.max_cohort(s))
        for s in {job.signature for job in jobs}
    }
    waves = make_waves(jobs, widths, load.num_devices)
    exact = exact_estimate(space, chosen, load, costs, sizing.on_cpu)
    by_program: dict[Signature, list[Wave]] = {}
    for wave in waves:
        by_program.setdefault(wave.signature, []).append(wave)
    found, places, filled, padded, real = [], 0, 0, 0.0, 0.0
    for signature, mine in by_program.items():
        width = widths[signature]
        cohorts = [cohort for wave in mine for cohort in wave.cohorts]
        seconds = sum(wave_seconds(wave, width, chosen, load, costs) for wave in mine)
        places += sum(width * load.num_devices * wave.cohorts[0].num_epochs for wave in mine)
        for cohort in cohorts:
            for job in cohort.jobs:
                filled += job.num_epochs
                size = job.config["hidden_size"]
                real += job.num_epochs * _weights(load, size, job.config["num_layers"])
                padded += job.num_epochs * _weights(load, signature.hidden_size, cohort.depth)
        num_networks = len({(job.trial_id, job.fold) for c in cohorts for job in c.jobs})
        compiling = compile_seconds(signature, costs)
        found.append(
            ProgramPlan(str(signature), width, num_networks, len(cohorts), compiling, seconds)
        )
    return Plan(
        tuple(found), len(waves), load.num_devices, 1 - filled / places, 1 - real / padded, exact
    )


def count(number: int, noun: str) -> str:
    """`1 program`, `2 programs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _pieces(
    num_trials: int, num_epochs: int, raced: bool | int, scheduler: Scheduler | None
) -> list[tuple[int, int, int]]:
    """(trial, age, epochs) of each piece of training on one fold."""
    if raced:
        num_trials = math.ceil(num_trials / 2)
    if scheduler is None:
        return [(i, 0, num_epochs) for i in range(num_trials)]
    found = []
    for part in bracket_slices(scheduler, num_trials):
        age = 0
        for rung in scheduler.rungs(part.stop - part.start, num_epochs):
            trials = range(part.start, part.start + rung.num_trials)
            found += [(i, age, rung.num_epochs - age) for i in trials]
            age = rung.num_epochs
    return found


def compile_seconds(signature: Signature, costs: Costs) -> float:
    """Expected seconds to compile a program."""
    return costs.compile_seconds + costs.per_layer_seconds * signature.num_layers


def expected_seconds(
    wave: Wave, width: int, chosen: Programs, load: Load, costs: Costs
) -> tuple[float, float]:
    """To compile a wave's program, and to run the wave."""
    compiling = compile_seconds(wave.signature, costs)
    return compiling, wave_seconds(wave, width, chosen, load, costs)


def wave_seconds(wave: Wave, width: int, chosen: Programs, load: Load, costs: Costs) -> float:
    """Expected seconds to run a wave: those of its slowest cohort, empty places included."""
    return width * max(_seconds(cohort, width, chosen, load, costs) for cohort in wave.cohorts)


def _size(signature: Signature, load: Load) -> int:
    """Weights of one network, biases and head included."""
    width, depth = signature.hidden_size, signature.num_layers
    return count_parameters(load.num_features, width, depth, load.num_outputs)


def _bytes(signature: Signature, load: Load) -> int:
    return trial_bytes(signature, _size(signature, load), load.num_valid, load.num_outputs)


def _seconds(cohort: Cohort, width: int, chosen: Programs, load: Load, costs: Costs) -> float:
    """One of V networks of a cohort on one device."""
    size, batch = cohort.signature.hidden_size, cohort.jobs[0].config["batch_size"]
    moments = float(hyperparameters.num_moments(cohort.signature.optimizers))
    epoch = epoch_seconds(chosen, load, costs, size, cohort.depth, batch, moments)
    return cohort.num_epochs * epoch.share(width)


def _weights(load: Load, width: int, depth: int) -> int:
    return count_weights(load.num_features, width, depth)


def load_of(
    prepared: Prepared,
    num_trials: int,
    num_epochs: int,
    num_devices: int,
    num_last: int | None = None,
    num_outputs: int = 1,
) -> Load:
    """How much a study trains on prepared data; its last fold is the refit."""
    arrays = prepared.arrays
    return Load(
        num_trials,
        num_epochs,
        num_folds=len(prepared.folds) - 1,
        num_rows=int(arrays.num_train[0]),
        num_features=math.prod(arrays.inputs.shape[2:]),
        num_devices=num_devices,
        num_last=num_last,
        num_outputs=num_outputs,
        num_valid=int(arrays.valid_rows.shape[1]),
        data_bytes=sum(array.nbytes for array in arrays),
    )
