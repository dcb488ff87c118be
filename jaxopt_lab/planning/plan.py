"""Plans before anything trains: which programs, which cohorts, how long, and why."""

import math
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from typing import Any

from jaxopt_lab.schedulers.base import Scheduler


@dataclass(frozen=True)
class ProgramPlan:
    """One program of a plan.

    Attributes:
      name: what it is compiled for.
      width: cohort width V.
      num_networks: networks that train in it.
      num_cohorts: cohorts that they fill.
      compile_seconds: expected.
      run_seconds: expected.
    """

    name: str
    width: int
    num_networks: int
    num_cohorts: int
    compile_seconds: float
    run_seconds: float


@dataclass(frozen=True)
class Plan:
    """What a study would do, from `Study.plan`; `str` of it says so in words.

    Attributes:
      programs: in the order in which they run.
      num_waves: one cohort per device each.
      num_devices: D.
      empty_slots: share of the places in cohorts and waves that no network fills.
      padding: share of the arithmetic that is spent on units which networks do not have.
      exact: the estimate of a study that compiles every shape by itself; None if its shapes are
        too many.
      rungs: what a scheduler stops, in lines of words.
    """

    programs: tuple[ProgramPlan, ...]
    num_waves: int
    num_devices: int
    empty_slots: float
    padding: float
    exact: Any = None
    rungs: tuple[str, ...] = ()

    @property
    def compile_seconds(self) -> float:
        """Expected, without a cache of programs."""
        return sum(p.compile_seconds for p in self.programs)

    @property
    def run_seconds(self) -> float:
        """Expected."""
        return sum(p.run_seconds for p in self.programs)

    def _expected(self) -> str:
        if math.isnan(self.compile_seconds):
            seconds = _seconds(self.run_seconds)
            return f"expected by arithmetic alone: {seconds} training; compiling is not estimated"
        return (
            f"expected: {self.compile_seconds:.0f} s compiling (none of it again with a warm "
            f"cache), {self.run_seconds:.0f} s training"
        )

    def __str__(self) -> str:
        networks = sum(p.num_networks for p in self.programs)
        lines = [
            f"{count(networks, 'network')}, {count(len(self.programs), 'program')}, "
            f"{count(self.num_waves, 'wave')} on {count(self.num_devices, 'device')}",
            f"{self.empty_slots:.0%} of the places are empty, {self.padding:.0%} of the arithmetic "
            "is padding",
            self._expected(),
        ]
        if self.exact is not None and round(self.exact.num_programs) > len(self.programs):
            lines.append(
                f"why: every shape by itself would be {self.exact.num_programs:.0f} programs, "
                f"{self.exact.compile_seconds:.0f} s compiling, {self.exact.run_seconds:.0f} s "
                "training"
            )
        lines += self.rungs
        lines += [
            f"  {count(p.num_networks, 'network')} in {count(p.num_cohorts, 'cohort')} of "
            f"{p.width}: {p.name} "
            f"({_seconds(p.compile_seconds)} + {_seconds(p.run_seconds)})"
            for p in self.programs
        ]
        return "\n".join(lines)


def _seconds(seconds: float) -> str:
    """In words: less than one, or not known."""
    if math.isnan(seconds):
        return "?"
    return f"{seconds:.0f} s" if seconds >= 1 else "< 1 s"


def count(number: int, noun: str) -> str:
    """`1 program`, `2 programs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def rungs_in_words(
    num_trials: int, num_units: int, num_folds: int, unit: str, scheduler: Scheduler
) -> tuple[str, ...]:
    """Who trains how long under a scheduler, and what that comes to.

    Args:
      num_trials: configurations.
      num_units: of a full budget.
      num_folds: K.
      unit: what a unit is called.
      scheduler: decides who goes on.
    """
    brackets = scheduler.brackets(num_trials, num_units, num_folds)
    lines = []
    for bracket in dict.fromkeys(brackets):
        times = brackets.count(bracket)
        steps = []
        for rung in bracket:
            where = f"to {unit} {rung.num_epochs}"
            if rung.num_folds is not None:
                where += f" on {count(rung.num_folds, 'split')}"
            steps.append(f"{rung.num_trials} {where}")
        each = f"{times} brackets of" if times > 1 else "bracket of"
        lines.append(f"{each} {count(bracket[0].num_trials, 'trial')}: {', '.join(steps)}")
    found = sum(
        units
        for fold in range(num_folds)
        for *_, units in pieces(num_trials, num_units, num_folds, fold, scheduler)
    )
    full = num_trials * num_units * num_folds
    share = f"{found / full:.0%}"
    lines.append(f"at most {found:,} of the {full:,} {unit}s that all would take in full ({share})")
    return tuple(lines)


def crowds(
    num_trials: int, num_units: int, num_folds: int, scheduler: Scheduler | None
) -> tuple[tuple[int, int], ...]:
    """(trainings, units) of what can train in lockstep: of one fold, age and number of units.

    Brackets that begin in turn do not train together.
    """
    firsts = [0]
    if scheduler is not None and scheduler.in_turn:
        sizes = [b[0].num_trials for b in scheduler.brackets(num_trials, num_units, num_folds)]
        firsts = [sum(sizes[:i]) for i in range(len(sizes))]
    found = Counter(
        (bisect_right(firsts, trial), fold, age, units)
        for fold in range(num_folds)
        for trial, age, units in pieces(num_trials, num_units, num_folds, fold, scheduler)
    )
    return tuple((number, units) for (*_, units), number in found.items())


def pieces(
    num_trials: int, num_units: int, num_folds: int, fold: int, scheduler: Scheduler | None
) -> list[tuple[int, int, int]]:
    """(trial, age, units) of each piece of training on one fold, as if the first were the best."""
    if scheduler is None:
        return [(i, 0, num_units) for i in range(num_trials)]
    found, first = [], 0
    for bracket in scheduler.brackets(num_trials, num_units, num_folds):
        age = 0
        for rung in bracket:
            if rung.num_epochs > age and (rung.num_folds is None or fold < rung.num_folds):
                mine = range(first, first + rung.num_trials)
                found += [(i, age, rung.num_epochs - age) for i in mine]
                age = rung.num_epochs
        first += bracket[0].num_trials
    return found
