"""The whole job: read, measure, judge."""

from typing import Any

from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.stabilization.logged.causes import findings
from jaxopt_lab.stabilization.logged.diagnosis import CurvesDiagnosis, RunDiagnosis
from jaxopt_lab.stabilization.logged.measures import measure_run
from jaxopt_lab.stabilization.logged.next_steps import next_steps
from jaxopt_lab.stabilization.logged.reading import read_runs
from jaxopt_lab.stabilization.logged.runs import LoggedRun


@checked_call()
def diagnose_curves(
    source: Any,
    *,
    loss: Any = None,
    train_loss: Any = None,
    grad_norm: Any = None,
    lr: Any = None,
    step: Any = None,
    run: Any = None,
    constant: Any = None,
    num_valid: Any = None,
) -> CurvesDiagnosis:
    """Say what the logged curves of a training can say, and what to measure next.

    Nothing is trained. The number of fluctuation is that of `stabilize`: the spread of the late
    half of the curve around its own trend, 0.04 being calm. Which of rate, batch, second moment and
    few validation rows shakes a curve cannot be told from it; which training would tell is said,
    with the number that decides.

    Args:
      source: DataFrame; mapping of column -> numbers, such as Keras' `History.history`, or of
        run -> table; path of a CSV file (Keras' or Lightning's `CSVLogger`, or any other), of
        Lightning's folder, or of TensorBoard's folder or event file; or a list of such.
      loss: column of the validation loss; found by its name by default, as are the others. Without
        one, or if one that was not named has too few values, the training loss is judged. Lower is
        better.
      train_loss: column of the training loss.
      grad_norm: column of gradient norms.
      lr: column of learning rates.
      step: column of the epoch or step.
      run: column that tells runs apart.
      constant: loss of the best constant prediction on the validation rows, above 0.
      num_valid: number of validation rows.

    Returns:
      A verdict per run, with evidence beside its thresholds and what was rejected.

    Raises:
      UserError: for what cannot be read, has no loss, or settings that cannot be.

    Example:
      >>> import numpy as np
      >>> import jaxopt_lab as lab
      >>> noise = np.random.default_rng(0).normal(0, 0.1, 60)
      >>> curve = (0.3 + np.exp(-np.arange(60) / 8)) * np.exp(noise)
      >>> found = lab.diagnose_curves({"val_loss": curve, "lr": [1e-3] * 60})
      >>> found.main_cause
      'rate_never_decays'
    """
    if constant is not None and not (_is_number(constant) and 0 < constant < float("inf")):
        raise UserError(f"the loss of a constant prediction must be above 0, got {constant!r}")
    if num_valid is not None and not (_is_number(num_valid) and num_valid >= 1):
        raise UserError(f"the number of validation rows must be at least 1, got {num_valid!r}")
    given = {
        "loss": loss,
        "train_loss": train_loss,
        "grad_norm": grad_norm,
        "lr": lr,
        "step": step,
        "run": run,
    }
    runs = read_runs(source, given)
    rows = None if num_valid is None else int(num_valid)
    chosen = runs if loss is not None else [_judgeable(each) for each in runs]
    return CurvesDiagnosis(tuple(_diagnose(each, constant, rows) for each in chosen))


def _judgeable(run: LoggedRun) -> LoggedRun:
    """With its training loss alone where that is long enough to be judged, and the other is not."""
    if run.main != "loss" or "train_loss" not in run.series or not measure_run(run).too_short:
        return run
    valid, train = (
        f"{run.columns[role]} has {len(run.series[role].values)}" for role in ("loss", "train_loss")
    )
    longer = run.of_training(f"{valid} values, too few to judge; {train}, and is judged instead")
    return run if measure_run(longer).too_short else longer


def _diagnose(run: LoggedRun, constant: float | None, num_valid: int | None) -> RunDiagnosis:
    found = measure_run(run)
    holds, rejected = findings(found, constant)
    steps = next_steps(run, found, holds[0], constant, num_valid)
    return RunDiagnosis(run, found, tuple(holds), tuple(rejected), tuple(steps))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
