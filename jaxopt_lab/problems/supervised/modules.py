"""What a user gives as `model`, and the pure functions that training needs of it."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
from flax import nnx

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.types import PRNGKey, PyTree
from jaxopt_lab.problems.general import REQUIRED
from jaxopt_lab.problems.supervised.batches import Batch


class Variables(NamedTuple):
    """What a module computes with.

    Attributes:
      params: what the optimizer moves, nested dicts.
      collections: what the module itself moves, such as `batch_stats`; keys of random numbers as
        uint32 data. {} without any.
    """

    params: PyTree
    collections: PyTree


class Network(NamedTuple):
    """Pure functions of one module.

    Attributes:
      module: the linen module; of NNX its graph definition.
      init: (key, batch, hparams) -> `Variables`.
      apply: (variables, batch, hparams, key, train) -> (outputs, collections).
      arguments: (variables, hparams, key, train) -> what a loss of the whole form is given of the
        module: `module`, `variables`, `rngs`.
      moved: (arguments, collections a loss returned or None) -> collections.
      exported: variables -> what is kept of a trained trial.
    """

    module: Any
    init: Callable[[PRNGKey, Batch, Any], Variables]
    apply: Callable[[Variables, Batch, Any, PRNGKey, bool], tuple[PyTree, PyTree]]
    arguments: Callable[[Variables, Any, PRNGKey, bool], dict[str, Any]]
    moved: Callable[[dict[str, Any], Any], PyTree]
    exported: Callable[[Variables], PyTree]


class Builder(NamedTuple):
    """What a user gives as `model`.

    Attributes:
      name: for messages.
      keywords: name -> default, `REQUIRED` without one.
      make: (**keywords) -> a linen module, or a function of `rngs` that makes an NNX module.
    """

    name: str
    keywords: Mapping[str, Any]
    make: Callable[..., Any]


def name_of(function: Any) -> str:
    """What a function or class is called, for messages and to know it again."""
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def parameters_of(function: Any) -> Mapping[str, inspect.Parameter]:
    """The parameters of a function; none where Python cannot tell."""
    is_nnx = inspect.isclass(function) and issubclass(function, nnx.Module)
    try:
        # The metaclass of NNX hides what a class takes.
        found = inspect.signature(function.__init__ if is_nnx else function).parameters
    except (TypeError, ValueError):
        return {}
    return dict(list(found.items())[1:]) if is_nnx else found


def needed_by(function: Any) -> list[str]:
    """Names of the parameters that have no default, in order."""
    return [
        name
        for name, parameter in parameters_of(function).items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and parameter.default is parameter.empty
    ]


def taken_as(function: Any, name: str, place: int) -> str | None:
    """The parameter that takes something: the one of its name, or else the one without a default in
    its place, whatever its name; None where a function takes no such thing.

    Args:
      function: of a user.
      name: of what is given.
      place: of its parameter among those without a default, from 0.
    """
    found, needed = parameters_of(function), needed_by(function)
    if name in found:
        return name
    other = needed[place] if len(needed) > place else None
    by_name = other and found[other].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    return other if by_name else None


def read_builder(model: Any) -> Builder:
    """Understand what was given as `model`.

    Args:
      model: a function of keywords that returns a linen module or a function of `rngs`; a linen or
        NNX class; a linen module; a function of `rngs`.

    Raises:
      UserError: for anything else.
    """
    if isinstance(model, nn.Module):
        return Builder(type(model).__name__, {}, lambda: model)
    if isinstance(model, nnx.Module):
        name = type(model).__name__
        raise UserError(
            f"model is an NNX module that exists already, and every trial needs one of its own: "
            f"give a function of rngs, such as lambda rngs: {name}(..., rngs=rngs)"
        )
    if not callable(model):
        raise UserError(
            "model must be a function that returns a Flax module, a Flax class or a linen module, "
            f"got {type(model).__name__}"
        )
    name, found = name_of(model), dict(parameters_of(model))
    is_class = inspect.isclass(model)
    if is_class and issubclass(model, nn.Module):
        found = {key: value for key, value in found.items() if key not in ("parent", "name")}
    elif "rngs" in found:
        del found["rngs"]
        whole = model

        def later(**keywords: Any) -> Callable[..., Any]:
            return lambda rngs: whole(rngs=rngs, **keywords)

        model = later
    keywords = {}
    for key, parameter in found.items():
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise UserError(f"{name} takes {key!r} by position only; make it a keyword")
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        no_default = parameter.default is parameter.empty
        keywords[key] = REQUIRED if no_default else parameter.default
    return Builder(name, keywords, model)


def call_keywords(module: Any, train: bool, given: Mapping[str, Any]) -> dict:
    """Which keywords a module's `__call__` gets: those that it names.

    Args:
      module: whose `__call__` takes inputs first.
      train: whether in training: `train` is that, `deterministic` the contrary.
      given: others that it may name: `hparams`, `mask`, `rngs`.

    Raises:
      UserError: if it wants more.
    """
    call = type(module).__call__
    offered = dict.fromkeys(("train", "training", "is_training"), train)
    offered |= {"deterministic": not train, **given}
    unknown = [name for name in needed_by(call)[2:] if name not in offered]  # self, inputs
    if unknown:
        raise UserError(
            f"{type(module).__name__}.__call__ takes {unknown[0]!r}, which nothing gives: it gets "
            f"the inputs, several as one tuple or dict, and what it names of {', '.join(offered)}"
        )
    return {name: offered[name] for name in list(parameters_of(call))[1:] if name in offered}
