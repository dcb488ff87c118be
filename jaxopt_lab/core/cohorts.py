"""Which jobs train together: jobs -> cohorts -> waves. No JAX here, and no clock.

A job is one member of a trial: one split of the data, one seed, one replicate. A cohort is up to V
jobs that one program trains in lockstep; a wave is one cohort per device.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxopt_lab.core.status import Config

#: Bounds of the cohort width on a CPU. A trial that overflows the cache by itself trains alone:
#: company would gain nothing and leave slots empty.
MIN_WIDTH, MAX_WIDTH = 2, 16
#: What a cohort may fill of a core's caches, bytes. More than a level-2 cache: beside company,
#: the fixed cost of an operation counts for more than a miss. A constant, not read from the
#: machine: the width is part of what makes a result reproducible bit for bit.
CACHE_BYTES = 2**22
#: Largest width on an accelerator, and the memory its trials may fill, bytes.
MAX_ACCELERATOR_WIDTH = 1024
ACCELERATOR_BYTES = 4 * 2**30


@runtime_checkable
class Program(Protocol):
    """What one compiled program serves: hashable, and written by `str` for people.

    The exact default, `programs.StaticProgram`, serves the trials of equal static hyperparameters.
    A program of several shapes tells what the trials of a cohort must have in common besides.
    """

    def group(self, config: Config) -> tuple[int, ...]:
        """What is equal for all trials of a cohort."""
        ...

    def order(self, config: Config) -> int:
        """Trials of like numbers, greatest first, fill cohorts together."""
        ...

    def extra(self, configs: Sequence[Config]) -> tuple[int, ...]:
        """Scalars of a cohort, which reach its trials as `Shared.extra`."""
        ...

    def __hash__(self) -> int: ...


class Job(NamedTuple):
    """One training.

    Attributes:
      trial_id: which trial it belongs to.
      fold: which member of the trial it is: a split of the data, a seed; of a table, the last is
        the refit on all rows.
      replicate: 0, or the number of a rerun with other seeds.
      config: complete configuration.
      program: of that configuration.
      num_units: units of budget to train.
      budget: units that its schedule spans; at least `num_units`.
      twin: the trial whose initial weights it starts from; its own if None.
      start: units that it was trained before.
      resumable: whether its state is kept at the end, so that it can go on.
    """

    trial_id: int
    fold: int
    replicate: int
    config: Config
    program: Any
    num_units: int
    budget: int
    twin: int | None = None
    start: int = 0
    resumable: bool = False

    @property
    def seed(self) -> int:
        """What its initial weights are drawn from."""
        return self.trial_id if self.twin is None else self.twin


class Cohort(NamedTuple):
    """Jobs trained in lockstep on one device; `jobs` holds no dummies.

    Program, member, replicate, units to train, age (`start`) and the program's `group` are common
    to all.
    """

    program: Any
    fold: int
    replicate: int
    num_units: int
    start: int
    group: tuple[int, ...]
    jobs: tuple[Job, ...]

    @property
    def extra(self) -> tuple[int, ...]:
        """Its scalars, see `Program.extra`."""
        return self.program.extra([job.config for job in self.jobs])

    @property
    def order(self) -> int:
        """The greatest of its jobs' orders."""
        return max(self.program.order(job.config) for job in self.jobs)


class Wave(NamedTuple):
    """Cohorts that train at the same time, at most one per device, all of one program.

    Either all of them go on from where they were, or none does.
    """

    program: Any
    cohorts: tuple[Cohort, ...]

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All jobs of the wave, in order."""
        return tuple(job for cohort in self.cohorts for job in cohort.jobs)


def cheapest_width(largest: int, cost: Callable[[int], float]) -> int:
    """The power of two, at most `largest`, with the least cost; the widest of equal ones.

    Args:
      largest: at least 1.
      cost: cohort width V -> what training in such cohorts takes, in any unit.
    """
    widths = [2**k for k in range(largest.bit_length())]
    return min(reversed(widths), key=cost)


def default_width(num_parameters: int, on_cpu: bool, cohort_bytes: int = 0) -> int:
    """Cohort width V from the size of a trial.

    Args:
      num_parameters: weights of one network.
      on_cpu: else an accelerator.
      cohort_bytes: room for a cohort, if not `CACHE_BYTES` or `ACCELERATOR_BYTES`.

    Returns:
      On a CPU, the largest power of two with V x (parameters, two moments, gradient, float32)
      within that room, between `MIN_WIDTH` and `MAX_WIDTH`, and 1 if one trial alone does not
      fit; on an accelerator at most `MAX_ACCELERATOR_WIDTH`.
    """
    size = cohort_bytes or (CACHE_BYTES if on_cpu else ACCELERATOR_BYTES)
    room = size // max(1, 16 * num_parameters)
    largest = MAX_WIDTH if on_cpu else MAX_ACCELERATOR_WIDTH
    if on_cpu and room < 1:
        return 1
    width = MIN_WIDTH
    while width * 2 <= min(room, largest):
        width *= 2
    return width


def make_waves(jobs: Sequence[Job], widths: Mapping[Any, int], num_devices: int) -> list[Wave]:
    """Group jobs into waves.

    Args:
      jobs: in the order in which results are wanted; a group runs where its first job stands.
      widths: V per program.
      num_devices: D.

    Returns:
      Waves in which every job stands exactly once, none wider than V x D. Which jobs share a
      wave never changes a result, only the time it takes.
    """
    cohorts: dict[tuple[Any, bool], list[Cohort]] = {}
    for facts, members in _group(jobs).items():
        program = facts[0]
        width = widths[program]
        members.sort(key=lambda job: -job.program.order(job.config))
        for i in range(0, len(members), width):
            cohort = Cohort._make((*facts, tuple(members[i : i + width])))
            cohorts.setdefault((program, cohort.start > 0), []).append(cohort)
    waves = []
    for (program, _), queue in cohorts.items():
        # A wave lasts as long as its slowest cohort: together what takes about the same time.
        queue = sorted(queue, key=lambda c: (-c.num_units, -c.order, c.group))
        for i in range(0, len(queue), num_devices):
            waves.append(Wave(program, tuple(queue[i : i + num_devices])))
    return waves


def _group(jobs: Sequence[Job]) -> dict[tuple[Any, ...], list[Job]]:
    groups: dict[tuple[Any, ...], list[Job]] = {}
    for job in jobs:
        group = job.program.group(job.config)
        key = (job.program, job.fold, job.replicate, job.num_units, job.start, group)
        groups.setdefault(key, []).append(job)
    return groups
