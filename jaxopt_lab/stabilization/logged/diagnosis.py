"""What `diagnose_curves` finds: a sentence per run, evidence, and what to measure next."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pandas as pd

from jaxopt_lab.stabilization.logged.causes import Check, Finding
from jaxopt_lab.stabilization.logged.measures import Measures
from jaxopt_lab.stabilization.logged.runs import LoggedRun

SCHEMA = 1
KIND = "curves"
_COUNTS = ("spikes", "values", "not_finite_at")


@dataclass(frozen=True, eq=False)
class RunDiagnosis:
    """One run.

    Attributes:
      run: as logged.
      measures: its numbers.
      causes: what holds, the verdict first; never empty.
      rejected: the others.
      next_steps: what to measure next, a line each.
    """

    run: LoggedRun
    measures: Measures
    causes: tuple[Finding, ...]
    rejected: tuple[Finding, ...]
    next_steps: tuple[str, ...]

    @property
    def verdict(self) -> Finding:
        """The first cause."""
        return self.causes[0]

    @property
    def sentence(self) -> str:
        """What a colleague would say who has seen nothing but the curves."""
        more = [_ALSO[f.name] for f in self.causes[1:] if f.name in _ALSO]
        text = self._of_verdict()
        return f"{text}; {' and '.join(more)}." if more else f"{text}."

    def _of_verdict(self) -> str:
        found, name = self.measures, self.run.columns[self.run.main]
        unit, kind = self.run.unit, self.verdict.name
        off = f"{found.fluctuation:.1%} off its trend"
        if not found.relative:
            off = f"off its trend by {found.fluctuation:.1%} of what training gained"
        if found.spikes:
            number = len(found.spikes)
            off += f", with {number} spike{'s' if number > 1 else ''}"
        after = sum(bool(spike.preceded) for spike in found.spikes)
        rise = f"ends {found.end_over_lowest - 1:.0%} above its lowest point, {unit} "
        rise += f"{found.lowest_at:g}"
        seen = rise if self._rises else f"stands {off}"
        both = ", and so does the training loss" if self.run.main == "loss" else ""
        return {
            "too_short": f"{name} has {found.num_values} values, too few to judge",
            "diverged": f"The training diverges: {name} {rise}{both}"
            if math.isnan(found.not_finite_at)
            else f"The training diverged: a loss is not finite from {unit} {found.not_finite_at:g}",
            "stuck": f"{name} is no better than a constant prediction: nothing was learned",
            "never_fell": f"{name} never fell: it ends where it began",
            "overfitting": f"It overfits: {name} {rise}, while the training loss falls",
            "not_trained_enough": f"It is not trained to its end: {name} still fell by "
            f"{1 - 1 / found.still_gains:.0%} in the last quarter",
            "exploding_gradients": f"{name} stands {off}, most likely because of single large "
            f"gradients: {after} of {len(found.spikes)} spikes follow one",
            "rate_never_decays": f"{name} stands {off}, and the learning rate never decays, "
            "which is the first thing to try",
            "no_single_cause": f"{name} {seen}, and curves alone do not say why",
            "no_problem": f"Nothing is wrong that curves could show: {name} is calm "
            f"({off}) and ends within {found.end_over_lowest - 1:.1%} of its lowest",
        }[kind]

    @property
    def _rises(self) -> bool:
        return self.verdict.checks[0].name == "overfit_rise"

    def row(self) -> dict[str, Any]:
        """Of `CurvesDiagnosis.table`."""
        found = self.measures
        return {
            "run": self.run.name,
            "verdict": self.verdict.name,
            "confidence": self.verdict.confidence,
            "values": found.num_values,
            "fluctuation": found.fluctuation,
            "spikes": len(found.spikes),
            "end_over_lowest": found.end_over_lowest,
            "lowest": found.lowest,
            "lowest_at": found.lowest_at,
            "rate": found.rate,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values; None where the log does not tell."""
        numbers = self.measures._asdict()
        numbers["spikes"] = [spike._asdict() for spike in self.measures.spikes]
        return {
            "name": self.run.name,
            "sentence": self.sentence,
            "causes": [_finding(f) for f in self.causes],
            "rejected": [{**_finding(f), "why": why_not(f)} for f in self.rejected],
            "next": list(self.next_steps),
            "measures": {k: _plain(v) for k, v in numbers.items()},
            "columns": dict(self.run.columns),
            "unit": self.run.unit,
            "notes": list(self.run.notes),
        }


_ALSO = {
    "overfitting": "it overfits as well",
    "rate_never_decays": "the learning rate never decays",
    "not_trained_enough": "it is not trained to its end",
    "exploding_gradients": "its spikes follow large gradients",
}


@dataclass(frozen=True, eq=False, repr=False)
class CurvesDiagnosis:
    """What the curves of one or more runs say.

    Attributes:
      runs: each by itself.
    """

    runs: tuple[RunDiagnosis, ...]

    def __repr__(self) -> str:
        """The sentence, how certain it is, and what to measure next."""
        steps = [f"next: {step}" for step in self.worst.next_steps]
        cause = f"cause: {self.main_cause} ({self.certainty})"
        return "\n".join([self.sentence, cause, *steps])

    @property
    def worst(self) -> RunDiagnosis:
        """Of the commonest verdict, the run that shows it most."""
        name = Counter(run.verdict.name for run in self.runs).most_common(1)[0][0]
        mine = [run for run in self.runs if run.verdict.name == name]
        return max(mine, key=lambda run: (run.verdict.confidence, -self.runs.index(run)))

    @property
    def main_cause(self) -> str:
        """The commonest verdict."""
        return self.worst.verdict.name

    @property
    def sentence(self) -> str:
        """The verdict; of several runs that of the run which shows the commonest one most."""
        if len(self.runs) == 1:
            return self.runs[0].sentence
        same = sum(run.verdict.name == self.main_cause for run in self.runs)
        name = self.worst.run.name
        return f"{same} of {len(self.runs)} runs, {name} most clearly: {self.worst.sentence}"

    @property
    def certainty(self) -> str:
        """How far to trust the verdict."""
        verdict = self.worst.verdict
        if verdict.name == "no_single_cause":
            return "which cause it is needs another training: see what to measure next"
        how = "seen in the curves" if verdict.seen else "suspected: curves show what happened, not "
        how += "" if verdict.seen else "what would help"
        return f"confidence {verdict.confidence:.2f}, {how}"

    @property
    def table(self) -> pd.DataFrame:
        """One row per run."""
        return pd.DataFrame([run.row() for run in self.runs])

    def to_dict(self) -> dict[str, Any]:
        """What `jaxopt-lab diagnose --json` writes."""
        return {
            "schema": SCHEMA,
            "kind": KIND,
            "sentence": self.sentence,
            "main_cause": self.main_cause,
            "certainty": self.certainty,
            "runs": [run.to_dict() for run in self.runs],
        }


def written(check: Check, value: float) -> str:
    """A number of a check as a person reads it."""
    if math.isnan(value):
        return "not known"
    return f"{value:.1%}" if check.name == "fluctuation" else f"{value:.4g}"


def bound(check: Check) -> str:
    """The threshold of a check, with its direction."""
    if check.name in _COUNTS and not check.threshold:
        return ""
    return f"{'at least' if check.at_least else 'at most'} {written(check, check.threshold)}"


def why_not(finding: Finding) -> str:
    """What speaks against a cause: the checks that do not hold."""
    failed = [check for check in finding.checks if not check.holds]
    if not failed:
        return "another verdict comes before it"
    known = [check for check in failed if check.known]
    said = [f"{c.what} {written(c, c.value)}, needed {bound(c)}" for c in known or failed]
    return "; ".join(said)


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "name": finding.name,
        "confidence": finding.confidence,
        "certainty": "seen" if finding.seen else "suspected",
        "evidence": [
            {
                "name": check.name,
                "value": _plain(check.value),
                "threshold": check.threshold,
                "direction": "at least" if check.at_least else "at most",
                "holds": check.holds,
                "what": check.what,
            }
            for check in finding.checks
        ],
    }


def _plain(value: Any) -> Any:
    """Without what JSON cannot say."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
