"""What learning curves say that scores do not: too long, too short, overfitting, a wrong rate."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxopt_lab.analysis.boundaries import DIVERGES, Finding
from jaxopt_lab.analysis.learned import Learned
from jaxopt_lab.core.synonyms import synonym
from jaxopt_lab.spaces.values import number_in
from jaxopt_lab.stabilization.logged.causes import STILL_GAINS
from jaxopt_lab.stabilization.logged.measures import FEWEST, Measures, measure_run
from jaxopt_lab.stabilization.logged.runs import LoggedRun, Series
from jaxopt_lab.stabilization.scale import scale_of
from jaxopt_lab.stabilization.thresholds import HARMLESS, RISES, STILL_FALLS

Kind = Literal["too long", "too short", "overfitting", "training loss rises", "edge of divergence"]
#: Runs are too long if they are always near their best in this first part, and may be too
#: short if their best unit is in this last part.
FIRST, LAST = 0.1, 0.25
#: "Always" is this share of the best trials.
MOST = 0.75
#: Fewer trials say nothing about the others.
FEWEST_TRIALS = 3
#: A rate is at the edge if trials diverge within this factor above it.
NEAR = 3.0


class CurveFinding(NamedTuple):
    """A finding in words.

    Attributes:
      kind: what was found.
      text: a sentence with the number that says so, and what to do.
    """

    kind: Kind
    text: str


class _Read(NamedTuple):
    """A trial and the numbers of its curve."""

    trial: Learned
    found: Measures

    @property
    def num_units(self) -> int:
        """Units that it trained."""
        return len(self.trial.objective)

    @property
    def best_unit(self) -> int:
        """From 1; where its objective is best."""
        return int(np.nanargmin(self.trial.objective)) + 1

    @property
    def costs(self) -> np.ndarray:
        """[units] the objective above 0: itself, or in units of what training gained."""
        values = self.trial.objective[None]
        return scale_of(values, [values], 1).costs(values)[0]

    @property
    def settled_unit(self) -> int:
        """From 1; the first that is nearly as good as the best, which noise may have put late."""
        costs = self.costs
        return int(np.argmax(costs <= HARMLESS * np.nanmin(costs))) + 1

    @property
    def overfits(self) -> bool:
        """Whether validation ends above its lowest point while the training loss still falls."""
        found = self.found
        high = max(RISES, 1.0 + found.fluctuation)
        return found.end_over_lowest >= high and found.train_fall >= STILL_FALLS

    @property
    def train_rises(self) -> bool:
        """Whether the training loss ends above its lowest point."""
        high = max(RISES, 1.0 + _known(self.found.train_fluctuation))
        return self.found.train_rises >= high

    @property
    def still_gains(self) -> bool:
        """Whether the objective still improves at the end, and more than it fluctuates."""
        high = max(STILL_GAINS, 1.0 + 2.0 * self.found.fluctuation)
        return self.found.still_gains >= high and self.last_gain >= high

    @property
    def last_gain(self) -> float:
        """The objective before the last quarter over that at the end, medians of a tenth each.

        A trend bends less than the curve of a rate that decays, and alone would see a gain there.
        """
        costs = self.costs
        tenth = max(self.num_units // 10, 1)
        end = self.num_units - self.num_units // 4
        before = np.median(costs[end - tenth : end])
        return float(before / np.median(costs[-tenth:]))


def readable(trials: Sequence[Learned]) -> list[Learned]:
    """Those whose curves are long enough to be judged, and finite at their end."""
    return [
        t for t in trials if len(t.objective) >= FEWEST and np.isfinite(t.objective[-FEWEST:]).all()
    ]


def curve_findings(trials: Sequence[Learned], unit: str = "epoch") -> list[CurveFinding]:
    """Read the curves of all trials, the best above all.

    The numbers and their thresholds are those of a diagnosis of logged curves, so that both say
    the same of one run. What the best quarter of the trials shows (at least three) counts, since
    a bad trial may do anything; how many of the others do the same is said. Overfitting explains
    an early best unit, and is then all that is said.

    Args:
      trials: best first, as `learned` has them. Curves of fewer than 16 units are not read.
      unit: what a unit is called.

    Returns:
      Findings; none with fewer than three curves.

    Source: Deep Learning Tuning Playbook (google-research/tuning_playbook): best step always in
    the first 10 % (far too long) or consistently in the last 25 % (train longer); training curves
    of all trials.
    """
    read = [_Read(trial, _measured(trial)) for trial in readable(trials)]
    if len(read) < FEWEST_TRIALS:
        return []
    best = read[: max(FEWEST_TRIALS, math.ceil(min(len(read) / 4, 2 * math.sqrt(len(read)))))]
    overfit = _overfitting(read, best, unit)
    found = [overfit] if overfit else [_too_long(best, unit)]
    found += [_too_short(best, unit), _training_rises(read, best)]
    return [finding for finding in found if finding is not None]


def rate_finding(
    name_of_rate: str | None,
    configs: Sequence[Mapping[str, Any]],
    scores: Any,
    infeasible: Any,
    known: Sequence[Finding] = (),
) -> list[CurveFinding]:
    """Whether the best trial's learning rate is at the edge of divergence.

    Args:
      name_of_rate: the hyperparameter; None if there is none.
      configs: n configurations of trials that finished or diverged.
      scores: n numbers, lower is better; NaN or None where unknown.
      infeasible: n booleans.
      known: what is said of the ranges; the same is not said twice.

    Returns:
      One finding or none.
    """
    if any(f.name == name_of_rate and f.side == "high" for f in known):
        return []
    diverged = np.array(infeasible, bool).reshape(-1)
    values = np.array([math.nan if s is None else s for s in scores], np.float64)
    rates = np.array([number_in(config, name_of_rate) for config in configs], np.float64)
    usable = np.isfinite(rates) & (rates > 0)
    scored = usable & np.isfinite(values) & ~diverged
    if not scored.any():
        return []
    best = rates[np.argmin(np.where(scored, values, np.inf))]
    above = usable & (rates > best) & (rates <= NEAR * best)
    lost = int((above & diverged).sum())
    if lost < 2 or lost < DIVERGES * above.sum():
        return []
    text = (
        f"{name_of_rate}: the best trial has {best:.3g}, and {lost} of the {above.sum()} trials "
        f"between that and {NEAR:g} times as much diverged, so with other seeds or data it may "
        f"diverge too. Prefer a good trial at {best / NEAR:.2g} or below, or add warm-up or "
        "clipping."
    )
    return [CurveFinding("edge of divergence", text)]


def rate_in(names: Sequence[str]) -> str | None:
    """The name of the learning rate among hyperparameters, by what libraries call it."""
    return synonym("learning_rate", names) or ("rate" if "rate" in names else None)


def _measured(trial: Learned) -> Measures:
    at = np.arange(1.0, len(trial.objective) + 1)
    series = {"loss": Series(at, trial.objective)}
    if len(trial.train) == len(at) and np.isfinite(trial.train).all():
        series["train_loss"] = Series(at, trial.train)
    with np.errstate(all="ignore"):  # losses near the largest number
        return measure_run(LoggedRun("", series, {}, "unit"))


def _overfitting(read: list[_Read], best: list[_Read], unit: str) -> CurveFinding | None:
    mine = [r for r in best if r.overfits]
    if len(mine) < MOST * len(best):
        return None
    everyone = sum(r.overfits for r in read)
    rise = float(np.median([r.found.end_over_lowest for r in mine])) - 1.0
    when = round(float(np.median([r.best_unit for r in mine])))
    whose = "all trials" if everyone == len(read) else f"{everyone} of {len(read)} trials"
    advice = f"Regularise more (dropout, weight decay), or train about {when} {unit}s."
    if all(r.trial.keeps_best for r in mine):
        advice = (
            f"The {unit} with the lowest counts, so this end does no harm; more regularisation "
            "(dropout, weight decay) may gain."
        )
    text = (
        f"Overfitting in {whose}, {len(mine)} of the {len(best)} best among them: these end "
        f"{rise:.0%} above their lowest point, which is at {unit} {when} of {mine[0].num_units}, "
        f"while the training loss falls on. {advice}"
    )
    return CurveFinding("overfitting", text)


def _too_long(best: list[_Read], unit: str) -> CurveFinding | None:
    mine = [r for r in best if r.settled_unit <= max(1, FIRST * r.num_units)]
    if len(mine) < MOST * len(best):
        return None
    when = round(float(np.median([r.settled_unit for r in mine])))
    total = mine[0].num_units
    text = (
        f"Runs are too long: {len(mine)} of the {len(best)} best trials are within "
        f"{HARMLESS - 1:.0%} of their best at {unit} {when} of {total} (median). Train some "
        f"{min(max(3 * when, 2), total)} {unit}s, and spend the rest on more trials."
    )
    return CurveFinding("too long", text)


def _too_short(best: list[_Read], unit: str) -> CurveFinding | None:
    mine = [r for r in best if r.best_unit > (1 - LAST) * r.num_units and r.still_gains]
    if len(mine) < MOST * len(best):
        return None
    fall = 1.0 - 1.0 / float(np.median([r.last_gain for r in mine]))
    total = mine[0].num_units
    text = (
        f"Runs are too short: {len(mine)} of the {len(best)} best trials are best in the last "
        f"quarter of their {total} {unit}s and still gain {fall:.0%} in it. Train longer, "
        f"{2 * total} {unit}s say, with the decay of the rate tuned anew."
    )
    return CurveFinding("too short", text)


def _training_rises(read: list[_Read], best: list[_Read]) -> CurveFinding | None:
    rising = [r for r in read if r.train_rises]
    among = sum(r.train_rises for r in best)
    if not among and 2 * len(rising) < len(read):
        return None
    rise = float(np.median([r.found.train_rises for r in rising])) - 1.0
    text = (
        f"The training loss rises in {len(rising)} of {len(read)} trials, {among} of the "
        f"{len(best)} best among them: it ends {rise:.0%} above its lowest point. Lower the "
        "learning rate; where that does not help, look for a mistake in the data or the loss."
    )
    return CurveFinding("training loss rises", text)


def _known(value: float) -> float:
    return 0.0 if math.isnan(value) else value
