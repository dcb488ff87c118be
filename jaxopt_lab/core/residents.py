"""States that stay on the devices from one generation of a population to the next."""

from collections.abc import Mapping, Sequence

import jax

from jaxopt_lab.core.cohorts import Job, Wave
from jaxopt_lab.core.runner import Runner, WaveReport
from jaxopt_lab.core.types import PyTree

#: What the states that are kept may take on all devices together, bytes. A single wave is kept
#: whatever it takes: its states are there anyway.
ROOM = 2**30


class Residents:
    """States of finished waves, from which waves of the next generation begin by a gather.

    A wave whose jobs all go on from jobs of one kept wave, each from its own cohort, begins there.
    For any other its jobs' states are to be loaded from the host: the numbers are the same.

    Args:
      runner: of the waves.
      room: see `ROOM`.
    """

    def __init__(self, runner: Runner, room: int = ROOM) -> None:
        self._runner, self._room = runner, room
        self._kept: list[WaveReport] = []
        self._parents: Mapping[int, int] = {}

    def keep(self, reports: Sequence[WaveReport], parents: Mapping[int, int]) -> None:
        """A generation is over.

        Args:
          reports: of all its waves.
          parents: trial -> the trial whose state it goes on from.
        """
        sizes = [sum(x.nbytes for x in jax.tree.leaves(report.state)) for report in reports]
        fits = len(reports) == 1 or sum(sizes) <= self._room
        self._kept = list(reports) if fits else []
        self._parents = parents

    def begin(self, wave: Wave) -> PyTree | None:
        """The state of a wave of the next generation; None if it must be loaded."""
        for report in self._kept:
            places = self._places(report.wave, wave)
            if places is not None:
                if len(self._kept) == 1:
                    self._kept = []  # so that its memory is free as soon as the gather is done
                return self._runner.gather(report, wave, places)
        return None

    def _places(self, earlier: Wave, wave: Wave) -> list[list[int]] | None:
        """Where the parents of a wave's jobs stand in an earlier one; None if not all do."""
        if earlier.program != wave.program or len(earlier.cohorts) != len(wave.cohorts):
            return None
        found = []
        for before, now in zip(earlier.cohorts, wave.cohorts, strict=True):
            at = {_key(job): place for place, job in enumerate(before.jobs)}
            wanted = [(self._parents.get(j.trial_id, j.trial_id), *_key(j)[1:]) for j in now.jobs]
            if not all(key in at for key in wanted):
                return None
            found.append([at[key] for key in wanted])
        return found


def _key(job: Job) -> tuple[int, int, int]:
    return job.trial_id, job.fold, job.replicate
