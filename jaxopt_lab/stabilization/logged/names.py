"""Which column of a log is what, by the names that loggers give.

Keras' `CSVLogger` and `History` write `epoch, loss, val_loss, learning_rate`; Lightning's
`CSVLogger` `epoch, step, train_loss_step, train_loss_epoch, val_loss, lr-Adam,
grad_2.0_norm_total`; TensorBoard's tags are `epoch_loss` below `train/` and `validation/`, or
`loss/val`. Names are compared by their words, whatever stands between them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxopt_lab.core.errors import UserError, did_you_mean

#: What is looked for, and the option that names it.
ROLES = ("loss", "train_loss", "grad_norm", "lr")
#: Columns that say where in the training a row stands, best first.
POSITIONS = (
    *("epoch", "epochs", "step", "steps", "global_step", "trainer_global_step"),
    *("iteration", "iterations", "iter", "update", "updates"),
)
#: Columns that tell runs apart.
RUNS = ("run", "run_id", "run_name", "trial", "trial_id", "seed", "replicate", "experiment")
#: Words of a validation loss, best first.
_VALIDATION = ("val", "valid", "validation", "eval", "evaluation", "dev", "test")
_TRAINING = {"train", "training", "tr"}
_WHEN = {"epoch", "step"}
_WHOLE_NORM = {"total", "global", "train", "model", "all", "2", "0", "l2"}


def plain(name: str) -> str:
    """Lower case, words joined by `_`."""
    return "_".join(re.findall(r"[a-z0-9]+", name.casefold()))


def role_of(name: str) -> tuple[str, int] | None:
    """What a column is, and how good a candidate it is: less is better.

    Example:
      >>> role_of("val_loss"), role_of("train/loss"), role_of("lr-Adam"), role_of("val_accuracy")
      (('loss', 0), ('train_loss', 0), ('lr', 1), None)
    """
    words = plain(name).split("_")
    # A mean over an epoch comes before the loss of single steps.
    later = 10 * ("step" in words)
    rest = {word for word in words if word not in _WHEN}
    for rank, word in enumerate(_VALIDATION):
        if rest == {word, "loss"}:
            return "loss", rank + later
    if "loss" in rest and rest - {"loss"} <= _TRAINING:
        return "train_loss", later
    if rest & {"grad", "grads", "gradient", "gradients"} and "norm" in rest:
        others = rest - {"grad", "grads", "gradient", "gradients", "norm"}
        return ("grad_norm", len(others)) if others <= _WHOLE_NORM else None
    if rest == {"gradnorm"}:
        return "grad_norm", 0
    rate = rest - _TRAINING
    if rate in ({"lr"}, {"learning", "rate"}):
        return "lr", later
    return ("lr", 1 + later) if words[0] == "lr" else None


def assign(columns: Sequence[str], given: Mapping[str, Any], source: str) -> dict[str, str]:
    """Role -> column.

    Args:
      columns: names of a log.
      given: role -> column, or None, as the user named it.
      source: of the log, for messages.

    Raises:
      UserError: for a column that is not there, or if there is no loss.
    """
    found: dict[str, str] = {}
    for role in ROLES:
        wanted = given.get(role)
        if wanted is not None:
            found[role] = column(wanted, columns, source)
            continue
        known = [(role_of(name), name) for name in columns if name not in given.values()]
        mine = sorted((is_[1], name) for is_, name in known if is_ and is_[0] == role)
        if mine:
            found[role] = mine[0][1]
    if "loss" not in found and "train_loss" not in found:
        shown = ", ".join(columns[:12]) or "none"
        raise UserError(
            f"{source} has no column that looks like a loss (val_loss, loss); name it with "
            f"--loss, in Python loss=...; its columns: {shown}"
        )
    return found


def column(wanted: Any, columns: Sequence[str], source: str) -> str:
    """A column that the user named.

    Raises:
      UserError: if it is not there.
    """
    if wanted not in columns:
        raise UserError(
            f"{source} has no column {wanted!r}.{did_you_mean(str(wanted), columns)} "
            f"There are: {', '.join(columns[:12])}"
        )
    return str(wanted)


def first_of(known: Iterable[str], columns: Iterable[str]) -> list[str]:
    """The columns whose name is one of `known`, in the order of `known`."""
    by_name = {plain(name): name for name in columns}
    return [by_name[name] for name in known if name in by_name]
