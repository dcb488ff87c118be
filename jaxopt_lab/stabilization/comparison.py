"""Variants against the base: what is known so far, and the best of them on fresh seeds."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from jaxopt_lab.core.errors import MachineError
from jaxopt_lab.core.results import Result
from jaxopt_lab.stabilization import members, two_causes
from jaxopt_lab.stabilization.compare import Idle, Remedy, compare, ranked
from jaxopt_lab.stabilization.gain import calm_limit, gain_limit
from jaxopt_lab.stabilization.members import BASE, Member
from jaxopt_lab.stabilization.side_by_side import SideBySide
from jaxopt_lab.stabilization.summary import Summary
from jaxopt_lab.stabilization.thresholds import FREES
from jaxopt_lab.stabilization.weighing import Cause

#: Cures that are confirmed on fresh seeds, the recommended one among them.
NUM_CONFIRMED = 5
#: A comparison, or a confirmation, has so many seeds at least.
FEWEST_FRESH = 2
#: When a wave is asked for, one may be running still: both have to fit.
_IN_FLIGHT = 2
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

    def passed(self, share: float, ahead: float = 0.0) -> bool:
        """Whether this share of the limit is over, or will be in so many seconds."""
        return self.limit is not None and self.seconds + ahead > self.limit * share


class Comparison(ABC):
    """What is known of a base and its variants.

    Args:
      trainer: trains all of it.
      seeds: numbers of the seeds of the comparison.
      fresh: numbers of those that confirm.
      clock: of the whole diagnosis.
      say: takes one line of text at a time.
    """

    #: Cause -> families of cures that act on it.
    cures_of: ClassVar[Mapping[str, tuple[str, ...]]]

    def __init__(
        self,
        trainer: SideBySide,
        seeds: Sequence[int],
        fresh: Sequence[int],
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        self.trainer, self.clock, self.say = trainer, clock, say
        self.seeds, self.fresh = list(seeds), list(fresh)
        self.results: dict[str, list[Result]] = {}
        self.summaries: dict[str, Summary] = {}
        self.remedies: dict[str, Remedy] = {}
        self.members: dict[str, Member] = {}
        self.tried_cures = False

    @abstractmethod
    def summarize(self, results: Sequence[Result]) -> Summary:
        """What one variant's trainings come to."""

    @abstractmethod
    def curves(self, results: Sequence[Result]) -> np.ndarray:
        """[s, t], as they are shown."""

    @property
    def idle(self) -> Idle | None:
        """What learning nothing comes to; None where nobody knows."""
        return None

    @property
    def unlearned(self) -> float | None:
        """Loss that what training gains counts from; None where nobody knows."""
        return None if self.idle is None else self.idle.loss

    @property
    def healthy(self) -> float:
        """Fluctuation up to which a curve is calm."""
        return self.limits[0]

    @property
    def limits(self) -> tuple[float, float]:
        """Fluctuation up to which a curve is calm, and up to which it is small beside what training
        gains, by the lowest loss that a member reaches on the base's rows.
        """
        found = [s for n, s in self.summaries.items() if self.members[n].comparable]
        best = min((float(np.mean(summary.best)) for summary in found), default=0.0)
        return calm_limit(best, self.unlearned), gain_limit(best, self.unlearned)

    @property
    def undone(self) -> float:
        """Base fluctuation over that with the cure that does its job best, 1 where none does; NaN
        before cures were tried.
        """
        if not self.tried_cures:
            return math.nan
        cures = [r for n, r in self.remedies.items() if self.members[n].is_cure]
        found = [r.fluctuation.value for r in cures if r.accepted and r.reaches_goal]
        return 1.0 / max(min(found, default=1.0), 1e-6)

    def learn(self, found: Mapping[str, list[Result]]) -> None:
        """Take note of trainings before they are summarised; here there is nothing to note."""
        del found

    def need_base(self) -> None:
        """The base must have been trained.

        Raises:
          MachineError: if there was no time.
        """
        if BASE not in self.results:
            raise MachineError("the time limit struck before the base was trained; give it longer")

    def train(self, wanted: Sequence[Member], stage: str, probe: bool = False) -> None:
        """Train members on the seeds of the comparison, as long as there is time; on fewer of them,
        at least `FEWEST_FRESH`, where the ladder takes longer than its share.
        """

        def go_on(num_waves_left: int) -> bool:
            return not self.clock.passed(SHARES[stage], _IN_FLIGHT * self.trainer.wave_seconds)

        found = self.trainer.train(wanted, self.seeds, probe, go_on, least=FEWEST_FRESH)
        if stage == "ladder" and BASE in found:
            # Seeds that there was no time for.
            self.seeds = self.seeds[: len(found[BASE])]
        found = {name: mine for name, mine in found.items() if len(mine) == len(self.seeds)}
        self.learn(found)
        for member in wanted:
            if member.name in found:
                self.members[member.name] = member
                self.results[member.name] = found[member.name]
        self.judge(list(found))

    def judge(self, names: Sequence[str]) -> None:
        """Summarise these members, and compare them with the base."""
        for name in names:
            self.summaries[name] = self.summarize(self.results[name])
        for name in names:
            if name != BASE and BASE in self.summaries:
                member, mine = self.members[name], self.summaries[name]
                self.remedies[name] = self.compared(member, mine, self.summaries[BASE])
        # A member that learned more changes what all others are held against.
        self.remedies = {n: r._replace(calm=self.healthy) for n, r in self.remedies.items()}

    def compared(self, member: Member, found: Summary, base: Summary) -> Remedy:
        """A variant against the base with the same seeds."""
        constants = self.constants(member)
        return compare(member, found, base, self.idle, self.healthy, constants)

    def constants(self, member: Member) -> tuple[float, float] | None:
        """Losses of constant predictions that those of a variant and of the base are shares of,
        where nothing else compares them; None where nobody knows.
        """
        del member
        return None

    def undo_two(self, causes: list[Cause]) -> list[Cause]:
        """Where no single cause was found, two that hide each other, if there are such.

        Args:
          causes: after every cure was tried.
        """
        if causes[0].name not in ("no_single_cause", "learns_nothing"):
            return causes
        tried = two_causes.pairs(self.members)
        if not tried:
            return causes
        self.say(f"no single cause: undoing two at once, in {len(tried)} ways")
        self.train([pair.both for pair in tried], "cures")
        return two_causes.found(tried, self.remedies) or causes

    def failed(self) -> list[float]:
        """Factors of the ladder of rates, above 1, at which training fails."""
        limit = _FAILED * self.summaries[BASE].final
        return [
            factor
            for factor in members.RATE_LADDER
            if f"learning rate ×{factor:g}" in self.summaries
            and factor > 1
            and np.mean(self.summaries[f"learning rate ×{factor:g}"].final > limit) >= 0.5
        ]

    def confirm(self, cause: str) -> tuple[Remedy | None, dict[str, Any]]:
        """Train the best cures and the base with fresh seeds; the first in rank that holds."""
        own = self.cures_of[cause]
        mine = [
            r
            for n, r in self.remedies.items()
            # Other rows are the answer only where the rows are the cause, a higher rate only where
            # nothing is learned.
            if (self.members[n].is_cure or (cause == "learns_nothing" and r.family in own))
            and (not self.members[n].split or r.family in own)
        ]
        candidates = self._candidates(ranked(mine, self.cures_of[cause]), cause)
        if not candidates:
            return None, {}
        self.say(f"confirming {', '.join(m.name for m in candidates)} on fresh seeds")
        found = self._confirming([Member(BASE, {}, is_cure=False), *candidates])
        if BASE not in found:
            self.say("the time limit leaves nothing confirmed")
            return None, {}
        candidates = [m for m in candidates if m.name in found]
        self.learn(found)
        before = self.summarize(found[BASE])
        confirmed = [self.compared(m, self.summarize(found[m.name]), before) for m in candidates]
        for remedy in confirmed:
            self.remedies.setdefault(remedy.name, remedy)
        best = ranked(confirmed, self.cures_of[cause])
        chosen = best[0] if best else None
        if chosen is None:
            return None, {}
        after = self.summarize(found[chosen.name])
        return chosen, {
            "before": before,
            "after": after,
            "base_curves": self.curves(found[BASE]),
            "fixed_curves": self.curves(found[chosen.name]),
        }

    def _confirming(self, wanted: Sequence[Member]) -> dict[str, list[Result]]:
        """Train on the fresh seeds; with a time limit on as many of them as it leaves time for, at
        least `FEWEST_FRESH`, all members on each.
        """
        if self.clock.limit is None:
            return self.trainer.train(wanted, self.fresh)
        found: dict[str, list[Result]] = {}
        step = max(FEWEST_FRESH, len(self.trainer.runner.devices))
        for first in range(0, len(self.fresh), step):
            before = self.clock.seconds
            more = self.trainer.train(
                wanted,
                self.fresh[first : first + step],
                go_on=lambda _: not self.clock.passed(1.0, _IN_FLIGHT * self.trainer.wave_seconds),
            )
            if len(more) < len(wanted):
                break
            for name, results in more.items():
                found.setdefault(name, []).extend(results)
            if 2 * self.clock.seconds - before > self.clock.limit:
                break
        return found

    def _candidates(self, order: list[Remedy], cause: str) -> list[Member]:
        """The first in rank, pairs of the best of different families, and what acts on the cause
        together with what calms.
        """
        first = [self.members[r.name] for r in order]
        singles = [m for m in first if m.family != "pair"]
        pairs: list[Member] = []
        for other in singles[1:]:
            known = {m.family for m in (singles[0], other)}
            if len(known) == 2 and _go_together(singles[0], other):
                pairs.append(members.combined(singles[0], other))
        aimed = [
            members.combined(own, other)
            for own in self._aimed(cause)
            for other in self._partners(own, first)
            if _go_together(own, other)
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
        families = self.cures_of[cause]
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


def _go_together(first: Member, second: Member) -> bool:
    """Whether two cures change different things."""
    return not set(first.settings) & set(second.settings) and not (first.split and second.split)
