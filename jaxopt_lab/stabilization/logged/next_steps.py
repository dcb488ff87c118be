"""What to measure next, and which number would decide: curves alone cannot."""

import math

from jaxopt_lab.stabilization.logged.causes import Finding
from jaxopt_lab.stabilization.logged.measures import FEWEST, Measures
from jaxopt_lab.stabilization.logged.runs import LoggedRun
from jaxopt_lab.stabilization.thresholds import HARMLESS, HEALTHY, RISES, THRESHOLDS


def next_steps(
    run: LoggedRun,
    found: Measures,
    verdict: Finding,
    constant: float | None,
    num_valid: int | None,
) -> list[str]:
    """Measurements, the most telling first, a line each.

    Args:
      run: the log.
      found: its numbers.
      verdict: of it.
      constant: loss of a constant prediction, if it is known.
      num_valid: validation rows, if they are known.
    """
    if verdict.name == "too_short":
        return [f"log at least {FEWEST} values of the loss"]
    steps = _of_verdict(run, found, verdict)
    if verdict.name in ("no_single_cause", "rate_never_decays", "exploding_gradients"):
        steps += _of_shaking(run, found, verdict)
        steps.append(_rows(found, num_valid))
    if run.main != "loss" and "loss" in run.columns:
        name = run.columns["loss"]
        steps.append(f"log {FEWEST} values of {name} or more: overfitting shows in nothing else")
    elif run.main != "loss":
        steps.append("log a validation loss too: overfitting shows in nothing else")
    elif "train_loss" not in run.series:
        steps.append("log the training loss too: it tells overfitting from a rate that is too high")
    if constant is None and math.isfinite(found.lowest) and verdict.name != "diverged":
        steps.append(
            "compare with a constant prediction (the mean target, the class shares): above "
            f"{HARMLESS * found.lowest:.4g} on the same rows it has learned something"
        )
    return steps


def _of_verdict(run: LoggedRun, found: Measures, verdict: Finding) -> list[str]:
    """What decides whether the verdict is right."""
    name = verdict.name
    if name == "diverged":
        return [
            f"train again with the learning rate ÷10{_lower(found)}: if it stays finite, the rate "
            "was too high; if not, log the gradient norm of every step and look for the first "
            "that is not finite"
        ]
    if name in ("stuck", "never_fell"):
        return [
            f"train again with the learning rate ×10 and ÷10{_lower(found)}, and overfit 32 rows: "
            "a network that cannot learn them has a mistake or no signal"
        ]
    if name == "overfitting":
        return [
            f"keep the weights of {run.unit} {found.lowest_at:g}, the lowest point, and train "
            "again with dropout 0.3 or weight decay: it is the answer if the end stays within "
            f"{RISES - 1:.0%} of the lowest point, and that rises by {HARMLESS - 1:.0%} at most"
        ]
    if name == "not_trained_enough":
        return [
            f"train twice as long: the last quarter still lowered the loss by "
            f"{1 - 1 / found.still_gains:.0%}"
        ]
    return []


def _of_shaking(run: LoggedRun, found: Measures, verdict: Finding) -> list[str]:
    """Which one change tells the causes of shaking apart, each from the same seed."""
    spread = found.fluctuation
    calmer = spread / THRESHOLDS["rate_calms"]
    tenth = (
        f"train again with the learning rate ÷10{_lower(found)}: the rate is too high if the "
        f"fluctuation falls from {spread:.1%} to {calmer:.1%} or less and the lowest loss is at "
        f"least {1 - 1 / THRESHOLDS['rate_gain']:.0%} lower"
    )
    plateau = (
        "train again with reduce on plateau (factor 0.2, patience 5, floor 1e-5): the missing "
        f"decay is the cause if the fluctuation falls to {calmer:.1%} or less and the lowest loss "
        f"rises by {HARMLESS - 1:.0%} at most"
    )
    steps = [plateau, tenth] if verdict.name == "rate_never_decays" else [tenth]
    if math.isnan(found.norm_tail):
        steps.append(
            "log the gradient norm of every step, before clipping: a 99.9 % quantile above "
            f"{THRESHOLDS['clipped_tail']:g} times the median speaks for clipping"
        )
    elif verdict.name == "exploding_gradients" or found.norm_tail >= THRESHOLDS["clipped_tail"]:
        steps.insert(
            0,
            f"clip the gradient norm at its median: it is the answer if the fluctuation falls to "
            f"{spread / THRESHOLDS['clip_helps']:.1%} or less (norms reach {found.norm_tail:.3g} "
            "times their median)",
        )
    steps.append(
        "train again with a batch of four times the rows: the batch is too small if the "
        f"fluctuation falls to {spread / THRESHOLDS['batch_calms']:.1%} or less"
    )
    return steps


def _rows(found: Measures, num_valid: int | None) -> str:
    """How to see the noise of few validation rows, and how many would do."""
    noise = THRESHOLDS["floor_share"] * found.fluctuation
    text = (
        "validate on other rows of the same number, with the same weights: if the losses stand "
        f"{noise:.1%} apart, the rows are too few"
    )
    if num_valid is None or found.fluctuation <= HEALTHY:
        return text
    wanted = math.ceil(num_valid * (found.fluctuation / HEALTHY) ** 2)
    return f"{text}; were it all their noise, {wanted:,} rows instead of {num_valid:,} would do"


def _lower(found: Measures) -> str:
    return "" if math.isnan(found.rate) else f" ({found.rate:.3g} → {found.rate / 10:.3g})"
