"""What `stabilize` finds: plain values, JSON, and sentences."""

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from jaxopt_lab.core.types import Config
from jaxopt_lab.problems.mlp.observation import norm_edges, norm_quantile
from jaxopt_lab.problems.mlp.optimizers import averaging_code
from jaxopt_lab.stabilization.compare import Idle, Remedy, mean, row_uncertainty
from jaxopt_lab.stabilization.finished import FOLDER
from jaxopt_lab.stabilization.gain import is_calm
from jaxopt_lab.stabilization.intervals import Ratio, geometric_mean
from jaxopt_lab.stabilization.members import Member
from jaxopt_lab.stabilization.summary import Summary
from jaxopt_lab.stabilization.thresholds import (
    FREES,
    GOAL_RATIO,
    HARMLESS,
    HEALTHY,
    RISES,
    THRESHOLDS,
    UNTOLD,
)
from jaxopt_lab.stabilization.walk import Walked
from jaxopt_lab.stabilization.walk import table as walk_table
from jaxopt_lab.stabilization.weighing import Cause
from jaxopt_lab.storage.files import write_file

SCHEMA = 1
FILE_NAME = "diagnosis.json"
SENTENCES = {
    "learning_rate_too_high": "the learning rate is too high",
    "exploding_gradients": "gradients explode now and then",
    "small_batch_noise": "the batch is small for this gradient's noise",
    "second_moment_too_fast": "the second-moment estimate forgets too fast",
    "overfitting": "the network overfits",
    "evaluation_noise": "there are too few validation rows to see more calmly",
    "rate_never_decays": "the learning rate never decays",
    "warm_up_missing": "the first updates are too large without warm-up",
    "outliers": "single rows lie far from all others",
    "heavy_tailed_target": "a few targets are so large that they make up the loss",
    "bad_scale": "the inputs are not scaled",
    "learns_nothing": "nothing is learned",
    "no_problem": "nothing is wrong: the validation loss is calm",
    "no_single_cause": "no single cause was found",
}


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis:
    """Causes, cures and the fix.

    Attributes:
      causes: most certain first; never empty.
      evidence: the numbers that verdicts rest on: `diagnose.Evidence`, or what another kind of
        problem has of it.
      base: complete configuration that was given.
      summaries: every variant's trainings on the first seeds, by name.
      members: what each name changes.
      remedies: every variant against the base, by name.
      chosen: the recommended cure as confirmed on fresh seeds; None if there is none.
      before: the base on the seeds of the confirmation (on the first ones without one).
      after: the chosen cure on the same; None without one.
      optax: the optimizer with the fix, as code.
      curves: `base` and `base_train` [s, t] on the first seeds, `fresh_base` and `fixed` on the
        fresh ones.
      norm_counts: updates of the base by gradient norm.
      walked: the usual walk, step by step, and the variant that took each.
      rejected: causes that do not hold, most certain first.
      setting: number of epochs, seeds, rows, trainings; seconds.
    """

    causes: list[Cause]
    evidence: Any
    base: Config
    summaries: Mapping[str, Summary]
    members: Mapping[str, Member]
    remedies: Mapping[str, Remedy]
    chosen: Remedy | None
    before: Summary
    after: Summary | None
    optax: str
    curves: Mapping[str, np.ndarray]
    norm_counts: np.ndarray
    walked: tuple[Walked, ...]
    setting: Mapping[str, Any]
    rejected: tuple[Cause, ...] = ()
    _words: ClassVar[Mapping[str, str]] = SENTENCES

    def __repr__(self) -> str:
        """The sentence, what certainty the cause has, and what to change."""
        cause = self.causes[0]
        changes = self.chosen.settings if self.chosen else {}
        lines = [self.sentence, f"cause: {cause.name} (confidence {cause.confidence:.2f})"]
        if changes:
            lines.append(f"change: {', '.join(f'{k} = {v}' for k, v in changes.items())}")
        return "\n".join(lines)

    @property
    def main_cause(self) -> str:
        """The most certain cause."""
        return self.causes[0].name

    @property
    def recommended(self) -> Config:
        """The configuration with the fix; the given one where there is none."""
        return {**self.base, **(self.chosen.settings if self.chosen else {})}

    @property
    def fluctuation(self) -> Ratio:
        """Of the base on the first seeds, with an interval over them."""
        return geometric_mean(next(iter(self.summaries.values())).fluctuation)

    @property
    def calm_limit(self) -> float:
        """The fluctuation up to which the curve is calm."""
        return float(getattr(self.evidence, "calm_limit", HEALTHY))

    @property
    def observed(self) -> dict[str, Any]:
        """What there was to see of the base: epochs, fluctuation, rise of its end."""
        return {
            "num_epochs": self.setting["num_epochs"],
            "fluctuation": mean(self.before.fluctuation),
            "rise": self.before.end_over_lowest,
        }

    @property
    def solved(self) -> bool:
        """Whether the confirmed fix does its job, or none is needed."""
        if self.main_cause == "no_problem":
            return True
        return self.chosen is not None and self.chosen.reaches_goal

    @property
    def walk(self) -> pd.DataFrame:
        """What each step of the usual walk did to calm and to loss: see `walk.table`."""
        absent = "the curve is calm" if self.main_cause == "no_problem" else "no time was left"
        return walk_table(self.walked, self.remedies, absent)

    @property
    def better(self) -> Remedy | None:
        """The cure with the best loss, if that is more than 2 % below the base's, for certain."""
        cures = {n for n, m in self.members.items() if m.is_cure and m.comparable}
        mine = [r for n, r in self.remedies.items() if n in cures]
        found = [r for r in mine if r.loss.value * HARMLESS < 1.0 and r.loss.high < 1.0]
        return min(found, key=lambda r: r.loss.value, default=None)

    @property
    def learned_nothing(self) -> bool:
        """Whether the base is no more than 2 % below a constant prediction (of a table; else below
        the untrained state), if that is known.
        """
        idle = self.setting.get("idle_loss")
        return idle is not None and Idle(idle, "").is_as_good(self.before)

    @property
    def sentence(self) -> str:
        """What a colleague would say."""
        if not self.learned_nothing:
            return f"{self._said()}."
        best, idle = np.mean(self.before.best), self.setting["idle_loss"]
        return (
            f"{self._said()}. As given, it learns nothing: its best loss is {best:.3g}, and a "
            f"constant prediction has {idle:.3g}{self._higher_rate_learns()}."
        )

    @property
    def _names_no_cause(self) -> bool:
        """Whether the verdict says what there is to see, and not why."""
        return self.main_cause in ("no_single_cause", "learns_nothing")

    def _said(self) -> str:
        off = f"{self.evidence.fluctuation:.1%} off its trend"
        if self.main_cause == "no_problem":
            if self._is_pace:
                return f"Nothing is wrong: the validation loss {self._of_pace()}"
            if self.better is not None:
                told = self._not_the_best(self.better) + self._rows_tell()
                return f"The validation loss is calm ({off}), {told}"
            said = SENTENCES["no_problem"]
            told = self._rows_tell() + self._higher_rate_learns()
            return f"{said[0].upper()}{said[1:]} ({off}){told}"
        rises = self.main_cause == "overfitting"
        text = f"The validation loss {self._where()}"
        if self._names_no_cause:
            text += f"; {SENTENCES[self.main_cause]}"
        else:
            said = " and ".join(self._because(c) for c in self.causes[:2])
            text += f" because {said}"
        if self.chosen is None:
            if self.main_cause == "learns_nothing":
                return f"{text}, and nothing that was tried learns more"
            if self.setting.get("stopped_by_time_limit"):
                return f"{text}; the time limit left no cure confirmed"
            return f"{text}; no cure {'held it down' if rises else 'calmed it'} without harm"
        change = self.chosen.loss.value - 1
        level = "the same" if abs(change) < 0.005 else f"{abs(change):.1%} "
        level += "" if abs(change) < 0.005 else ("lower" if change < 0 else "higher")
        before, after = mean(self.before.fluctuation), self.chosen.after
        what = f"the fluctuation falls from {before:.1%} to {after:.1%}"
        if after >= before:
            what = f"the curve {self.chosen.why}"
        if rises:
            what = f"it ends {self.chosen.rise - 1:.0%} above its lowest"
        loss = f", with the best validation loss {level}"
        member = self.members.get(self.chosen.name)
        if member is not None and not member.comparable:
            loss = "; its loss is of other rows or units, so it is not compared"
            if self.chosen.shares:
                loss = "" if after >= before else f"; {self.chosen.shares}"
        verb = "Train" if self.chosen.name.startswith("without") else "Use"
        return (
            f"{text}. {verb} {self.chosen.name}: on fresh seeds {what}{loss}{self._rises_then()}"
            f"{self._falls_short()}{self._hidden_rate()}"
        )

    @property
    def rows_tell(self) -> float:
        """Half of the 95 % interval, log scale, that the choice of validation rows leaves around
        the loss of the base; NaN where nobody knows.
        """
        return row_uncertainty(self.before)

    @property
    def _is_pace(self) -> bool:
        """Whether nothing is wrong with a curve that is not calm beside its own level."""
        return self.main_cause == "no_problem" and not is_calm(self.evidence)

    def _of_pace(self) -> str:
        """What there is to see of such a curve."""
        found = self.evidence
        share = HEALTHY * found.fluctuation / found.gain_limit
        return (
            f"stands {found.fluctuation:.1%} off its trend, which is {share:.1%} of what training "
            "gains, and nothing that was tried calms it without harm"
        )

    def _rows_tell(self) -> str:
        """How well a calm loss is known, where validation rows are few: calm is not certain."""
        told = told_by_rows(self.rows_tell, self.setting.get("num_valid"))
        return f"; {told}" if told else ""

    def _higher_rate_learns(self) -> str:
        """Of a base that learns nothing, that it learns at a higher rate, if it does."""
        if self.chosen is not None and self.chosen.name.startswith("learning rate ×"):
            return ""
        name = self.setting.get("rate") or "learning_rate"
        higher = [
            r
            for n, r in self.remedies.items()
            if n.startswith("learning rate ×") and r.settings.get(name, 0.0) > 0
        ]
        found = [r for r in higher if r.loss.value <= FREES and r.loss.high < 1.0]
        if not found:
            return ""
        best = min(found, key=lambda r: r.loss.value)
        return f"; {best.name} ends {1 - best.loss.value:.0%} better"

    def _rises_then(self) -> str:
        """Of a fix with which what did not end high before does, as what learns more may."""
        if self.chosen is None or not self.before.end_over_lowest < RISES <= self.chosen.rise:
            return ""
        return (
            f"; it ends {self.chosen.rise - 1:.0%} above its lowest then, so keep its best "
            "checkpoint, or regularise too"
        )

    def _falls_short(self) -> str:
        """Of a fix that helps and does not do the whole job."""
        if self.solved:
            return ""
        return "; it helps, but nothing that was tried does more without harm"

    def _because(self, cause: Cause) -> str:
        """One cause in words, with the rows that are to blame, or that are missing."""
        said = self._words[cause.name]
        if "target_scale" in cause.evidence:
            said = "the targets are not scaled"
        if cause.rows:
            return f"{said}: {', '.join(str(row) for row in cause.rows)}"
        if cause.name == "evaluation_noise":
            have, wanted = self.setting["num_valid"], self.setting["valid_rows_wanted"]
            return f"{said} ({have:,}; {wanted:,} would do)" if wanted > have else said
        return said

    def _hidden_rate(self) -> str:
        """Where an average is recommended against a rate that is too high: what the rate does."""
        if self.chosen is None or not self.chosen.settings.get("ema"):
            return ""
        if self.recommended["learning_rate"] < self.base["learning_rate"]:
            return ""
        if all(cause.name != "learning_rate_too_high" for cause in self.causes):
            return ""
        lower = [
            r
            for n, r in self.remedies.items()
            if r.settings.get("learning_rate", math.inf) < self.base["learning_rate"]
            and not r.settings.get("ema")
            and self.members[n].is_cure
        ]
        if not lower:
            return ""
        best = min(lower, key=lambda r: r.loss.value)
        side = "lower" if best.loss.value < 1 else "higher"
        return (
            f". Averaging hides a rate that is too high: {best.name} has a best loss "
            f"{abs(best.loss.value - 1):.1%} {side} than the base"
        )

    def _where(self) -> str:
        """What there is to see, to go before its cause."""
        found, name = self.evidence, self.main_cause
        rise = f"ends {found.overfit_rise - 1:.0%} above its lowest"
        rises = found.overfit_rise >= RISES
        if name == "overfitting" and is_calm(found):
            return rise
        if any(c.name == "overfitting" for c in self.causes[:2]) and rises and not is_calm(found):
            shakes = self._spikes or f"stands {found.fluctuation:.0%} off its trend"
            return f"{shakes} and {rise}"
        if is_calm(found) and name == "learns_nothing":
            return "is calm, but no better than a constant prediction"
        if is_calm(found) and name == "no_single_cause":
            return rise if found.overfit_rise >= RISES else "is calm, but worse than it need be"
        if is_calm(found):
            untold = name in ("evaluation_noise", "heavy_tailed_target")
            if untold and found.rows_tell >= UNTOLD:
                return f"is calm, but known to ±{found.rows_tell:.0%} only,"
            if name == "small_batch_noise" and found.shaking_costs < THRESHOLDS["decay_gain"]:
                off = f"{found.fluctuation:.1%} off its trend"
                return f"is calm ({off}), but shakes more than need be,"
            stuck = name == "exploding_gradients"
            return f"is calm, but {'stuck at a high level' if stuck else 'higher than it need be'},"
        return self._spikes or f"stands {found.fluctuation:.0%} off its trend"

    @property
    def _spikes(self) -> str:
        """Of a curve that is calm but for its spikes, that it has them."""
        found = self.evidence
        if found.fluctuation > found.calm_limit or found.num_spikes < 1:
            return ""
        number = f"{found.num_spikes:.0f} time{'s' if round(found.num_spikes) != 1 else ''}"
        return f"spikes ({number} in its later half, else {found.fluctuation:.1%} off its trend)"

    def _not_the_best(self, better: Remedy) -> str:
        """What stands beside a calm curve where something is better."""
        return (
            f"but not at its best: {better.name} is {1 - better.loss.value:.1%} lower on the same "
            "seeds, which was not confirmed on others"
        )

    def to_dict(self) -> dict[str, Any]:
        """The content of `diagnosis.json`."""
        return {
            **self.common(),
            "optax": self.optax,
            "averaging": averaging_code(self.recommended),
            "gradient_norms": self._norms(),
        }

    def common(self) -> dict[str, Any]:
        """What a diagnosis of any problem writes."""
        before, after = self.before, self.after
        return {
            "schema": SCHEMA,
            "causes": [c.to_dict() for c in self.causes],
            "rejected": [{**c.to_dict(), "why": c.why_not} for c in self.rejected],
            "evidence": {k: v for k, v in self.evidence._asdict().items() if math.isfinite(v)},
            "fluctuation": {
                "before": mean(before.fluctuation),
                "after": None if after is None else mean(after.fluctuation),
                "noise_floor": mean((before if after is None else after).noise_floor),
                "interval": list(geometric_mean(before.fluctuation)[1:]),
                "by_seed": before.fluctuation.tolist(),
                "healthy": self.calm_limit,
            },
            "best_validation": {
                "before": float(np.mean(before.best)),
                "after": None if after is None else float(np.mean(after.best)),
            },
            "walk": [_known(row) for row in self.walk.to_dict("records")],
            "remedies": [_remedy(r) for r in self.remedies.values()],
            "recommended": {
                "name": None if self.chosen is None else self.chosen.name,
                "changes": {} if self.chosen is None else dict(self.chosen.settings),
                "hyperparameters": _plain(self.recommended),
                "solved": self.solved,
                "goal": f"fluctuation divided by {GOAL_RATIO:g}, or below {self.calm_limit:.3g}; "
                f"where it overfits, an end less than {RISES - 1:.0%} above the lowest point",
                "confirmed": None if self.chosen is None else _remedy(self.chosen),
            },
            "sentence": self.sentence,
            "base": _plain(self.base),
            "setting": dict(self.setting),
            "curves": {name: _rounded(values) for name, values in self.curves.items()},
        }

    def _norms(self) -> dict[str, Any]:
        """The histogram of the base's gradient norms, without empty bins at its ends."""
        counts = self.norm_counts
        used = np.flatnonzero(counts)
        first, last = (int(used[0]), int(used[-1])) if len(used) else (0, 0)
        return {
            "edges": norm_edges()[first : last + 2].tolist(),
            "counts": counts[first : last + 1].astype(int).tolist(),
            "median": norm_quantile(counts, 0.5),
            "high": norm_quantile(counts, 0.9),
        }

    def save(self, directory: str | Path) -> Path:
        """Write `diagnosis.json`; the trainings that were kept to go on from are removed.

        Raises:
          MachineError: if it cannot be written.
        """
        path = Path(directory) / FILE_NAME
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False)
        write_file(path, text.encode() + b"\n")
        shutil.rmtree(path.with_name(FOLDER), ignore_errors=True)
        return path


def _remedy(remedy: Remedy) -> dict[str, Any]:
    return {
        "name": remedy.name,
        "settings": _plain(remedy.settings),
        "fluctuation_ratio": remedy.fluctuation.value,
        "fluctuation_interval": [remedy.fluctuation.low, remedy.fluctuation.high],
        "loss_ratio": remedy.loss.value,
        "loss_interval": [remedy.loss.low, remedy.loss.high],
        "final_loss_ratio": remedy.final.value,
        "fluctuation": remedy.after,
        "rise": remedy.rise,
        "family": remedy.family,
        "accepted": remedy.accepted,
        "why": remedy.why,
    }


def _known(row: Mapping[str, Any]) -> dict[str, Any]:
    """None where a step was not taken."""
    return {
        str(k): None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()
    }


def _rounded(curves: np.ndarray) -> list[list[float | None]]:
    """Five digits; None where not finite."""
    return [[float(f"{v:.5g}") if math.isfinite(v) else None for v in c] for c in curves.tolist()]


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what JSON cannot say: an infinite value switches a feature off, as its default."""
    return {k: v for k, v in values.items() if not (isinstance(v, float) and math.isinf(v))}


def told_by_rows(half: float, num_valid: int | None) -> str:
    """How well a loss is known, and how many rows would tell it well, where they are few; else "".

    Args:
      half: of its 95 % interval, log scale; NaN where nobody knows.
      num_valid: validation rows.
    """
    if not num_valid or not half >= UNTOLD:
        return ""
    wanted = math.ceil(num_valid * (half / UNTOLD) ** 2 / 10) * 10
    return (
        f"its {num_valid:,} validation rows tell it to ±{half:.0%} only (some {wanted:,} would "
        f"to ±{UNTOLD:.0%})"
    )
