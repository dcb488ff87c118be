"""Which scheduler a command asks for: by an option, or by a table of the space file."""

from typing import Any

from jaxopt_lab import schedulers
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.spaces.space import read_toml

TABLE = "scheduler"


def read_scheduler(
    given: str | None, space_file: str | None, default: str
) -> tuple[str, dict[str, Any]]:
    """Name and settings of a scheduler.

    Args:
      given: the name on the command line; None if there is none.
      space_file: a TOML file that may have a table `[scheduler]`: `name`, and settings by name.
      default: the name where nobody says one.

    Returns:
      The name, and the settings that the file has.

    Raises:
      UserError: for a file that cannot be read, an unknown name or setting, or two names.
    """
    table = read_toml(space_file, TABLE, optional=True) if space_file else {}
    named = table.pop("name", None)
    if named is not None and given not in (None, named):
        raise UserError(
            f"{space_file}: its table [{TABLE}] has the name {named!r}, --scheduler is {given}; "
            "give one of them"
        )
    name = given or default if named is None else named
    try:
        schedulers.make(name, table)
    except UserError as error:
        where = f"{space_file}: " if table or named is not None else ""
        raise UserError(f"{where}{error}") from None
    return name, table
