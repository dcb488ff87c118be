"""What a study offers from rooms below it, found by name when it is asked for.

Imports run one way, and figures, trackers and file formats know the study. A method that hands the
study over to one of them finds it here, as the package's own front page does.
"""

from importlib import import_module
from typing import Any


def later(module: str, name: str) -> Any:
    """What a module of a later room defines.

    Args:
      module: its name below the package.
      name: of the function or class.
    """
    return getattr(import_module(f"jaxopt_lab.{module}"), name)
