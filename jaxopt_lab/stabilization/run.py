"""The whole job: observe, measure, diagnose, try the cures, recommend, confirm on fresh seeds."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxopt_lab import hyperparameters, optimizers
from jaxopt_lab.errors import MachineError, UserError
from jaxopt_lab.observation import norm_quantile
from jaxopt_lab.runner import Result
from jaxopt_lab.schedules import steps_per_epoch
from jaxopt_lab.stabilization import diagnose, members
from jaxopt_lab.stabilization.compare import Remedy, compare, ranked
from jaxopt_lab.stabilization.diagnosis import Diagnosis
from jaxopt_lab.stabilization.members import BASE, Member
from jaxopt_lab.stabilization.population import Population, Task, curve
from jaxopt_lab.stabilization.summary import Summary, norm_counts, summarize

#: Seeds of each training.
NUM_SEEDS = 4
#: Cures that are confirmed on fresh seeds, the recommended one among them.
NUM_CONFIRMED = 5
#: Best validation loss may be worse by this factor on fresh seeds.
CONFIRMED_LOSS = 1.02
#: Shares of a time limit after which no wave of ladder and cures is started.
SHARES = {"ladder": 0.5, "cures": 0.75}
#: Late loss at a rate of the ladder beyond which that training has failed, times the base's.
_FAILED = 3.0


def stabilize(
    task: Task,
    hparams: Mapping[str, Any],
    *,
    num_epochs: int | None = None,
    num_seeds: int = NUM_SEEDS,
    seed: int = 0,
    time_limit: float | None = None,
    evaluations: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    directory: str | Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Diagnosis:
    """Find out why a configuration's validation loss fluctuates, and how to calm it.

    Args:
      task: a table (`tasks.tabular`) or rows with a network of their own (`tasks.ArrayTask`).
      hparams: the configuration; defaults fill the rest. `early_stopping` is left off here.
      num_epochs: of each training; 600,000 / rows, between 20 and 60, by default.
      num_seeds: seeds of the comparison; as many fresh ones confirm it.
      seed: of everything.
      time_limit: seconds after which no more cures are tried.
      evaluations: per epoch; about 120 in all by default.
      devices: JAX devices; all local ones by default.
      directory: keeps finished trainings, so that the same call goes on after an interruption;
        `Diagnosis.save` into it removes them.
      say: takes one line of text at a time.

    Returns:
      Causes with evidence, cures with intervals, and the fix.

    Raises:
      UserError: for settings that cannot be.
      MachineError: if there was no time for the base.

    Example:
      >>> import jaxopt_lab as lab
      >>> table = lab.datasets.load_table("lucas_houses", target="price")  # doctest: +SKIP
      >>> found = lab.stabilize(lab.tasks.tabular(table), {"learning_rate": 0.1})  # doctest: +SKIP
      >>> found.main_cause  # doctest: +SKIP
      'learning_rate_too_high'
    """
    if num_seeds < 2:
        raise UserError(f"the number of seeds must be at least 2, got {num_seeds}")
    base = hyperparameters.complete(hparams)
    num_rows = int(task.fold_arrays(seed).num_train[0])
    epochs = num_epochs or min(max(round(6e5 / num_rows), 20), 60)
    if epochs < 1:
        raise UserError(f"the number of epochs must be at least 1, got {epochs}")
    population = Population(task, base, epochs, seed, evaluations, devices, directory)
    return _Job(population, num_seeds, time_limit, say).run()


class _Job:
    """One run of `stabilize`: what is known so far."""

    def __init__(
        self,
        population: Population,
        num_seeds: int,
        time_limit: float | None,
        say: Callable[[str], None],
    ) -> None:
        self.population, self.say = population, say
        self.time_limit, self.started = time_limit, time.monotonic()
        self.seeds = list(range(num_seeds))
        self.fresh = list(range(num_seeds, 2 * num_seeds))
        self.results: dict[str, list[Result]] = {}
        self.summaries: dict[str, Summary] = {}
        self.remedies: dict[str, Remedy] = {}
        self.members: dict[str, Member] = {}

    def run(self) -> Diagnosis:
        """All stages."""
        base = self.population.base
        ladder = members.ladder(base)
        self.say(
            f"observing the configuration and {len(ladder) - 1} variants with {len(self.seeds)} "
            f"seeds, {self.population.num_epochs} epochs"
        )
        self._train(ladder, "ladder", probe=True)
        if BASE not in self.results:
            raise MachineError("the time limit struck before the base was trained; give it longer")
        counts = norm_counts(self.results[BASE])
        norms = norm_quantile(counts, 0.5), norm_quantile(counts, 0.9)
        causes = diagnose.verdict(self._evidence())
        calm = causes[0].name == "no_problem"
        if not calm:
            tried = members.cures(base, self.population.num_rows, norms)
            self.say(f"trying {len(tried)} cures")
            self._train(tried, "cures")
            causes = diagnose.verdict(self._evidence())
        chosen, confirmed = (None, {}) if calm else self._confirm(causes[0].name)
        return self._diagnosis(causes, chosen, confirmed)

    def _train(self, wanted: Sequence[Member], stage: str, probe: bool = False) -> None:
        limit = math.inf if self.time_limit is None else self.time_limit * SHARES[stage]

        def go_on(num_waves_left: int) -> bool:
            return time.monotonic() - self.started < limit

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
        good = [r for r in confirmed if r.accepted and r.loss.value <= CONFIRMED_LOSS]
        best = ranked(good, diagnose.CURES_OF[cause])
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
            for other in first
            if not set(own.settings) & set(other.settings)
        ]
        for pair in (*pairs, *aimed):
            self.members[pair.name] = pair
        reached = [m for m, r in zip(first, order, strict=True) if r.reaches_goal]
        picked = [*reached[: NUM_CONFIRMED - 1], *aimed[:2], *pairs[:1], *first]
        return list({m.name: m for m in picked}.values())[: NUM_CONFIRMED + 1]

    def _aimed(self, cause: str) -> list[Member]:
        """The cure of the cause's own families with the best loss, if it is better than the base's:
        a network that was stuck learns, and need not be calmer for it.
        """
        families = diagnose.CURES_OF[cause]
        mine = [r for n, r in self.remedies.items() if self.members[n].is_cure]
        found = [r for r in mine if r.family in families and r.loss.value < 1.0]
        return [self.members[min(found, key=lambda r: r.loss.value).name]] if found else []

    def _diagnosis(
        self, causes: list[diagnose.Cause], chosen: Remedy | None, confirmed: dict[str, Any]
    ) -> Diagnosis:
        population, base = self.population, self.population.base
        missed = self._missed()
        alone = None if missed else population.solo_seconds() * population.num_trained
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
            optax=optimizers.to_optax(fixed, steps, population.num_epochs),
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
                "num_trainings": population.num_trained,
                "num_kept": population.num_kept,
                "seconds": round(time.monotonic() - self.started, 1),
                "compile_seconds": round(population.compile_seconds, 1),
                "one_by_one_seconds": None if alone is None else round(alone, 1),
                "stopped_by_time_limit": missed,
            },
        )

    def _missed(self) -> bool:
        limit = self.time_limit
        return limit is not None and time.monotonic() - self.started > limit * SHARES["cures"]
