"""What `stabilize` finds for a problem of any kind."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxopt_lab.stabilization.compare import mean
from jaxopt_lab.stabilization.diagnosis import SENTENCES, Diagnosis
from jaxopt_lab.stabilization.gain import is_calm
from jaxopt_lab.stabilization.thresholds import GOAL_RATIO, RISES, THRESHOLDS, UNTOLD

_SENTENCES = {
    **SENTENCES,
    "exploding_gradients": "single updates are too large, which clipping cures",
    "warm_up_missing": "the first updates are too large, which warm-up cures",
    "overfitting": "it overfits",
}


@dataclass(frozen=True, eq=False, repr=False)
class GeneralDiagnosis(Diagnosis):
    """A diagnosis by curves: causes, cures and the fix.

    There is no code for Optax and no histogram of gradient norms: nobody knows what a problem's
    functions are made of.

    Attributes:
      notes: what was left out and why, a line each.
    """

    notes: tuple[str, ...] = ()
    _words: ClassVar[Mapping[str, str]] = _SENTENCES

    @property
    def sentence(self) -> str:
        """What a colleague would say."""
        metric, found = self.setting["curve"], self.evidence
        by = self._off(found.fluctuation)
        if self.main_cause == "no_problem":
            if self._is_pace:
                return f"Nothing is wrong: {metric} {self._of_pace()}."
            if self.better is not None:
                told = self._not_the_best(self.better) + self._rows_tell()
                return f"{metric} is calm ({by}), {told}."
            told = self._rows_tell() + self._higher_rate_learns()
            return f"Nothing is wrong: {metric} is calm ({by}){told}."
        rises = self.main_cause == "overfitting"
        where = f"{metric} {self._spikes or f'fluctuates ({by})'}"
        if rises:
            where = f"{metric} ends worse than it was ({found.overfit_rise - 1:.0%})"
        elif self.main_cause == "learns_nothing":
            where = f"{metric} is calm ({by})" if is_calm(found) else where
            where += ", but no better than without learning" + self._higher_rate_learns()
        elif is_calm(found):
            where = f"{metric} is calm, but worse than it need be,"
            costs = found.shaking_costs >= THRESHOLDS["decay_gain"]
            if self.main_cause == "small_batch_noise" and not costs:
                where = f"{metric} is calm ({by}), but shakes more than need be,"
            if self.main_cause == "evaluation_noise" and self.rows_tell >= UNTOLD:
                where = f"{metric} is calm, but known to ±{self.rows_tell:.0%} only,"
        if self.main_cause == "learns_nothing":
            text = where
        elif self.main_cause == "no_single_cause":
            text = f"{where}; no single cause was found"
        else:
            said = " and ".join(self._because(cause) for cause in self.causes[:2])
            text = f"{where} because {said}"
        if self.chosen is None:
            accepted = [
                n for n, r in self.remedies.items() if r.accepted and self.members[n].is_cure
            ]
            if accepted:
                return f"{text}; {accepted[0]} helped, but nothing held on fresh seeds."
            if self.main_cause == "learns_nothing":
                return f"{text}; nothing that was tried learns more."
            return f"{text}; no cure that was tried helps without harm."
        before, after = mean(self.before.fluctuation), self.chosen.after
        what = f"the fluctuation falls from {before:.1%} to {after:.1%}"
        if after >= before:
            what = f"the curve {self.chosen.why}"
        change = self.chosen.loss.value - 1
        level = "the same" if abs(change) < 0.005 else f"{abs(change):.1%} "
        level += "" if abs(change) < 0.005 else ("better" if change < 0 else "worse")
        told = f", and the level is {level}"
        member = self.members.get(self.chosen.name)
        if member is not None and not member.comparable:
            told = f"; {self.chosen.shares}" if self.chosen.shares not in what else ""
            told = told if self.chosen.shares else "; its loss is of other rows or units"
        verb = "Train" if self.chosen.name.startswith("without") else "Use"
        return (
            f"{text}. {verb} {self.chosen.name}: on fresh seeds {what}{told}{self._rises_then()}"
            f"{self._falls_short()}."
        )

    @property
    def rows_tell(self) -> float:
        """Of the validation loss, where that is what is judged."""
        return self.evidence.rows_tell if self.setting["curve"] == "loss" else math.nan

    def _off(self, fluctuation: float) -> str:
        if self.setting["relative"]:
            return f"{fluctuation:.1%} off its trend"
        return f"off its trend by {fluctuation:.1%} of what training gains"

    def to_dict(self) -> dict[str, Any]:
        """The content of `diagnosis.json`; what only rows and gradients could tell is None."""
        content = self.common()
        content["fluctuation"]["noise_floor"] = None
        content["recommended"]["goal"] = (
            f"fluctuation divided by {GOAL_RATIO:g}, or below {self.calm_limit:.3g}; where it "
            f"overfits, an end less than {RISES - 1:.0%} above the lowest point"
        )
        return {
            **content,
            "notes": list(self.notes),
            "optax": None,
            "averaging": None,
            "gradient_norms": None,
        }
