"""Calls of public functions that Python refuses: one line in our words instead of its TypeError."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.core.synonyms import ARGUMENTS, fold, names_a_hyperparameter

if TYPE_CHECKING:
    import inspect

F = TypeVar("F", bound=Callable[..., Any])

#: What stands elsewhere than where people of other libraries look for it.
_ELSEWHERE: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("objective", "direction"),
        "the problem has it: lab.from_function(train, objective=..., direction=...)",
    ),
    (("num_trials", "n_trials"), "give it to study.optimize(..., num_trials=N)"),
    (("budget",), "give it to study.optimize(..., budget=N), in units of the problem"),
    (("time_limit",), "give it to study.optimize(..., time_limit=SECONDS)"),
    (("sampler", "scheduler"), "give it to study.optimize(sampler, ..., scheduler=...)"),
    (("seed",), "give it to lab.Study(..., seed=0)"),
    (("num_seeds",), "the problem has it: lab.from_function(train, num_seeds=4)"),
    (("directory",), "give it to lab.Study(problem, space, directory=...)"),
    (("callbacks",), "give it to lab.Study(..., callbacks=[...]) or to study.optimize"),
    (
        ("n_jobs", "num_workers", "max_concurrent_trials", "max_parallel_trials", "num_cpus"),
        "trials train side by side on all devices; lab.use_all_cores() before JAX starts makes "
        "one of each core",
    ),
    (
        ("study_name", "load_if_exists", "storage", "resume"),
        "directory=... keeps a study and goes on with it; study.to_optuna(storage) writes one of "
        "Optuna's",
    ),
    (("verbose", "show_progress_bar"), "callbacks=[lab.ProgressBar()] shows it"),
)


def checked_call(*, by_place: str = "", **words: str) -> Callable[[F], F]:
    """Refuse arguments that a function does not take with a `UserError` that says what to give.

    The function is called as it is; only if Python could not call it, the line is made. Its
    signature, annotations and documentation stay.

    Args:
      by_place: what to do if too many arguments are given by place.
      **words: name of an argument that it does not have -> what to do instead.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except TypeError:
                line = _misfit(function, args, kwargs, by_place, words)
                if line is None:
                    raise
            raise UserError(line)

        return cast("F", checked)

    return decorate


def _misfit(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    by_place: str,
    words: dict[str, str],
) -> str | None:
    """Why a function cannot be called with these arguments; None if it can."""
    import inspect

    signature = inspect.signature(function)
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        pass
    else:
        return None
    name = _name(function, args)
    parameters = list(signature.parameters.values())
    if next(iter(signature.parameters), None) == "self":
        parameters, args = parameters[1:], args[1:]
    known = [p.name for p in parameters if _is_named(p)]
    unknown = [word for word in kwargs if word not in known]
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters):
        return f"{name} has no argument {unknown[0]!r}{_mend(unknown[0], known, words)}"
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(args) > len(places):
        taken = ", ".join(p.name for p in places) or "nothing"
        mend = by_place or f"give the others by name: {', '.join(known[len(places) :]) or 'none'}"
        return f"{name} takes {taken} by place, got {len(args)} arguments; {mend}"
    twice = [p.name for p in places[: len(args)] if p.name in kwargs]
    if twice:
        return f"{name}: {twice[0]} is given twice, by place and by name"
    missing = [p for p in _needed(parameters[len(args) :]) if p not in kwargs]
    return f"{name} needs {' and '.join(missing)}: {name}({_written(parameters)})"


def _mend(word: str, known: list[str], words: dict[str, str]) -> str:
    if word in words:
        return f"; {words[word]}"
    near = difflib.get_close_matches(fold(word), known, n=1, cutoff=0.88)
    same = near[0] if near else _meant(word, known)
    if same is not None:
        return f". Did you mean {same!r}?"
    for others, sentence in _ELSEWHERE:
        if fold(word) in others or _meant(word, others) is not None:
            return f"; {sentence}"
    if names_a_hyperparameter(word):
        return (
            f"; it is a hyperparameter: give it a range or a value, lab.SearchSpace({word}=...) "
            f"say, and read hparams[{word!r}] where it is used"
        )
    return f".{did_you_mean(word, known)} It has: {', '.join(known) or 'none'}"


def _meant(word: str, known: Iterable[str]) -> str | None:
    """The known argument that means the same, if there is one."""
    typed = fold(word)
    group = next((group for group in ARGUMENTS if typed in group), (typed,))
    names = list(known)
    return next((other for other in group if other in names), None)


def _needed(parameters: list[inspect.Parameter]) -> list[str]:
    return [p.name for p in parameters if _is_named(p) and p.default is p.empty]


def _written(parameters: list[inspect.Parameter]) -> str:
    """What must be given, as one writes a call."""
    given = [
        f"{p.name}=..." if p.kind is p.KEYWORD_ONLY else p.name
        for p in parameters
        if _is_named(p) and p.default is p.empty
    ]
    return ", ".join([*given, "..."])


def _is_named(p: inspect.Parameter) -> bool:
    return p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and not p.name.startswith("_")


def _name(function: Callable[..., Any], args: tuple[Any, ...]) -> str:
    """As people call it: `Uniform`, `study.optimize`, `from_function`."""
    owner, _, name = function.__qualname__.rpartition(".")
    if name == "__init__" and args:
        return type(args[0]).__name__
    if name == "__new__" and args:
        return str(args[0].__name__)
    return f"{owner}.{name}" if owner else name
