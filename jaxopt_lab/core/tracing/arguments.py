"""Whether a function can be called as it will be: number of arguments, keywords of a builder."""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from jaxopt_lab.core.errors import UserError, did_you_mean


def check_arguments(function: Any, name: str, arguments: tuple[str, ...]) -> None:
    """Refuse a function that cannot take these positional arguments.

    Args:
      function: of the user.
      name: how it is called in messages.
      arguments: what it is going to be called with.

    Raises:
      UserError: if it is no function, or has another number of arguments.
    """
    given = f"({', '.join(arguments)})"
    if not callable(function):
        raise UserError(
            f"{name} must be a function of {given}, got {type(function).__name__} {function!r:.60}"
        )
    signature = _signature(function)
    if signature is None:
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        together = "hparams" in arguments and "hparams" not in signature.parameters
        mend = "; hparams holds all traced hyperparameters" if together else ""
        raise UserError(
            f"{name} is called with {given}, but is written with {_written(signature)}: "
            f"{error}{mend}"
        ) from error
    places = {p: i for i, p in enumerate(signature.parameters)}
    misplaced = [p for i, p in enumerate(arguments) if places.get(p, i) != i]
    if misplaced:
        raise UserError(
            f"{name} is called with {given}, but is written with {_written(signature)}: "
            f"{misplaced[0]} stands in another place; exchange them"
        )


def check_together(function: Any, name: str, place: int, hparams: Collection[str]) -> None:
    """Refuse a function that wants one hyperparameter where it is given all of them.

    Args:
      function: of the user.
      name: how it is called in messages.
      place: of the hyperparameters among its arguments, from 0.
      hparams: names of the hyperparameters.

    Raises:
      UserError: if its parameter at that place has the name of one.
    """
    signature = _signature(function)
    parameters = list(signature.parameters.values()) if signature else []
    if place < len(parameters) and parameters[place].name in hparams:
        one = parameters[place].name
        written = [*(p.name for p in parameters[:place]), "hparams"]
        raise UserError(
            f"{name} takes {one} where it is given all hyperparameters together: write "
            f"{name}({', '.join(written)}, ...) and hparams[{one!r}] inside; what Python must see "
            "is a keyword, after the *"
        )


def keywords_of(builder: Callable[..., Any], required: Any, skip: int = 0) -> dict[str, Any]:
    """The keywords of a builder and their defaults.

    Args:
      builder: a function, class or partial.
      required: what stands for no default.
      skip: number of leading positional arguments that are no keywords: 2 for
        `train(key, hparams, *, num_units=32)`.

    Returns:
      Name -> default. `**kwargs` is left out.

    Examples:
      >>> keywords_of(lambda key, hparams, *, num_units=32, depth: None, required=..., skip=2)
      {'num_units': 32, 'depth': Ellipsis}
    """
    signature = _signature(builder)
    if signature is None:
        return {}
    parameters = [p for p in signature.parameters.values() if p.kind not in _COLLECTING][skip:]
    return {
        p.name: required if p.default is p.empty else p.default
        for p in parameters
        if p.kind is not p.POSITIONAL_ONLY
    }


def takes_any_keyword(builder: Callable[..., Any]) -> bool:
    """Whether a builder has `**kwargs`."""
    signature = _signature(builder)
    return signature is None or any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())


def check_keywords(
    source: str,
    keywords: Mapping[str, Any],
    given: Collection[str],
    *,
    required: Any,
    named: Collection[str] = (),
) -> None:
    """Refuse keywords of a builder that have neither a value nor a default.

    Args:
      source: the builder's name in messages.
      keywords: name -> default.
      given: names that the space or the problem gives a value.
      required: what stands for no default.
      named: names that are meant as keywords of this builder and must be there: those that the
        user fixed by hand, say.

    Raises:
      UserError: for a keyword without value, or a name that is no keyword.
    """
    for name in named:
        if name not in keywords:
            has = ", ".join(keywords) or "none"
            raise UserError(
                f"{source} has no keyword {name!r} (it has: {has}).{did_you_mean(name, keywords)}"
            )
    for name, default in keywords.items():
        if name not in given and default is required:
            near = did_you_mean(name, set(given) - set(keywords))
            raise UserError(
                f"{source}: the keyword {name!r} has neither a range nor a default: add "
                f"{name}=lab.Choice([...]) to the space, or a default to {source}.{near}"
            )


_COLLECTING = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _signature(function: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None  # Built in: what it takes cannot be seen.


def _written(signature: inspect.Signature) -> str:
    names: list[str] = []
    for p in signature.parameters.values():
        if p.kind is p.KEYWORD_ONLY and not any(name.startswith("*") for name in names):
            names.append("*")
        star = "*" if p.kind is p.VAR_POSITIONAL else "**" if p.kind is p.VAR_KEYWORD else ""
        names.append(f"{star}{p.name}")
    return f"({', '.join(names)})"
