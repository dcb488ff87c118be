"""The trainings of a study: jobs of its problem, in its programs; each finished wave is written."""

from collections.abc import Sequence
from typing import Any

from jaxopt_lab.core.cohorts import Job
from jaxopt_lab.core.remote_runner import RemoteRunner
from jaxopt_lab.core.results import collecting_later
from jaxopt_lab.core.runner import Runner, WaveReport
from jaxopt_lab.core.types import Config
from jaxopt_lab.core.workers import Blueprint, Placement
from jaxopt_lab.planning.sizing import Sizing
from jaxopt_lab.problems.contract import Amount, Programs, Training
from jaxopt_lab.spaces.space import SearchSpace
from jaxopt_lab.storage.rows import Trial
from jaxopt_lab.storage.store import Store
from jaxopt_lab.study import records
from jaxopt_lab.study.callbacks import Telling
from jaxopt_lab.study.watch import Watch
from jaxopt_lab.study.weights import Weights
from jaxopt_lab.study.widths import fix_widths


class Trainings:
    """Trains what the other parts of a study ask for, and writes it.

    Args:
      store: of the study.
      problem: what is trained.
      space: of the study.
      seed: of the study.
      devices: JAX devices, or those of one worker.
      sizing: bounds of what trains together.
      keep: the best trials of which results are kept.
      telling: of the study's callbacks.
      placement: where waves are trained; None for here.
    """

    def __init__(
        self,
        store: Store,
        problem: Any,
        space: SearchSpace,
        seed: int,
        devices: Sequence[Any],
        sizing: Sizing,
        keep: int,
        telling: Telling,
        placement: Placement | None = None,
    ) -> None:
        self.store, self.problem, self.space, self.seed = store, problem, space, seed
        self.devices, self.sizing, self.keep, self.telling = devices, sizing, keep, telling
        self.placement = placement
        self.weights = Weights(store)
        #: Whether this process has trained anything.
        self.trained = False
        self._training: Training | None = None
        self._runner: Runner | None = None
        self._programs: Programs | None = None
        self._budget = 0

    @property
    def unit(self) -> str:
        """What a unit of budget is called."""
        return str(self.problem.unit)

    @property
    def budget(self) -> int:
        """Units of a whole training, once they are fixed."""
        self._budget = self._budget or int(self.store.setting("budget"))
        return self._budget

    @property
    def num_folds(self) -> int:
        """Members of a trial (K), once they are fixed."""
        return int(self.store.setting("num_folds"))

    @property
    def training(self) -> Training:
        """The problem ready to train."""
        if self._training is None:
            num_folds = self.store.settings().get("num_folds")
            self._training = self.problem.training(self.space, num_folds, self.seed)
        return self._training

    @property
    def runner(self) -> Runner:
        """What trains networks; its cohort widths are the stored ones."""
        if self._runner is None:
            records.note_devices(self.store, self.devices)
            client = self.training.client
            if self.placement is None:
                self._runner = Runner(client, self.seed, {}, self.devices)
            else:
                num_folds, num_devices = self.store.settings().get("num_folds"), len(self.devices)
                facts = (self.problem, self.space, num_folds, self.seed, num_devices)
                workers = self.placement.start(Blueprint(*facts))
                self._runner = RemoteRunner(client, self.seed, {}, self.devices, workers)
        return self._runner

    def close(self) -> None:
        """Nothing is trained any more."""
        if self._runner is not None:
            self._runner.close()

    @property
    def programs(self) -> Programs:
        """Which shapes trials are rounded up to, once that is stored."""
        if self._programs is None:
            self._programs = self.training.programs_from(self.store.setting("programs"))
        return self._programs

    def amount(
        self, trials: int, budget: int, crowds: tuple[tuple[int, int], ...] | None = None
    ) -> Amount:
        """How much is to be trained, on these devices."""
        return Amount(trials, budget, len(self.devices), crowds)

    def job(
        self, trial_id: int, config: Config, fold: int, replicate: int = 0, num_epochs: int = 0
    ) -> Job:
        """One network to train, within the study's budget."""
        full = self.training.complete(config)
        program = self.programs.signature(full)
        return Job(trial_id, fold, replicate, full, program, num_epochs or self.budget, self.budget)

    def missing(self, rows: Sequence[Trial], folds: Sequence[int]) -> list[Job]:
        """The members that these trials still lack on these folds, fold by fold."""
        if not rows:
            return []
        done = {member.key for member in self.store.members(min(row.trial_id for row in rows))}
        complete, signature = self.training.complete, self.programs.signature
        ready = []
        with collecting_later():
            for row in rows:
                config = complete(row.config)
                ready.append((row.trial_id, config, signature(config)))
            budget = self.budget
            return [
                Job(trial_id, fold, 0, config, program, budget, budget)
                for fold in folds
                for trial_id, config, program in ready
                if (trial_id, fold, 0) not in done
            ]

    def run(self, jobs: list[Job], watch: Watch) -> None:
        """Train jobs; each finished wave is one transaction."""
        if not jobs or watch.struck:
            return
        self.telling.begin()
        watch.begin(len(jobs))
        self.fix_widths(jobs)
        for report in self.runner.run(jobs, watch.go_on):
            self.record(report, watch)

    def record(self, report: WaveReport, watch: Watch) -> None:
        """Write a finished wave, and tell of it."""
        self.trained = True
        where = (self.store, self.weights, self.training)
        records.write_wave(*where, report, watch.phase, self.expected(report), self.keep)
        watch.after(report)

    def expected(self, report: WaveReport) -> tuple[float, float]:
        """Seconds to compile a wave's program and to run it, by the costs of the devices."""
        width, amount = self.runner.width(report.wave.program), self.amount(1, 1)
        return self.training.expected_seconds(
            report.wave, width, self.programs, amount, self.sizing
        )

    def fix_widths(self, jobs: Sequence[Job]) -> None:
        """Choose and store the cohort widths of the programs of jobs, where they have none."""
        fix_widths(self.store, self.runner, self.sizing, self.training, self.programs, jobs)
