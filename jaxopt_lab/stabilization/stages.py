"""The stages of one comparison: ladder, cures, and the best of them on fresh seeds."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from jaxopt_lab.core.results import Result
from jaxopt_lab.problems.mlp import optimizers
from jaxopt_lab.problems.mlp.observation import norm_quantile
from jaxopt_lab.problems.mlp.schedules import steps_per_epoch
from jaxopt_lab.stabilization import diagnose, members, walk
from jaxopt_lab.stabilization.compare import Idle, Remedy, mean, overfits
from jaxopt_lab.stabilization.comparison import SHARES, Clock, Comparison
from jaxopt_lab.stabilization.diagnosis import Diagnosis
from jaxopt_lab.stabilization.gain import is_doubtful, or_pace
from jaxopt_lab.stabilization.length import Length
from jaxopt_lab.stabilization.members import BASE, TARGET, Member
from jaxopt_lab.stabilization.of_rows import OTHER_LOSSES
from jaxopt_lab.stabilization.population import Population
from jaxopt_lab.stabilization.rows import MOST_ROWS
from jaxopt_lab.stabilization.summary import Summary, curve, norm_counts, summarize
from jaxopt_lab.stabilization.thresholds import UNTOLD
from jaxopt_lab.stabilization.weighing import Cause


class NotShownError(Exception):
    """What the whole trainings show, the shortened ones do not."""


class Stages(Comparison):
    """One comparison: what is known so far.

    Args:
      population: trains for all of it.
      length: of its trainings.
      clock: of the whole diagnosis.
      say: takes one line of text at a time.
      seen: the base observed over its whole length, where these trainings may be shorter.
    """

    cures_of = diagnose.CURES_OF

    def __init__(
        self,
        population: Population,
        length: Length,
        clock: Clock,
        say: Callable[[str], None],
        seen: Diagnosis | None = None,
    ) -> None:
        numbers = range(length.num_seeds + length.num_fresh)
        seeds, fresh = numbers[: length.num_seeds], numbers[length.num_seeds :]
        super().__init__(population, seeds, fresh, clock, say)
        self.population, self.seen = population, seen
        self._constant = population.constant_loss()

    def observe(self) -> Diagnosis:
        """Of the base alone."""
        self.say(f"observing the configuration with {len(self.seeds)} seeds, {self._epochs}")
        self.train([Member(BASE, {}, is_cure=False)], "ladder", probe=True)
        self.need_base()
        return self._diagnosis(self._with_rows(self._causes()), None, {})

    def run(self) -> Diagnosis:
        """All stages.

        Raises:
          NotShownError: if shortened trainings do not show what was seen.
        """
        base, rows = self.population.base, self.population.num_rows
        ladder = members.ladder(base, rows, self.population.num_epochs)
        self.say(
            f"observing the configuration and {len(ladder) - 1} variants with {len(self.seeds)} "
            f"seeds, {self._epochs}"
        )
        self.train(ladder, "ladder", probe=True)
        if self.seen and BASE not in self.results:
            self.say("the time limit leaves what the configuration shows by itself")
            setting = {**self.seen.setting, "stopped_by_time_limit": True}
            return replace(self.seen, setting=setting)
        self.need_base()
        counts = norm_counts(self.results[BASE])
        norms = norm_quantile(counts, 0.5), norm_quantile(counts, 0.9)
        causes = self._with_batches(self._with_rows(self._causes()))
        calm = causes[0].name == "no_problem"
        if self.seen and not self._shows(self.seen, calm):
            raise NotShownError
        if not calm or mean(self.summaries[BASE].norm_tail) >= diagnose.STUCK_TAIL:
            tried = members.cures(base, rows, norms)
            if causes[0].name == "learns_nothing":
                tried += members.much_higher(base["learning_rate"])
            self.say(f"trying {len(tried)} cures")
            steps = self._walked([*self.members.values(), *tried])
            self.train(self._untried([*tried, *walk.missing(steps)]), "cures")
            self.train(self._untried(self.population.rows.members), "cures")
            self.tried_cures = True
            causes = or_pace(self.undo_two(self._causes()), self._evidence())
        main = causes[0].name
        chosen, confirmed = (None, {}) if main == "no_problem" else self.confirm(main)
        return self._diagnosis(causes, chosen, confirmed)

    def _with_rows(self, causes: list[Cause]) -> list[Cause]:
        """Of a calm curve, whether it is so because of its rows."""
        tried = self.population.rows.members
        if causes[0].name != "no_problem" or not tried:
            return causes
        self.train(self._untried(tried), "cures")
        return self._causes()

    def _with_batches(self, causes: list[Cause]) -> list[Cause]:
        """Of a calm curve of tiny batches, whether larger ones are calmer still at no loss."""
        if causes[0].name != "no_problem" or not is_doubtful(self._evidence()):
            return causes
        tried = members.batches(self.population.base, self.population.num_rows)
        self.train(self._untried(tried), "cures")
        return self._causes()

    def _untried(self, wanted: Sequence[Member]) -> list[Member]:
        return [member for member in wanted if member.name not in self.members]

    def _walked(self, known: Iterable[Member]) -> list[walk.Walked]:
        """The usual walk from the base, by variants that are known."""
        start = walk.of_table(self.population.base, self.population.num_rows)
        return walk.walked(walk.steps(start), known)

    def _rows_wanted(self) -> int:
        """Validation rows whose own noise would be half of what is calm, and that tell the loss."""
        floor = mean(self.summaries[BASE].noise_floor)
        times = max(2 * floor / self.healthy, self._evidence().rows_tell / UNTOLD)
        return math.ceil(self.population.num_valid * times**2 / 10) * 10

    def _shows(self, seen: Diagnosis, calm: bool) -> bool:
        """Whether trainings that may be shorter have the trouble that was seen."""
        as_long = self.population.num_epochs == seen.setting["num_epochs"]
        if as_long or seen.main_cause == "no_problem":
            return True
        only_rises = mean(seen.before.fluctuation) <= seen.evidence.calm_limit
        return not calm and (not only_rises or overfits(self.summaries[BASE]))

    @property
    def _epochs(self) -> str:
        return f"{self.population.num_epochs} epochs"

    @property
    def idle(self) -> Idle | None:
        """A constant prediction."""
        if self._constant is None:
            return None
        return Idle(self._constant, "a constant prediction")

    def constants(self, member: Member) -> tuple[float, float] | None:
        """Of rows without outliers, and of a log scale of the target."""
        if not member.split or self._constant is None:
            return None
        if self.population.rows.members[member.split - 1].family not in OTHER_LOSSES:
            return None
        mine = self.population.constant_loss(member.split)
        return (mine, self._constant) if mine and self._constant > 0 else None

    def summarize(self, results: Sequence[Result]) -> Summary:
        """With what validation rows tell."""
        return summarize(results)

    def curves(self, results: Sequence[Result]) -> np.ndarray:
        """The validation loss."""
        return curve(results, "loss")

    def _evidence(self) -> diagnose.Evidence:
        on_logs = (m.name for m in self.population.rows.members if m.family == TARGET)
        return diagnose.gather(
            self.summaries[BASE],
            self.results[BASE],
            self.remedies,
            self.failed(),
            self.population.evaluations or 1,
            self.population.rows.faults,
            self.limits,
            self.undone,
            self.population.num_valid,
            self.summaries.get(next(on_logs, "")),
            self._constant,
        )

    def _causes(self) -> list[Cause]:
        """The verdict by what is known so far."""
        rows = self.population.outliers
        found = diagnose.verdict(self._evidence())
        return [c._replace(rows=rows[:MOST_ROWS]) if c.name == "outliers" else c for c in found]

    def _rejected(self, causes: list[Cause]) -> tuple[Cause, ...]:
        """The causes that do not hold; none of a calm curve, of which none was sought."""
        if causes[0].name == "no_problem":
            return ()
        held = {cause.name for cause in causes}
        return tuple(c for c in diagnose.weighed(self._evidence()) if c.name not in held)

    def _diagnosis(
        self, causes: list[Cause], chosen: Remedy | None, confirmed: dict[str, Any]
    ) -> Diagnosis:
        population, base = self.population, self.population.base
        missed = self.clock.passed(SHARES["cures"])
        seen: Mapping[str, Any] = self.seen.setting if self.seen else {}
        settings = dict(chosen.settings) if chosen else {}
        fixed = {**base, **settings}
        steps = steps_per_epoch(population.num_rows, fixed["batch_size"])
        return Diagnosis(
            causes=causes,
            evidence=self._evidence(),
            base=dict(base),
            summaries=self.summaries,
            members=self.members,
            remedies=self.remedies,
            chosen=chosen,
            before=confirmed.get("before", self.summaries[BASE]),
            after=confirmed.get("after"),
            optax=optimizers.to_optax(fixed, steps, seen.get("num_epochs", population.num_epochs)),
            curves={
                "base": curve(self.results[BASE], "loss"),
                "base_train": curve(self.results[BASE], "train_loss"),
                "fresh_base": confirmed.get("base_curves", np.zeros((0, 0))),
                "fixed": confirmed.get("fixed_curves", np.zeros((0, 0))),
            },
            norm_counts=norm_counts(self.results[BASE]),
            walked=tuple(self._walked(self.members.values())),
            rejected=self._rejected(causes),
            setting={
                "num_epochs": population.num_epochs,
                "evaluations": population.evaluations or 1,
                "num_seeds": len(self.seeds),
                "num_rows": population.num_rows,
                "num_valid": population.num_valid,
                "valid_rows_wanted": self._rows_wanted(),
                "num_trainings": population.num_trained + seen.get("num_trainings", 0),
                "num_kept": population.num_kept + seen.get("num_kept", 0),
                "seconds": round(self.clock.seconds, 1),
                "compile_seconds": round(
                    population.compile_seconds + seen.get("compile_seconds", 0), 1
                ),
                "train_seconds": round(population.seconds + seen.get("train_seconds", 0), 1),
                "stopped_by_time_limit": missed,
                "idle_loss": self._constant,
                "observed": None if self.seen is None else self.seen.observed,
            },
        )
