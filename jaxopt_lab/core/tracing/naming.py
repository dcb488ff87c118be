"""How functions and places in a user's code are called in messages."""

import functools
import inspect
import linecache
import re
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

_PACKAGE = str(Path(__file__).resolve().parents[2])
_LIBRARIES = tuple(
    dict.fromkeys(
        str(Path(sysconfig.get_path(name)).resolve())
        for name in ("stdlib", "platstdlib", "purelib", "platlib")
    )
)
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_INSIDE = tuple(f"{folder}/" for folder in (_PACKAGE, *_LIBRARIES))


class Place(NamedTuple):
    """A line of the user's code.

    Attributes:
      function: qualified name of the function that holds it.
      file: its name without folders.
      line: from 1.
      text: of the whole statement.
    """

    function: str
    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}"


def name_of(function: Any, otherwise: str) -> str:
    """A function's qualified name, without `<locals>`.

    Args:
      function: perhaps wrapped or partial; perhaps no function at all.
      otherwise: for lambdas, callable objects and functions of this package.

    Examples:
      >>> import json
      >>> name_of(json.JSONDecoder.decode, "step"), name_of(lambda: 0, "step of build")
      ('JSONDecoder.decode', 'step of build')
    """
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    name = tidy(getattr(function, "__qualname__", ""))
    module = getattr(function, "__module__", None) or ""
    if not name or "<lambda>" in name or module.partition(".")[0] == "jaxopt_lab":
        return otherwise
    return name


def tidy(qualified: str) -> str:
    """A qualified name as one reads it in the source."""
    return qualified.replace(".<locals>", "")


def written(function: Any) -> str:
    """What a function is known by: its qualified name; of a partial or a callable object how it
    is printed, the same in every process."""
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else without_addresses(repr(function))


def without_addresses(text: str) -> str:
    """What is left of a `repr` in another process, where objects lie elsewhere in memory.

    Examples:
      >>> without_addresses("[<function relu at 0x7f3adbd00f90>, Dense(8)]")
      '[<function relu>, Dense(8)]'
    """
    return _ADDRESS.sub("", text)


def places(trace: TracebackType | None) -> list[Place]:
    """The lines of the user's own code in a traceback, innermost first.

    Lines of this package, of the standard library and of installed packages are left out; if
    nothing remains, the list is empty.
    """
    found = []
    for frame, line in traceback.walk_tb(trace):
        code = frame.f_code
        file = code.co_filename
        if _is_library(file):
            continue
        text = _statement(file, line)
        found.append(Place(tidy(code.co_qualname), Path(file).name, line, text))
    return found[::-1]


def listed(names: Iterable[str]) -> str:
    """Names in a sentence: `a`, `a and b`, `a, b and c`."""
    names = list(names)
    return " and ".join([*([", ".join(names[:-1])] if names[1:] else []), *names[-1:]])


def is_users_module(module: Any) -> bool:
    """Whether a module is the user's: a script, a notebook, what they import; no library."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str):
        return getattr(module, "__name__", "") == "__main__"
    return not file.startswith(_INSIDE)


def _is_library(file: str) -> bool:
    if file.startswith("<") and not file.startswith(("<ipython", "<string", "<stdin", "<doctest")):
        return True
    if file.startswith("<"):
        return False
    resolved = str(Path(file).resolve())
    return resolved.startswith(_INSIDE)


def _statement(file: str, line: int) -> str:
    """The source line, and those after it until its brackets close."""
    text = ""
    for number in range(line, line + 12):
        text += linecache.getline(file, number)
        if text.count("(") + text.count("[") <= text.count(")") + text.count("]"):
            break
    return text.strip()
