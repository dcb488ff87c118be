"""An exception of the user's function as one line: function, hyperparameter, mend."""

import re
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.core.tracing.leaks import is_leak
from jaxopt_lab.core.tracing.naming import Place, listed, places
from jaxopt_lab.core.tracing.recorded import UnknownName

#: How JAX's messages name the arguments that a value depends on.
_HPARAM = re.compile(r"hparams(?:\[['\"](\w+)['\"]\]|\.(\w+))")
_OPTAX_SCHEDULES = re.compile(r"optax[/\\](?:schedules|_src)[/\\]_?schedule")
_ARGUMENT = re.compile(r"depends on the values? of the arguments? (.+?)\.(?:\s|$)", re.DOTALL)
#: Schedules of Optax's that `lab.schedules` has for traced numbers.
TRACEABLE_SCHEDULES = frozenset(
    {
        "cosine_decay_schedule",
        "cosine_onecycle_schedule",
        "exponential_decay",
        "linear_schedule",
        "polynomial_schedule",
        "warmup_cosine_decay_schedule",
        "warmup_exponential_decay_schedule",
    }
)
_SHAPE = "Shapes must be 1D sequences of concrete values"
#: Longest part of somebody else's message that is quoted, characters.
_QUOTED = 240


class Subject(NamedTuple):
    """What was called when it failed.

    Attributes:
      function: its name in messages.
      source: name of the builder (or of the one function) whose keywords are static.
      traced: name -> a concrete value that a traced hyperparameter might have.
      static: name -> value of the static hyperparameters.
    """

    function: str
    source: str
    traced: Mapping[str, Any]
    static: Mapping[str, Any]


def explain(
    error: Exception, subject: Subject, retry: Callable[[str], None] | None = None
) -> UserError:
    """Say in one line what went wrong in a user's function and what to do.

    Args:
      error: what it raised while it was traced.
      subject: what was called.
      retry: traces it again with one hyperparameter as a concrete number, so that the cause of an
        error can be told by its going away.
    """
    if isinstance(error, UserError):
        return error
    where = places(error.__traceback__)
    if isinstance(error, UnknownName):
        at = f" ({where[0]})" if where else ""
        return UserError(f"{_function(subject, where)}{at}: {error}")
    if is_leak(error):
        return _leak(error, subject, where)
    schedule = _schedule(error)
    if schedule is not None:
        return _by_schedule(schedule, subject, where)
    deed = _deed(error, where)
    if deed is not None or isinstance(error, _MAY_COME_OF_TRACERS):
        names = _culprits(error, subject, where, retry, certain=deed is not None)
        if names:
            return _by_hyperparameters(error, subject, where, names, deed)
    if deed is not None:
        return _by_others(error, subject, where, deed)
    return _any_other(error, subject, where)


#: Exceptions that may come of a traced value where a number was expected.
_MAY_COME_OF_TRACERS = (TypeError, ValueError, IndexError, LookupError, AttributeError)


def _deed(error: Exception, where: list[Place]) -> str | None:
    """What was done to a traced value that needs a number; `{}` stands for the value."""
    text, line = str(error), where[0].text if where else ""
    if isinstance(error, jax.errors.NonConcreteBooleanIndexError):
        return "selects elements by a condition on {}, so that their number is unknown"
    if isinstance(error, jax.errors.TracerArrayConversionError):
        return "gives {} to NumPy"
    if isinstance(error, jax.errors.TracerBoolConversionError):
        return "branches in Python (if, while, and, or, not, min, max) on {}"
    if isinstance(error, jax.errors.TracerIntegerConversionError):
        return "calls range() with {}" if "range(" in line else "needs {} as a Python integer"
    if _SHAPE in text:
        return "makes a shape of {}"
    if isinstance(error, jax.errors.ConcretizationTypeError):
        if "`float`" in text or "`int`" in text or "`bool`" in text or "item()" in text:
            return "turns {} into a Python number (float(), int(), .item())"
        return "needs {} as a Python number (a length or a size)"
    if isinstance(error, TypeError) and "unhashable" in text and "Tracer" in text:
        return "looks {} up in a dict or a set"
    return None


def _culprits(
    error: Exception,
    subject: Subject,
    where: list[Place],
    retry: Callable[[str], None] | None,
    certain: bool,
) -> list[str]:
    named = {a or b for a, b in _HPARAM.findall(_arguments(error))}
    found = [name for name in subject.traced if name in named]
    if found:
        return found
    if _arguments(error) and not _inner_argument(error):
        return []
    if retry is not None:
        found = [name for name in subject.traced if _differs(error, where, retry, name)]
    if not found and certain:
        # The value went through an inner jitted function: look who is named on the way in.
        for place in where:
            found = [name for name in subject.traced if re.search(rf"\b{name}\b", place.text)]
            if found:
                break
    return found


def _differs(error: Exception, where: list[Place], retry: Callable[[str], None], name: str) -> bool:
    try:
        retry(name)
    except UserError:
        return True
    except Exception as other:
        same_place = [p[:3] for p in places(other.__traceback__)] == [p[:3] for p in where]
        return type(other) is not type(error) or not same_place
    return True


def _arguments(error: Exception) -> str:
    match = _ARGUMENT.search(str(error))
    return match.group(1) if match else ""


def _inner_argument(error: Exception) -> bool:
    """Whether JAX names an argument of a function inside ours, not of ours."""
    ours = ("key", "hparams", "state", "shared")
    return not any(re.match(rf"{name}\b", _arguments(error)) for name in ours)


def _by_hyperparameters(
    error: Exception, subject: Subject, where: list[Place], names: list[str], deed: str | None
) -> UserError:
    at = f" ({where[0]})" if where else ""
    what = listed(names)
    several = len(names) > 1
    if deed is None:
        done = f"cannot use {what}, a traced value: {_quoted(error)}"
    else:
        done = deed.format(what)
    branch = ""
    if isinstance(error, jax.errors.TracerBoolConversionError):
        branch = ", or branch with jnp.where or jax.lax.cond"
        if _inside(error, "flax", "stochastic.py"):
            branch = ", or use lab.models.Dropout, whose rate may be traced"
    elif isinstance(error, jax.errors.NonConcreteBooleanIndexError):
        branch = ", or mask with jnp.where"
    elif isinstance(error, jax.errors.TracerArrayConversionError):
        branch = ", or use jax.numpy"
    them = f"{what} keywords" if several else f"{what} a keyword"
    return UserError(
        f"{_function(subject, where)} {done}{at}, "
        f"{'whose values are' if several else 'whose value is'} traced (one program for all "
        f"trials): make {them} of {subject.source}, or lab.Choice([...], static=True){branch}"
    )


def _schedule(error: Exception) -> str | None:
    """The schedule of Optax's that asked for the value of a traced number."""
    if not isinstance(error, jax.errors.ConcretizationTypeError):
        return None
    frames = traceback.extract_tb(error.__traceback__)
    asked = [frame.name for frame in frames if _OPTAX_SCHEDULES.search(frame.filename)]
    return asked[0] if asked else None


def _by_schedule(schedule: str, subject: Subject, where: list[Place]) -> UserError:
    at = f" ({where[0]})" if where else ""
    mend = (
        f"use lab.schedules.{schedule}, which has the same arguments and values"
        if schedule in TRACEABLE_SCHEDULES
        else "write the schedule as a function, lambda step: hparams.learning_rate * ..., or give "
        "it numbers of Python's"
    )
    return UserError(
        f"{_function(subject, where)} gives optax.{schedule}{at} a traced number (one program for "
        f"all trials), of which it needs the value: {mend}"
    )


def _inside(error: BaseException, *parts: str) -> bool:
    """Whether an exception passed through a file whose path holds these parts."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(all(part in frame.filename for part in parts) for frame in frames)


def _by_others(error: Exception, subject: Subject, where: list[Place], deed: str) -> UserError:
    at = f" ({where[0]})" if where else ""
    arguments = "" if _inner_argument(error) else " ".join(_arguments(error).split())
    what = f"a traced value ({arguments})" if arguments else "a traced value"
    if isinstance(error, jax.errors.TracerArrayConversionError):
        mend = "use jax.numpy there"
    elif isinstance(error, jax.errors.TracerBoolConversionError):
        mend = "use jnp.where or jax.lax.cond (jax.lax.while_loop for a loop)"
    elif isinstance(error, jax.errors.NonConcreteBooleanIndexError):
        mend = "mask with jnp.where, which keeps the shape"
    else:
        mend = f"take it from a keyword of {subject.source} or from the shape of an array"
    return UserError(f"{_function(subject, where)} {deed.format(what)}{at}: {mend}")


def _leak(error: Exception, subject: Subject, where: list[Place]) -> UserError:
    holder = re.search(r"is referred to by (?!<)([\w.]+)", str(error))
    into = f" ({holder.group(1)})" if holder else ""
    at = f" ({where[0]})" if where else ""
    return UserError(
        f"{_function(subject, where)}{at} is not pure: it puts a traced value where it outlives "
        f"the call{into}, a global or an attribute, say, or takes one from there; return it in the "
        "state or the metrics, and make an optimizer of it in step, not in a TrainState"
    )


def _any_other(error: Exception, subject: Subject, where: list[Place]) -> UserError:
    text = f"{type(error).__name__}: {_quoted(error)}"
    notes = ""
    if where:
        statics = [
            f"{name} is {value!r}"
            for name, value in subject.static.items()
            if not isinstance(value, bool | int | float) and _mentions(where[0], name)
        ]
        notes = f"; there {listed(statics)}" if statics else ""
    known = [*subject.traced, *subject.static]
    if isinstance(error, KeyError) and error.args and isinstance(error.args[0], str):
        missing = error.args[0]
        if missing not in known:
            notes += (
                f" (hyperparameters: {', '.join(known) or 'none'}).{did_you_mean(missing, known)}"
            )
    at = f" ({where[0]})" if where else ""
    return UserError(f"{_function(subject, where)} failed{at}: {text}{notes}")


def _mentions(place: Place, name: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b", place.text) is not None


def _function(subject: Subject, where: list[Place]) -> str:
    """The user's function that was called, and the one inside it that failed, if another."""
    if not where or where[0].function in (subject.function, "<lambda>", "<module>"):
        return subject.function
    if where[0].function.rpartition(".")[2] == subject.function.rpartition(".")[2]:
        return subject.function
    return f"{subject.function}, in {where[0].function},"


def _quoted(error: Exception) -> str:
    text = " ".join(str(error).split())
    text = text.partition(" The error occurred while tracing")[0]
    text = text.partition(" -------------------- For simplicity")[0]
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED].rstrip()} ..."
