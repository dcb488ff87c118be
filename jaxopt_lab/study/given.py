"""What a study is given: objects, or names that stand for them."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxopt_lab import schedulers, search
from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.core.scalars import scalar
from jaxopt_lab.core.workers import Placement
from jaxopt_lab.schedulers.base import Scheduler
from jaxopt_lab.schedulers.populations import PopulationScheduler
from jaxopt_lab.search.base import Sampler
from jaxopt_lab.search.stopping import StoppingRule
from jaxopt_lab.spaces.space import SearchSpace


def budget_of(num_epochs: Any, budget: Any) -> Any:
    """Both mean the same."""
    if num_epochs is not None and budget is not None and num_epochs != budget:
        raise UserError(f"num_epochs = {num_epochs} and budget = {budget} differ; give one of them")
    return num_epochs if budget is None else budget


def check(problem: Any, space: Any) -> None:
    """Refuse what is no problem or no space.

    Raises:
      UserError: with what makes one of it.
    """
    if not hasattr(problem, "check") or not hasattr(problem, "describe"):
        raise UserError(
            "a study takes a problem, from lab.from_function, lab.from_steps, lab.supervised or "
            f"lab.tasks.tabular; got a {type(problem).__name__}"
        )
    _check_space(space)


def directory_of(directory: Any) -> Path | None:
    """Where a study is kept, or None.

    Raises:
      UserError: for what is no path.
    """
    if directory is None:
        return None
    if not isinstance(directory, str | os.PathLike):
        raise UserError(f"directory must be a path, got a {type(directory).__name__}")
    return Path(directory)


def check_search(phase: Any, space: Any, stopping: Any, progress: Any) -> None:
    """Refuse what cannot be meant by the words of one search.

    Raises:
      UserError: that says which, and what it must be.
    """
    if not isinstance(phase, str):
        raise UserError(f"phase must be a name, got {phase!r}")
    if space is not None:
        _check_space(space)
    if stopping is not None and not isinstance(stopping, StoppingRule):
        way = f"lab.stopping.target({stopping!r})" if _is_number(stopping) else "lab.stopping"
        raise UserError(f"stopping must be a rule such as {way}, got {stopping!r:.60}")
    if progress is not None and not callable(progress):
        raise UserError(
            f"progress must be a function, called after each wave, got {progress!r:.60}; "
            "callbacks=[lab.ProgressBar()] shows a bar"
        )


def _is_number(value: Any) -> bool:
    return isinstance(scalar(value), int | float)


def _check_space(space: Any) -> None:
    if not isinstance(space, SearchSpace):
        way = "lab.SearchSpace(**space)" if isinstance(space, Mapping) else "lab.SearchSpace(...)"
        raise UserError(
            f"space must be a lab.SearchSpace, got a {type(space).__name__}; give {way}"
        )


def _refuse_uncalled(what: str, given: Any, kinds: tuple[type, ...]) -> None:
    """Refuse what is no sampler or no scheduler, such as the function that makes one.

    Raises:
      UserError: with the call, if that is missing.
    """
    if not isinstance(given, kinds):
        name = getattr(given, "__name__", "")
        way = f"; call it: {name}()" if callable(given) and name else ", or its name"
        home = {"sampler": "search", "scheduler": "schedulers"}[what]
        raise UserError(f"{what} must be one of lab.{home}, got {given!r:.60}{way}")


def sampler_of(sampler: Any) -> Sampler:
    """A sampler, also by its name."""
    if not isinstance(sampler, str):
        _refuse_uncalled("sampler", sampler, (Sampler,))
        made: Sampler = sampler
        return made
    if sampler not in search.REGISTRY:
        hint = did_you_mean(sampler, search.REGISTRY)
        known = ", ".join(search.REGISTRY)
        raise UserError(f"unknown sampler {sampler!r}.{hint} Known: {known}")
    return search.REGISTRY[sampler]()


def scheduler_of(scheduler: Any, race: bool) -> Scheduler | PopulationScheduler | None:
    """A scheduler, also by its name, or by the flag that stands for one."""
    if scheduler is not None and race:
        raise UserError("give race or a scheduler, not both")
    if isinstance(scheduler, str):
        found: Scheduler | PopulationScheduler | None = schedulers.make(scheduler)
        return found
    if scheduler is not None:
        _refuse_uncalled("scheduler", scheduler, (Scheduler, PopulationScheduler))
    made: Scheduler | PopulationScheduler | None = scheduler
    return schedulers.race() if race else made


def devices_of(devices: Sequence[Any] | None, placement: Any) -> list[Any]:
    """Devices of this process, or those of a worker.

    Raises:
      UserError: for both, or what is no placement.
    """
    if placement is None:
        found = jax.local_devices() if devices is None else list(devices)
        if not found or not all(hasattr(device, "platform") for device in found):
            raise UserError(
                f"devices must be a list of JAX devices, such as jax.devices()[:1], got {devices!r}"
            )
        return found
    if devices is not None:
        raise UserError("give devices or a placement, whose workers have devices of their own")
    if not isinstance(placement, Placement):
        raise UserError(
            f"placement must be one of lab.placements, got {type(placement).__name__}; as in "
            "placement=lab.placements.ray()"
        )
    return list(placement.devices())
