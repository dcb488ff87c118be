"""A Python script that exports a problem: executed as a module, its mistakes in one line each."""

import hashlib
import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxopt_lab.core.errors import MachineError, UserError, did_you_mean
from jaxopt_lab.problems import TabularTask
from jaxopt_lab.problems.general import GeneralProblem
from jaxopt_lab.spaces.space import SearchSpace

PROBLEM, SPACE = "problem", "space"
KINDS = (GeneralProblem, TabularTask)
_HOW = "problem = lab.from_function(train)"


@dataclass(frozen=True)
class Exported:
    """What a sweep takes from a script.

    Attributes:
      problem: what is trained.
      space: where to search.
      name: of the problem in the script.
      sha256: of the script's text.
      module: name of the script as a module of this process.
    """

    problem: Any
    space: SearchSpace
    name: str
    sha256: str
    module: str


def split_name(given: str) -> tuple[Path, str | None]:
    """`FILE.py:NAME` -> the file and the name, None without one.

    Raises:
      UserError: for a file of another kind, or a name that is none.

    Examples:
      >>> split_name("experiments/train.py:digits")[1]
      'digits'
    """
    file, colon, name = given.rpartition(":")
    if not (colon and file.endswith(".py")):
        file, name = given, ""
    elif not name.isidentifier():
        raise UserError(f"{given}: {name!r} is no name in a script; write FILE.py or FILE.py:NAME")
    path = Path(file).expanduser()
    if path.suffix != ".py":
        raise UserError(f"{path} is no Python script; give FILE.py or FILE.py:NAME")
    return path, name or None


def load(path: Path, name: str | None, space_file: str | None) -> Exported:
    """Execute a script and take its problem and its space.

    Its own folder comes first on `sys.path`, as when Python runs it; `__name__` is the name of the
    file, so that what stands under `if __name__ == "__main__"` is left out.

    Args:
      path: of the script.
      name: of the problem in it; None for `problem`, or the only one there is.
      space_file: a TOML file with a table `[space]`; None for the script's `space`.

    Raises:
      UserError: in one line, for a script that is not there, cannot be read or fails, and for a
        problem or a space that is missing or is not the only one.
    """
    source = _read(path)
    module = _execute(path, source)
    name = name or _name_of_problem(path, module)
    problem = _take(path, module, name, KINDS, f"a problem, as in {_HOW}")
    if space_file is None:
        space = _space_of(path, module)
    else:
        space = _space_from(space_file)
    return Exported(problem, space, name, hashlib.sha256(source).hexdigest(), module.__name__)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None


def _execute(path: Path, source: bytes) -> ModuleType:
    stem = path.stem
    module = ModuleType(stem if stem not in sys.modules else f"{stem} (swept)")
    module.__file__ = str(path)
    folder = str(path.absolute().parent)
    if sys.path[:1] != [folder]:
        sys.path.insert(0, folder)
    # Dataclasses, Flax and typing look a class's module up by name.
    sys.modules[module.__name__] = module

    def run() -> None:
        code = compile(source, str(path), "exec", dont_inherit=True)
        exec(code, module.__dict__)

    _guarded(path, run)
    return module


def _guarded(path: Path, call: Callable[[], Any]) -> Any:
    """Call the user's code; whatever it raises becomes one line that says where."""
    try:
        return call()
    except SyntaxError as error:
        where = f"{error.filename or path}, line {error.lineno}"
        raise UserError(f"{where}: {type(error).__name__}: {error.msg}") from error
    except (MachineError, MemoryError):
        raise
    except UserError as error:
        raise UserError(f"{_where(path, error)}: {error}") from error
    except ImportError as error:
        raise UserError(
            f"{_where(path, error)}: {error}; install it, or mend the import"
        ) from error
    except SystemExit as error:
        raise UserError(
            f"{_where(path, error)}: the script ends there; what is for the command line belongs "
            'under if __name__ == "__main__":'
        ) from error
    except Exception as error:
        raise UserError(f"{_where(path, error)}: {type(error).__name__}: {error}") from error


def _where(path: Path, error: BaseException) -> str:
    """The script, and the last line of it that was reached."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f"{path}, line {lines[-1]}" if lines else str(path)


def _public(module: ModuleType, kinds: Any) -> dict[str, Any]:
    """Name -> value, each value once."""
    found: dict[str, Any] = {}
    for name, value in vars(module).items():
        is_new = all(value is not other for other in found.values())
        if not name.startswith("_") and isinstance(value, kinds) and is_new:
            found[name] = value
    return found


def _name_of_problem(path: Path, module: ModuleType) -> str:
    if PROBLEM in vars(module):
        return PROBLEM
    found = list(_public(module, KINDS))
    if len(found) == 1:
        return found[0]
    if not found:
        raise UserError(
            f"{path} has no problem; write one at its top level, as in {_HOW}, or a function that "
            "returns one"
        )
    raise UserError(
        f"{path} has {len(found)} problems: {', '.join(found)}; say which: {path}:{found[0]}"
    )


def _take(path: Path, module: ModuleType, name: str, kinds: Any, what: str) -> Any:
    """A value of a script by name, or what a function of no arguments returns."""
    if name not in vars(module):
        known = [n for n in vars(module) if not n.startswith("_")]
        raise UserError(f"{path} has no {name!r}.{did_you_mean(name, known)}")
    value = vars(module)[name]
    if isinstance(value, kinds):
        return value
    where = f"{path}: {name}"
    if not callable(value):
        raise UserError(f"{where} must be {what}, got {_kind(value)}")
    needed = _needed(value)
    if needed:
        raise UserError(
            f"{where} is a function of {', '.join(needed)}; it must be {what}, or a function of no "
            "arguments that returns it"
        )
    found = _guarded(path, value)
    if not isinstance(found, kinds):
        raise UserError(f"{where}() must return {what}, got {_kind(found)}")
    return found


def _needed(function: Callable[..., Any]) -> list[str]:
    """Arguments without a default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in optional]


def _space_of(path: Path, module: ModuleType) -> SearchSpace:
    if SPACE not in vars(module):
        others = [*_public(module, SearchSpace), *(n for n in vars(module) if n.lower() == SPACE)]
        hint = f" It has {others[0]!r}: call a SearchSpace {SPACE!r}." if others else ""
        raise UserError(
            f"{path} has no search space; write space = lab.SearchSpace(...) in it, or give "
            f"--space FILE.toml.{hint}"
        )
    found: SearchSpace = _take(path, module, SPACE, SearchSpace, "a lab.SearchSpace")
    return found


def _space_from(file: str) -> SearchSpace:
    try:
        return SearchSpace.from_toml(file)
    except UserError as error:
        text = str(error)
        raise UserError(text if file in text else f"{file}: {text}") from None


def _kind(value: Any) -> str:
    return "None" if value is None else f"{type(value).__name__}"
