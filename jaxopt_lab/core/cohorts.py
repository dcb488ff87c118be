"""Which jobs train together: jobs -> cohorts -> waves. No JAX here, and no clock.

A job is one trial on one fold with one replicate of the seeds. A cohort is up to V jobs with one
signature, fold, replicate, age and epochs to train; a wave is one cohort per device.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxopt_lab.core.types import Config
from jaxopt_lab.problems.mlp.signature import Signature

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


class Job(NamedTuple):
    """One network to train.

    Attributes:
      trial_id: which trial it belongs to.
      fold: index into the folds of the data; the last is the refit on all rows.
      replicate: 0, or the number of a rerun with other seeds.
      config: complete configuration.
      signature: of that configuration.
      num_epochs: epochs to train.
      budget: epochs that its schedule spans; at least `num_epochs`.
      twin: the trial whose initial weights it starts from; its own if None.
      start: epochs that it was trained before.
      resumable: whether its state is kept at the end, so that it can go on.
    """

    trial_id: int
    fold: int
    replicate: int
    config: Config
    signature: Signature
    num_epochs: int
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

    `blocks` is the number of blocks of rows per minibatch and `start` the age in epochs, common
    to all.
    """

    signature: Signature
    fold: int
    replicate: int
    num_epochs: int
    blocks: int
    start: int
    jobs: tuple[Job, ...]

    @property
    def depth(self) -> int:
        """The most layers of any of its jobs."""
        return max(job.config["num_layers"] for job in self.jobs)


class Wave(NamedTuple):
    """Cohorts that train at the same time, at most one per device, all of one signature.

    Either all of them go on from where they were, or none does.
    """

    signature: Signature
    cohorts: tuple[Cohort, ...]

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All jobs of the wave, in order."""
        return tuple(job for cohort in self.cohorts for job in cohort.jobs)


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


def make_waves(
    jobs: Sequence[Job], widths: Mapping[Signature, int], num_devices: int
) -> list[Wave]:
    """Group jobs into waves.

    Args:
      jobs: in the order in which results are wanted; a group runs where its first job stands.
      widths: V per signature.
      num_devices: D.

    Returns:
      Waves in which every job stands exactly once, none wider than V x D. Which jobs share a
      wave never changes a result, only the time it takes.
    """
    cohorts: dict[tuple[Signature, bool], list[Cohort]] = {}
    for facts, members in _group(jobs).items():
        signature = facts[0]
        width = widths[signature]
        # Deep trials together: a cohort computes the layers of its deepest trial.
        members.sort(key=lambda job: -job.config["num_layers"])
        for i in range(0, len(members), width):
            cohort = Cohort(*facts, jobs=tuple(members[i : i + width]))
            cohorts.setdefault((signature, cohort.start > 0), []).append(cohort)
    waves = []
    for (signature, _), queue in cohorts.items():
        # A wave lasts as long as its slowest cohort: together what takes about the same time.
        queue = sorted(queue, key=lambda c: (-c.num_epochs, -c.depth, c.blocks))
        for i in range(0, len(queue), num_devices):
            waves.append(Wave(signature, tuple(queue[i : i + num_devices])))
    return waves


def _group(jobs: Sequence[Job]) -> dict[tuple[Signature, int, int, int, int, int], list[Job]]:
    groups: dict[tuple[Signature, int, int, int, int, int], list[Job]] = {}
    for job in jobs:
        blocks = job.config["batch_size"] // job.signature.block
        key = (job.signature, job.fold, job.replicate, job.num_epochs, blocks, job.start)
        groups.setdefault(key, []).append(job)
    return groups
