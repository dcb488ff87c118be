"""The whole job for a problem of any kind: ladder, cures, the best of them on fresh seeds."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.results import Result
from jaxopt_lab.problems.general import GeneralProblem
from jaxopt_lab.stabilization import walk
from jaxopt_lab.stabilization.compare import Idle
from jaxopt_lab.stabilization.comparison import SHARES, Clock, Comparison
from jaxopt_lab.stabilization.diagnosis import told_by_rows
from jaxopt_lab.stabilization.gain import is_doubtful, or_pace
from jaxopt_lab.stabilization.general import causes, decay, variants
from jaxopt_lab.stabilization.general.constant import constant_loss
from jaxopt_lab.stabilization.general.curves import (
    FEWEST,
    LOSSES,
    curve_name,
    curves_of,
    summarize,
)
from jaxopt_lab.stabilization.general.diagnosis import GeneralDiagnosis
from jaxopt_lab.stabilization.general.knobs import Knobs, read_knobs
from jaxopt_lab.stabilization.general.mended_rows import look_at
from jaxopt_lab.stabilization.general.side_by_side import Variants
from jaxopt_lab.stabilization.members import BASE, TARGET, Member, much_higher
from jaxopt_lab.stabilization.of_rows import OTHER_LOSSES
from jaxopt_lab.stabilization.rows import MOST_ROWS, remarks
from jaxopt_lab.stabilization.scale import Scale, scale_of
from jaxopt_lab.stabilization.summary import Summary
from jaxopt_lab.stabilization.thresholds import UNTOLD
from jaxopt_lab.stabilization.weighing import Cause

#: Seeds of the comparison; as many fresh ones confirm it.
NUM_SEEDS = 4
#: Epochs of a training where nobody says: so many rows in all, between these bounds.
_ROWS, _FEWEST_EPOCHS, _MOST_EPOCHS = 6e5, 40, 80


def stabilize_problem(
    problem: GeneralProblem,
    hparams: Mapping[str, Any],
    *,
    num_units: int | None = None,
    num_seeds: int | None = None,
    seed: int = 0,
    time_limit: float | None = None,
    curve: str | None = None,
    devices: Sequence[jax.Device] | None = None,
    directory: str | Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> GeneralDiagnosis:
    """See `stabilization.stabilize`."""
    knobs = read_knobs(problem, hparams)
    checked = knobs.training.checked(knobs.program(knobs.base))
    name = curve_name(problem, checked.metrics, curve)
    rows = look_at(problem, name)
    if rows.members:
        knobs = read_knobs(rows.problem, hparams, rows.num_splits)
    units = num_units or problem.budget or _usual_units(problem, knobs)
    size = math.prod(checked.metrics[name].shape)
    if units < 1 or units * size < FEWEST:
        raise UserError(
            f"a curve needs at least {FEWEST} points to be judged, and {units} {problem.unit}s "
            f"give {max(units, 0) * size} of {name}; give more num_epochs"
        )
    trainer = Variants(knobs, units, seed, devices, directory, rows)
    clock = Clock(time_limit, time.monotonic())
    return _Comparison(trainer, name, num_seeds or NUM_SEEDS, clock, say).run()


def _usual_units(problem: GeneralProblem, knobs: Knobs) -> int:
    if problem.unit == "epoch" and knobs.num_rows:
        return min(max(round(_ROWS / knobs.num_rows), _FEWEST_EPOCHS), _MOST_EPOCHS)
    raise UserError(
        f"say how many {problem.unit}s to train: num_epochs=..., or budget=... of the problem"
    )


class _Comparison(Comparison):
    """All stages.

    Args:
      trainer: of the problem and configuration.
      name: metric whose curve is measured.
      num_seeds: of the comparison; as many fresh ones confirm it.
      clock: of the diagnosis.
      say: takes one line of text at a time.
    """

    cures_of = causes.CURES_OF

    def __init__(
        self,
        trainer: Variants,
        name: str,
        num_seeds: int,
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        numbers = range(2 * num_seeds)
        super().__init__(trainer, numbers[:num_seeds], numbers[num_seeds:], clock, say)
        self.rows, self.knobs, self.name = trainer.rows, trainer.knobs, name
        objective = self.knobs.problem.objective
        is_loss = self.knobs.problem.kind == "supervised" and name in LOSSES
        self._sign = 1 if is_loss else objective.sign
        self._at = objective.at
        metrics = self.knobs.training.checked(self.knobs.program(self.knobs.base)).metrics
        self._train = "train_loss" if "train_loss" in metrics and name != "train_loss" else None
        self._constant = self._constant_of(0) if name == "loss" else None
        self._known: list[np.ndarray] = []
        self.scale: Scale | None = None
        self.notes = [*self.knobs.notes]

    def run(self) -> GeneralDiagnosis:
        """Observe, diagnose, try, confirm."""
        problem, units = self.knobs.problem, self.trainer.num_epochs
        for line in self.knobs.notes:
            self.say(line)
        probed = self.trainer.make_probe is not None
        missing = (
            "sharpness, gradient norms and what few validation rows add to the fluctuation are not "
            "measured"
        )
        if not probed:
            missing = "gradients are not known here, so there is no evidence of theirs"
        self._note(f"{missing}: the verdict rests on curves and on what cures do")
        for line in remarks(self.rows.faults):
            self._note(line)
        ladder = variants.ladder(self.knobs)
        plural = "s" if units != 1 else ""
        self.say(
            f"observing {self.name} with {len(self.seeds)} seeds and {len(ladder) - 1} learning "
            f"rates around the given one, {units} {problem.unit}{plural}"
        )
        self.train(ladder, "ladder", probe=probed)
        self.need_base()
        if self.scale is not None and not self.scale.relative:
            self._note(f"fluctuation is {self.scale.words}")
        found = self._causes()
        if found[0].name == "no_problem" and self.rows.members:
            self._try_rows()
            found = self._causes()
        if found[0].name == "no_problem" and is_doubtful(self._evidence()):
            self.train(variants.batches(self.knobs), "cures")
            found = self._causes()
        if found[0].name != "no_problem":
            tried = variants.cures(self.knobs)
            given = self.knobs.value("learning_rate")
            if given and found[0].name == "learns_nothing":
                tried += much_higher(given, self.knobs.names["learning_rate"])
            if tried:
                self.say(f"trying {len(tried)} cures")
                steps = self._walked([*self.members.values(), *tried])
                mine = [*tried, *walk.missing(steps)]
                self.train([m for m in mine if m.name not in self.members], "cures")
            self._try_rows()
            self.tried_cures = True
            found = or_pace(self.undo_two(self._causes()), self._evidence())
        main = found[0].name
        told = told_by_rows(self._evidence().rows_tell, self.knobs.num_valid)
        if told and main != "no_problem" and self.name == "loss":
            self._note(f"{self.name}: {told}")
        chosen, confirmed = (None, {}) if main == "no_problem" else self.confirm(main)
        if chosen is not None and decay.NAME in chosen.settings:
            value, rate = chosen.settings[decay.NAME], self.knobs.names["learning_rate"]
            self._note(decay.in_words(value, problem.kind, rate))
        return self._diagnosis(found, chosen, confirmed)

    def _try_rows(self) -> None:
        """Train the base on its rows without what was found, each as the first of its cohort, so
        that it is probed.
        """
        probed = self.trainer.make_probe is not None
        for member in self.rows.members:
            if member.name not in self.members:
                self.say(f"trying {member.name}")
                self.train([member], "cures", probe=probed)

    def _causes(self) -> list[Cause]:
        """The verdict by what is known so far."""
        rows = tuple(int(row) for row in self.rows.faults.outliers[:MOST_ROWS])
        found = causes.verdict(self._evidence())
        return [c._replace(rows=rows) if c.name == "outliers" else c for c in found]

    def _constant_of(self, number: int) -> float | None:
        """Loss of a constant prediction on the rows of the member with this split."""
        num = self.rows.num_splits
        splits = range(number * num, (number + 1) * num)
        return constant_loss(self.knobs.problem, self.knobs.base, splits)

    def constants(self, member: Member) -> tuple[float, float] | None:
        """Of rows without outliers, and of targets in another unit."""
        if not member.split or not self._constant or self.scale is None or not self.scale.relative:
            return None
        if self.rows.members[member.split - 1].family not in OTHER_LOSSES:
            return None
        mine = self._constant_of(member.split)
        return (mine, self._constant) if mine else None

    @property
    def idle(self) -> Idle | None:
        """A constant prediction; where nobody knows its loss, the member that does not learn."""
        if self._constant is not None and self.scale is not None and self.scale.relative:
            return Idle(self._constant, "a constant prediction")
        found = self.summaries.get(variants.UNTRAINED)
        return None if found is None else Idle(float(np.mean(found.best)), "the untrained state")

    @property
    def unlearned(self) -> float | None:
        """As `idle`; where there is none, what the base has after its first unit. None where
        fluctuation is in units of what training gains as it is.
        """
        if self.scale is None or not self.scale.relative:
            return None
        if self.idle is not None:
            return self.idle.loss
        return float(np.median(self.curves(self.results[BASE])[:, 0]))

    def learn(self, found: Mapping[str, list[Result]]) -> None:
        """Curves of new members may change what fluctuation is relative to: all are read again."""
        apart = [member.name for member in self.rows.members if not member.comparable]
        self._known += [
            curves_of(results, self.name)
            for name, results in found.items()
            if not any(other in name for other in apart)
        ]
        base = found.get(BASE) if BASE not in self.results else self.results[BASE]
        if base is None:
            return
        idle = found.get(variants.UNTRAINED) or self.results.get(variants.UNTRAINED)
        before, untrained = self.scale, None if idle is None else curves_of(idle, self.name)
        self.scale = scale_of(curves_of(base, self.name), self._known, self._sign, untrained)
        if before is not None and before != self.scale:
            self.judge(list(self.results))

    def summarize(self, results: Sequence[Result]) -> Summary:
        """Of curves alone."""
        assert self.scale is not None
        return summarize(results, self.name, self.scale, self._at, self._train)

    def curves(self, results: Sequence[Result]) -> np.ndarray:
        """As the problem returns them."""
        return curves_of(results, self.name)

    def _walked(self, known: Iterable[Member]) -> list[walk.Walked]:
        """The usual walk from the base, by variants that are known, as far as there are roles."""
        return walk.walked(walk.steps(variants.start(self.knobs)), known)

    def _note(self, line: str) -> None:
        self.notes.append(line)
        self.say(line)

    def _evidence(self) -> causes.Evidence:
        return causes.gather(
            self.summaries[BASE],
            self.results[BASE],
            self.remedies,
            self.failed(),
            self.knobs,
            self.limits,
            self.undone,
            None if self.idle is None else self.idle.loss,
            self.rows.faults,
            self._on_logs(),
        )

    def _on_logs(self) -> list[Result]:
        """The base's trainings on a log scale of the target, if there are any."""
        names = (m.name for m in self.rows.members if m.family == TARGET)
        return self.results.get(next(names, ""), [])

    def _rows_wanted(self) -> int | None:
        """Validation rows whose own noise would be half of what is calm, and that tell the loss."""
        found, have = self._evidence(), self.knobs.num_valid
        if have is None:
            return None
        floor = found.fluctuation * causes.floor_share(found)
        times = [2 * floor / self.healthy, found.rows_tell / UNTOLD]
        most = max((x for x in times if not math.isnan(x)), default=0.0)
        return math.ceil(have * most**2 / 10) * 10

    def _rejected(self, found: list[Cause]) -> tuple[Cause, ...]:
        """The causes that do not hold; none of a calm curve, of which none was sought."""
        if found[0].name == "no_problem":
            return ()
        held = {cause.name for cause in found}
        return tuple(c for c in causes.weighed(self._evidence()) if c.name not in held)

    def _diagnosis(
        self, found: list[Cause], chosen: Any, confirmed: Mapping[str, Any]
    ) -> GeneralDiagnosis:
        trainer, problem, empty = self.trainer, self.knobs.problem, np.zeros((0, 0))
        base = self.results[BASE]
        rate = self.knobs.names.get("learning_rate")
        points = self.curves(base).shape[1]
        train = curves_of(base, self._train) if self._train else empty
        return GeneralDiagnosis(
            causes=found,
            evidence=self._evidence(),
            base=dict(self.knobs.base),
            summaries=self.summaries,
            members=self.members,
            remedies=self.remedies,
            chosen=chosen,
            before=confirmed.get("before", self.summaries[BASE]),
            after=confirmed.get("after"),
            optax="",
            curves={
                "base": self.curves(base),
                "base_train": train,
                "fresh_base": confirmed.get("base_curves", empty),
                "fixed": confirmed.get("fixed_curves", empty),
            },
            norm_counts=np.zeros(0),
            walked=tuple(self._walked(self.members.values())),
            rejected=self._rejected(found),
            setting={
                "problem": f"{problem.kind} {problem.source}",
                "curve": self.name,
                "direction": "minimize" if self._sign > 0 else "maximize",
                "relative": bool(self.scale and self.scale.relative),
                "gain": None if self.scale is None or self.scale.relative else self.scale.gain,
                "unit": problem.unit,
                "rate": rate,
                "num_epochs": trainer.num_epochs,
                "evaluations": points // trainer.num_epochs,
                "num_seeds": len(self.seeds),
                "num_rows": self.knobs.num_rows,
                "num_valid": self.knobs.num_valid,
                "valid_rows_wanted": self._rows_wanted(),
                "num_trainings": trainer.num_trained,
                "num_kept": trainer.num_kept,
                "seconds": round(self.clock.seconds, 1),
                "compile_seconds": round(trainer.compile_seconds, 1),
                "idle_loss": None if self.idle is None else self.idle.loss,
                "stopped_by_time_limit": self.clock.passed(SHARES["cures"]),
            },
            notes=tuple(self.notes),
        )
