"""The stages of one comparison: ladder, cures, and the best of them on fresh seeds."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxopt_lab.core.errors import MachineError
from jaxopt_lab.core.runner import Result
from jaxopt_lab.problems.mlp import optimizers
from jaxopt_lab.problems.mlp.observation import norm_quantile
from jaxopt_lab.problems.mlp.schedules import steps_per_epoch
from jaxopt_lab.stabilization import diagnose, members
from jaxopt_lab.stabilization.compare import HEALTHY, Remedy, compare, mean, overfits, ranked
from jaxopt_lab.stabilization.diagnosis import Diagnosis
from jaxopt_lab.stabilization.length import NUM_CONFIRMED, Length
from jaxopt_lab.stabilization.members import BASE, Member
from jaxopt_lab.stabilization.population import Population, curve
from jaxopt_lab.stabilization.summary import Summary, norm_counts, summarize

#: A cure that takes the best loss to this share frees a network that was stuck.
FREES = 0.75
#: Families that calm whatever the cause.
_CALMING = ("schedule", "average", "pair")
#: Shares of a time limit after which no wave of ladder and cures is started.
SHARES = {"ladder": 0.5, "cures": 0.75}
#: Late loss at a rate of the ladder beyond which that training has failed, times the base's.
_FAILED = 3.0


class Clock(NamedTuple):
    """Of a diagnosis.

    Attributes:
      limit: seconds for everything; None: no limit.
      started: on the monotonic clock.
    """

    limit: float | None
    started: float

    @property
    def seconds(self) -> float:
        """Since it started."""
        return time.monotonic() - self.started

    def passed(self, share: float) -> bool:
        """Whether this share of the limit is over."""
        return self.limit is not None and self.seconds > self.limit * share


class NotShownError(Exception):
    """What the whole trainings show, the shortened ones do not."""


class Stages:
    """One comparison: what is known so far.

    Args:
      population: trains for all of it.
      length: of its trainings.
      clock: of the whole diagnosis.
      say: takes one line of text at a time.
      seen: the base observed over its whole length, where these trainings may be shorter.
    """

    def __init__(
        self,
        population: Population,
        length: Length,
        clock: Clock,
        say: Callable[[str], None],
        seen: Diagnosis | None = None,
    ) -> None:
        self.population, self.clock, self.say, self.seen = population, clock, say, seen
        self.seeds = list(range(length.num_seeds))
        self.fresh = [length.num_seeds + i for i in range(length.num_fresh)]
        self.results: dict[str, list[Result]] = {}
        self.summaries: dict[str, Summary] = {}
        self.remedies: dict[str, Remedy] = {}
        self.members: dict[str, Member] = {}

    def observe(self) -> Diagnosis:
        """Of the base alone."""
        self.say(f"observing the configuration with {len(self.seeds)} seeds, {self._epochs}")
        self._train([Member(BASE, {}, is_cure=False)], "ladder", probe=True)
        self._need_base()
        return self._diagnosis(diagnose.verdict(self._evidence()), None, {})

    def run(self) -> Diagnosis:
        """All stages.

        Raises:
          NotShownError: if shortened trainings do not show what was seen.
        """
        base = self.population.base
        ladder = members.ladder(base)
        self.say(
            f"observing the configuration and {len(ladder) - 1} variants with {len(self.seeds)} "
            f"seeds, {self._epochs}"
        )
        self._train(ladder, "ladder", probe=True)
        self._need_base()
        counts = norm_counts(self.results[BASE])
        norms = norm_quantile(counts, 0.5), norm_quantile(counts, 0.9)
        causes = diagnose.verdict(self._evidence())
        calm = causes[0].name == "no_problem"
        if self.seen and not self._shows(self.seen, calm):
            raise NotShownError
        if not calm or mean(self.summaries[BASE].norm_tail) >= diagnose.STUCK_TAIL:
            rows, epochs = self.population.num_rows, self.population.num_epochs
            tried = members.cures(base, rows, norms, epochs)
            self.say(f"trying {len(tried)} cures")
            self._train(tried, "cures")
            causes = diagnose.verdict(self._evidence())
        main = causes[0].name
        chosen, confirmed = (None, {}) if main == "no_problem" else self._confirm(main)
        return self._diagnosis(causes, chosen, confirmed)

    def _shows(self, seen: Diagnosis, calm: bool) -> bool:
        """Whether trainings that may be shorter have the trouble that was seen."""
        as_long = self.population.num_epochs == seen.setting["num_epochs"]
        if as_long or seen.main_cause == "no_problem":
            return True
        only_rises = mean(seen.before.fluctuation) <= HEALTHY
        return not calm and (not only_rises or overfits(self.summaries[BASE]))

    @property
    def _epochs(self) -> str:
        return f"{self.population.num_epochs} epochs"

    def _need_base(self) -> None:
        if BASE not in self.results:
            raise MachineError("the time limit struck before the base was trained; give it longer")

    def _train(self, wanted: Sequence[Member], stage: str, probe: bool = False) -> None:
        def go_on(num_waves_left: int) -> bool:
            return not self.clock.passed(SHARES[stage])

        found = self.population.train(wanted, self.seeds, probe, go_on)
        for member in wanted:
            if member.name not in found:
                continue
            self.members[member.name] = member
            self.results[member.name] = found[member.name]
            self.summaries[member.name] = summarize(found[member.name])
            if member.name != BASE:
                mine, base = self.summaries[member.name], self.summaries[BASE]
                self.remedies[member.name] = compare(member, mine, base)

    def _evidence(self) -> diagnose.Evidence:
        limit = _FAILED * self.summaries[BASE].final
        failed = [
            factor
            for factor in members.RATE_LADDER
            if f"learning rate ×{factor:g}" in self.summaries
            and factor > 1
            and np.mean(self.summaries[f"learning rate ×{factor:g}"].final > limit) >= 0.5
        ]
        return diagnose.gather(
            self.summaries[BASE],
            self.results[BASE],
            self.remedies,
            failed,
            self.population.evaluations or 1,
        )

    def _confirm(self, cause: str) -> tuple[Remedy | None, dict[str, Any]]:
        """Train the best cures and the base with fresh seeds; the first in rank that holds."""
        mine = [r for n, r in self.remedies.items() if self.members[n].is_cure]
        candidates = self._candidates(ranked(mine, diagnose.CURES_OF[cause]), cause)
        if not candidates:
            return None, {}
        self.say(f"confirming {', '.join(m.name for m in candidates)} on fresh seeds")
        base = Member(BASE, {}, is_cure=False)
        found = self.population.train([base, *candidates], self.fresh)
        before = summarize(found[BASE])
        confirmed = [compare(m, summarize(found[m.name]), before) for m in candidates]
        for remedy in confirmed:
            self.remedies.setdefault(remedy.name, remedy)
        best = ranked(confirmed, diagnose.CURES_OF[cause])
        chosen = best[0] if best else None
        if chosen is None:
            return None, {}
        after = summarize(found[chosen.name])
        return chosen, {
            "before": before,
            "after": after,
            "base_curves": curve(found[BASE], "loss"),
            "fixed_curves": curve(found[chosen.name], "loss"),
        }

    def _candidates(self, order: list[Remedy], cause: str) -> list[Member]:
        """The first in rank, pairs of the best of different families, and what acts on the cause
        together with what calms.
        """
        first = [self.members[r.name] for r in order]
        singles = [m for m in first if m.family != "pair"]
        pairs: list[Member] = []
        for other in singles[1:]:
            known = {m.family for m in (singles[0], other)}
            overlap = set(singles[0].settings) & set(other.settings)
            if len(known) == 2 and not overlap:
                pairs.append(members.combined(singles[0], other))
        aimed = [
            members.combined(own, other)
            for own in self._aimed(cause)
            for other in self._partners(own, first)
            if not set(own.settings) & set(other.settings)
        ]
        for pair in (*pairs, *aimed):
            self.members[pair.name] = pair
        reached = [m for m, r in zip(first, order, strict=True) if r.reaches_goal]
        picked = [*reached[: NUM_CONFIRMED - 2], *aimed[:3], *pairs[:1], *first]
        return list({m.name: m for m in picked}.values())[: NUM_CONFIRMED + 1]

    def _aimed(self, cause: str) -> list[Member]:
        """The cure of the cause's own families with the best loss, if it is better than the base's:
        a network that was stuck learns, and need not be calmer for it.
        """
        families = diagnose.CURES_OF[cause]
        mine = [r for n, r in self.remedies.items() if self.members[n].is_cure]
        found = [r for r in mine if r.family in families and r.loss.value < 1.0]
        return [self.members[min(found, key=lambda r: r.loss.value).name]] if found else []

    def _partners(self, own: Member, accepted: list[Member]) -> list[Member]:
        """What to try together with the cause's own cure: other cures that were accepted. Beside
        one that frees a stuck network any that calms will do: alone it had nothing to lose.
        """
        if self.remedies[own.name].loss.value > FREES:
            return accepted
        calm = [r for r in self.remedies.values() if r.family in _CALMING and r.name != own.name]
        calm.sort(key=lambda r: r.fluctuation.value)
        return [self.members[r.name] for r in calm if self.members[r.name].is_cure]

    def _diagnosis(
        self, causes: list[diagnose.Cause], chosen: Remedy | None, confirmed: dict[str, Any]
    ) -> Diagnosis:
        population, base = self.population, self.population.base
        missed = self.clock.passed(SHARES["cures"])
        alone = None if missed else population.solo_seconds() * population.num_trained
        seen: Mapping[str, Any] = self.seen.setting if self.seen else {}
        if alone is not None:
            alone += seen.get("one_by_one_seconds") or 0.0
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
            setting={
                "num_epochs": population.num_epochs,
                "evaluations": population.evaluations or 1,
                "num_seeds": len(self.seeds),
                "num_rows": population.num_rows,
                "num_valid": population.num_valid,
                "num_trainings": population.num_trained + seen.get("num_trainings", 0),
                "num_kept": population.num_kept + seen.get("num_kept", 0),
                "seconds": round(self.clock.seconds, 1),
                "compile_seconds": round(
                    population.compile_seconds + seen.get("compile_seconds", 0), 1
                ),
                "one_by_one_seconds": None if alone is None else round(alone, 1),
                "stopped_by_time_limit": missed,
                "observed": None if self.seen is None else self.seen.observed,
            },
        )
