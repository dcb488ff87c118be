"""Variants of one configuration trained side by side, whatever the problem."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

from jaxopt_lab.core.cohorts import Job
from jaxopt_lab.core.results import Result
from jaxopt_lab.core.runner import MakeProbe, Runner, WaveReport
from jaxopt_lab.core.types import Config
from jaxopt_lab.stabilization.finished import Finished
from jaxopt_lab.stabilization.members import Member


class SideBySide(ABC):
    """Trains members with common seeds, and remembers what it has trained.

    Attributes:
      base: complete configuration.
      num_epochs: units of budget of each training.
      runner: trains them.
      finished: where finished trainings are kept; None keeps nothing.
      num_trained: trainings that are known.
      num_kept: those of them that an earlier process had kept.
      seconds: of training, without compiling.
      compile_seconds: of compiling.
      wave_seconds: of training the longest wave so far.
    """

    base: Config
    num_epochs: int
    runner: Runner
    finished: Finished | None = None
    num_trained = num_kept = 0
    seconds = compile_seconds = wave_seconds = 0.0

    @abstractmethod
    def job(self, number: int, member: Member, replicate: int) -> Job:
        """One training of a member; all members of a replicate start alike (`twin`).

        Args:
          number: of the member, from 0.
          member: what differs from the base.
          replicate: number of its seed.
        """

    @property
    @abstractmethod
    def make_probe(self) -> MakeProbe | None:
        """Program -> what is measured on a training at its end; None where nothing is."""

    def train(
        self,
        members: Sequence[Member],
        replicates: Sequence[int],
        probe: bool = False,
        go_on: Callable[[int], bool] = lambda num_waves_left: True,
        least: int | None = None,
    ) -> dict[str, list[Result]]:
        """Train each member once per replicate; members of a replicate share everything else.

        Args:
          members: variants with different names.
          replicates: numbers of seeds.
          probe: whether to measure what `make_probe` measures at the end of the first member's
            trainings: sharpness takes 24 products with the Hessian of all rows.
          go_on: asked before each wave.
          least: if the first member was stopped short of its replicates but has so many, only those
            that it has are taken.

        Returns:
          Name -> results in the order of `replicates`; only of members that were trained with
          every replicate, or with all that are taken.
        """
        jobs, names = [], {}
        for replicate in replicates:
            for number, member in enumerate(members):
                jobs.append(self.job(number, member, replicate))
                names[number] = member.name
        found: dict[str, dict[int, Result]] = {}

        def note(result: Result) -> None:
            self.num_trained += 1
            found.setdefault(names[result.job.trial_id], {})[result.job.replicate] = result

        missing = []
        for job in jobs:
            known = self.finished.get(job, probe) if self.finished else None
            if known is None:
                missing.append(job)
                continue
            note(known)
            self.num_kept += 1
        for report in self._reports(missing, probe, go_on):
            seconds = report.seconds - report.compile_seconds
            self.seconds += seconds
            self.wave_seconds = max(self.wave_seconds, seconds)
            self.compile_seconds += report.compile_seconds
            for result in report.results:
                if result.job.trial_id:
                    result = result._replace(probed={})
                note(result._replace(fetch=dict))  # else its wave's weights stay on the device
                if self.finished:
                    self.finished.put(result, probe)
        first = found.get(members[0].name, {}) if members else {}
        if least is not None and least <= len(first) < len(replicates):
            replicates = [r for r in replicates if r in first]
        return {
            m.name: [found[m.name][r] for r in replicates]
            for m in members
            if all(r in found.get(m.name, {}) for r in replicates)
        }

    def _reports(
        self, jobs: Sequence[Job], probe: bool, go_on: Callable[[int], bool]
    ) -> Iterator[WaveReport]:
        """Of all waves; those with the first member, which is measured, come first.

        It is the first of its cohort, unless its training was kept.
        """
        width = self.runner.width(jobs[0].program) if probe and jobs else 0
        beside = [job for job in jobs if job.trial_id < width]
        if beside:
            yield from self.runner.run(beside, go_on, self.make_probe, num_probed=1)
        yield from self.runner.run([j for j in jobs if j.trial_id >= width], go_on)
