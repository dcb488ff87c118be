"""Which loss a command asks for: by options, or by a table of the space file."""

from typing import Any

from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.datasets import TargetLoss
from jaxopt_lab.spaces.space import read_toml

TABLE = "loss"
_NAMES = ("name", "quantile")


def read_loss(given: str | None, quantile: float | None, space_file: str | None) -> TargetLoss:
    """The loss that a target is learnt by.

    Args:
      given: its name on the command line; None if there is none.
      quantile: on the command line; None if there is none.
      space_file: a TOML file that may have a table `[loss]` of `name` and `quantile`.

    Raises:
      UserError: for a file that cannot be read, something unknown, or two answers.
    """
    table: dict[str, Any] = read_toml(space_file, TABLE, optional=True) if space_file else {}
    for name in table:
        if name not in _NAMES:
            hint = did_you_mean(name, _NAMES)
            raise UserError(f"{space_file}: [{TABLE}] has no {name!r}.{hint} Known: name, quantile")
    for name, mine, option in (("name", given, "loss"), ("quantile", quantile, "quantile")):
        if mine is not None and table.get(name, mine) != mine:
            raise UserError(
                f"{space_file}: its table [{TABLE}] has the {name} {table[name]!r}, --{option} is "
                f"{mine}; give one of them"
            )
    level = table.get("quantile") if quantile is None else quantile
    try:
        return TargetLoss(given or table.get("name", "squared"), level)
    except UserError as error:
        raise UserError(f"{space_file}: {error}" if table else str(error)) from None
