"""What each cure does against the base on the same seeds and minibatches, and which are kept."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxopt_lab.stabilization.intervals import Ratio, paired_ratio, ratio_of_means, row_error
from jaxopt_lab.stabilization.members import ON_MENDED_ROWS, Member
from jaxopt_lab.stabilization.summary import Summary
from jaxopt_lab.stabilization.thresholds import (
    CALMER,
    FREES,
    GOAL_RATIO,
    HARMLESS,
    HEALTHY,
    LOWER,
    NEAR_BEST,
    RISES,
    STILL_FALLS,
    STOPPED,
    THRESHOLDS,
)

#: Where rows leave a greater standard error in a ratio of losses, they are too few to tell it.
FEW_ROWS = 0.05
#: So many of them may a ratio stand above 1 there, but it may not be beyond the second number.
_ERRORS, _MOST_UNTOLD = 1.645, 1.0 / FREES


class Remedy(NamedTuple):
    """One cure compared with the base.

    Attributes:
      name: of its member.
      settings: hyperparameters that it changes.
      family: of its member.
      fluctuation: its fluctuation over the base's; geometric mean over seeds.
      loss: its best validation loss over the base's, of means over seeds.
      final: likewise, of the final validation loss.
      after: its own fluctuation, geometric mean over seeds.
      floor: its own noise floor.
      rise: end of its validation curve over the lowest point of the trend; 1 or more.
      against_rise: whether the base overfits, so that its end has to come down.
      accepted: whether it calms the curve and does not harm the best loss.
      why: in words.
      calm: fluctuation up to which a curve is calm.
      shares: where losses are of other rows or units, what they and the base's are of constants',
        in words; "" where losses are compared as they are, or not at all.
      tail: of its gradient norms, as `Summary.norm_tail`; geometric mean over seeds.
    """

    name: str
    settings: Mapping[str, Any]
    family: str
    fluctuation: Ratio
    loss: Ratio
    final: Ratio
    after: float
    floor: float
    rise: float
    against_rise: bool
    accepted: bool
    why: str
    calm: float = HEALTHY
    shares: str = ""
    tail: float = math.nan

    @property
    def reaches_goal(self) -> bool:
        """Whether it calms enough, and ends low enough where the base overfits. Of a base that was
        calm it must be much calmer, or better.
        """
        # Not against the floor of its rows: that grows with the shaking.
        before = self.after / max(self.fluctuation.value, 1e-9)
        shook = before > self.calm or self.loss.value * HARMLESS < 1.0
        becomes_calm = self.after <= self.calm and shook
        is_calm = self.fluctuation.value <= 1.0 / GOAL_RATIO or becomes_calm
        return is_calm and not (self.against_rise and self.rise >= RISES)


class Idle(NamedTuple):
    """What comes of learning nothing.

    Attributes:
      loss: validation loss.
      what: whose, in words.
    """

    loss: float
    what: str

    def is_as_good(self, found: Summary) -> bool:
        """Whether trainings end no more than 2 % below it."""
        return float(np.mean(found.best)) * HARMLESS > self.loss


def compare(
    member: Member,
    found: Summary,
    base: Summary,
    idle: Idle | None = None,
    limit: float = HEALTHY,
    constants: tuple[float, float] | None = None,
) -> Remedy:
    """Compare a variant with the base, seed by seed.

    Args:
      member: the variant.
      found: its trainings.
      base: the base's, with the same seeds.
      idle: what learning nothing comes to, where that is known: no cure is as bad.
      limit: fluctuation up to which a curve is calm.
      constants: of a variant on other rows or in other units, the losses of the best constant
        predictions on its validation rows and on the base's: losses are compared as shares of
        them. None: they are not compared.
    """
    spread = paired_ratio(found.fluctuation, base.fluctuation)
    against_rise, shares = overfits(base), ""
    if not member.comparable and constants is not None:
        loss, final, accepted, why, shares = _by_shares(found, base, limit, constants)
    elif not member.comparable:
        loss = final = Ratio(1.0, 1.0, 1.0)
        accepted, why = judge(spread, loss, 0.0)
        why += "; losses of other rows or units are not compared"
    else:
        loss = ratio_of_means(found.best_rows, base.best_rows)
        final = ratio_of_means(found.final, base.final)
        higher = float(np.mean(found.peak) / max(np.mean(base.peak), 1e-9))
        error = row_error(found.best_rows, base.best_rows)
        end = final if against_rise else None
        averages = member.family == "average"
        accepted, why = judge(spread, loss, higher, end, error, averages)
        calm = mean(found.fluctuation) <= limit and np.mean(found.num_spikes) < 1
        if not accepted and spread.value <= CALMER and overfits(found) and not against_rise:
            # What has stopped learning does not rise.
            why = (
                f"calmer, but it overfits then: ends {found.end_over_lowest - 1:.0%} above its "
                f"lowest, best loss {loss.value - 1:+.1%}"
            )
        if not accepted and calm and loss.value <= FREES and loss.high < 1.0:
            # What has not learned is as calm as can be.
            accepted, why = True, f"is calm, and best loss {1 - loss.value:.0%} better"
        surely = loss.value <= FREES and loss.high < 1.0
        if not accepted and surely and idle is not None and idle.is_as_good(base):
            # Where nothing is learned, whatever learns is better.
            accepted, why = True, f"learns: best loss {1 - loss.value:.0%} better"
    # A loss of other units is not that of a constant in the given ones.
    if accepted and member.comparable and idle is not None and idle.is_as_good(found):
        accepted = False
        why = (
            f"learns nothing: best loss {np.mean(found.best):.3g}, {idle.what} has {idle.loss:.3g}"
        )
    return Remedy(
        member.name,
        dict(member.settings),
        member.family,
        spread,
        loss,
        final,
        mean(found.fluctuation),
        mean(found.noise_floor),
        found.end_over_lowest,
        against_rise,
        accepted,
        why,
        limit,
        shares,
        mean(found.norm_tail),
    )


def that_learn(
    remedies: Mapping[str, Remedy], base: Summary, constant: float | None
) -> dict[str, Remedy]:
    """Without those that are calmer, or better, because they learn no more than a constant
    prediction: they are no evidence of anything. Of a base that learns no more than that either,
    but overfits, those that are as good.

    Args:
      remedies: compared with the base, by name.
      base: the base's trainings.
      constant: loss of learning nothing; None where nobody knows: all are taken.
    """
    if not constant:
        return dict(remedies)
    most = constant / (HARMLESS * max(float(np.mean(base.best)), 1e-30))
    if overfits(base):
        most = max(most, 1.0)
    return {n: r for n, r in remedies.items() if r.loss.value <= most or r.family in ON_MENDED_ROWS}


def _by_shares(
    found: Summary, base: Summary, limit: float, constants: tuple[float, float]
) -> tuple[Ratio, Ratio, bool, str, str]:
    """Ratios of best and final losses as shares of those of constants; accepted or not, why, and
    the shares in words.
    """
    mine, given = constants
    loss = ratio_of_means(found.best_rows / mine, base.best_rows / given)
    final = ratio_of_means(found.final / mine, base.final / given)
    spread = paired_ratio(found.fluctuation, base.fluctuation)
    calmer, why = judge(spread, Ratio(1.0, 1.0, 1.0), 0.0)
    left = float(np.mean(found.best)) / mine, float(np.mean(base.best)) / given
    told = f"it leaves {left[0]:.0%} of a constant prediction's loss, as given {left[1]:.0%}"
    if calmer and loss.value > STOPPED:
        return loss, final, False, f"calmer, but {told}", told
    calm = mean(found.fluctuation) <= limit and np.mean(found.num_spikes) < 1
    # A loss that a few rows make up has a wide interval, which is what is wrong with it.
    surely = loss.high < 1.0 or times_surer(found, base) >= THRESHOLDS["log_tells"]
    if not calmer and calm and loss.value <= FREES and surely:
        return loss, final, True, f"is calm, and {told}", told
    if not calmer and left[1] * HARMLESS > 1.0 and loss.value <= FREES and loss.high < 1.0:
        # Where nothing is learned, whatever learns is better.
        return loss, final, True, f"learns: {told}", told
    return loss, final, calmer, f"{why}; {told}", told


def times_surer(found: Summary, base: Summary) -> float:
    """Standard error that the choice of validation rows leaves in the base's best loss, over that
    in a variant's.
    """
    return row_uncertainty(base) / max(row_uncertainty(found), 1e-9)


def row_uncertainty(found: Summary) -> float:
    """Half of the 95 % interval, log scale, that validation rows leave around a best loss."""
    return 1.96 * row_error(found.best_rows, np.ones_like(found.best_rows))


def overfits(found: Summary) -> bool:
    """Whether the validation loss ends high while the training loss still falls."""
    return found.end_over_lowest >= RISES and found.train_fall >= STILL_FALLS


def judge(
    spread: Ratio,
    loss: Ratio,
    peak: float,
    final: Ratio | None = None,
    error: float = 0.0,
    averages: bool = False,
) -> tuple[bool, str]:
    """Accept a cure or say why not.

    Args:
      spread: fluctuation ratio.
      loss: ratio of best validation losses.
      peak: the highest rise above the trend over the base's.
      final: ratio of final validation losses, where the base overfits: lowering it is a cure, too.
      error: standard error that the validation rows leave in `loss`, log scale; above `FEW_ROWS`
        they are too few to tell some losses above 1 from it.
      averages: whether the cure only averages weights, which learn what they learn without it: what
        the rows cannot tell is no harm then. Of other cures nobody knows.
    """
    told = HARMLESS
    if error > FEW_ROWS:
        told = min(max(HARMLESS, float(np.exp(_ERRORS * error))), _MOST_UNTOLD)
    harmless = told if averages else HARMLESS
    stopped = max(STOPPED, told)
    calmer = spread.value <= CALMER and spread.high < 1.0
    worse = f"best loss {loss.value - 1:.1%} worse"
    if harmless < loss.value <= told:
        worse = _untold(loss)
    if calmer and loss.value > stopped:
        return False, f"calmer because it stopped learning: {worse}"
    if calmer and loss.value > harmless:
        return False, f"calmer, but {worse}"
    if calmer and peak > 1.0:
        return False, f"calmer between spikes, but its highest is {peak:.1f} times the base's"
    if calmer:
        better = f", best loss {1 - loss.value:.1%} better" if loss.high < 1.0 else ""
        if loss.value > HARMLESS:
            better = f"; {_untold(loss)}"
        return True, f"fluctuation divided by {1 / max(spread.value, 1e-9):.1f}{better}"
    if loss.value > stopped:
        return False, f"no calmer, and {worse}"
    if final is not None and final.value <= LOWER and final.high < 1.0:
        ends = f"ends {1 - final.value:.0%} lower"
        if loss.value > harmless:
            return False, f"{ends}, but {worse}"
        return True, ends
    if spread.value <= CALMER:
        return False, "calmer on some seeds only"
    return False, "no calmer" if spread.value <= 1.25 else "less calm"


def _untold(loss: Ratio) -> str:
    return f"the validation rows are too few to tell a loss of {loss.value - 1:+.0%}"


def ranked(remedies: list[Remedy], preferred: tuple[str, ...]) -> list[Remedy]:
    """Accepted cures, the one to recommend first.

    First those that reach the goal; among them those within `NEAR_BEST` of the best loss that any
    of them reaches, so that no calm but bad level wins; then the smallest, then those that act on
    the cause found, then the best loss.

    Args:
      remedies: compared with the base.
      preferred: families that act on the cause.
    """

    accepted = [r for r in remedies if r.accepted]
    lowest = min((r.loss.value for r in accepted if r.reaches_goal), default=1.0)

    def order(remedy: Remedy) -> tuple[Any, ...]:
        size = len([k for k in remedy.settings if k not in _ONE_KNOB])
        apart = remedy.family not in preferred
        if remedy.reaches_goal:
            behind = remedy.loss.value > NEAR_BEST * lowest
            return (0, behind, size, apart, remedy.loss.value, remedy.name)
        short = remedy.final.value if remedy.against_rise else remedy.fluctuation.value
        return (1, short, size, remedy.loss.value, remedy.name)

    return sorted(accepted, key=order)


#: Settings that only shape a cure whose switch is another setting.
_ONE_KNOB = (
    "plateau_factor",
    "plateau_patience",
    "plateau_floor",
    "final_fraction",
    "ema_decay",
)


def mean(values: np.ndarray) -> float:
    """Geometric mean over seeds."""
    return float(np.exp(np.mean(np.log(np.maximum(values, 1e-9)))))
