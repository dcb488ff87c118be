"""What is kept of trials in other people's formats: safetensors, Orbax, Flax's own states."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.types import PyTree
from jaxopt_lab.storage.files import write_file
from jaxopt_lab.study.views import Population


def named(tree: PyTree) -> dict[str, np.ndarray]:
    """The arrays of a tree by their paths in it, joined by "/".

    Examples:
      >>> list(named({"params": {"kernel": np.ones(2)}, "steps": [np.zeros(1)]}))
      ['params/kernel', 'steps/0']
    """
    found, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {"/".join(_step(key) for key in path): np.asarray(leaf) for path, leaf in found}


def _step(key: Any) -> str:
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def save_safetensors(tree: PyTree, path: str | Path, about: Mapping[str, str]) -> None:
    """Write the arrays of a tree to a safetensors file.

    Args:
      tree: of arrays.
      path: of the file.
      about: metadata.

    Raises:
      MachineError: if the file cannot be written.
    """
    from safetensors.numpy import save

    arrays = {name or "result": np.ascontiguousarray(x) for name, x in named(tree).items()}
    write_file(Path(path).expanduser(), save(arrays, dict(about)))


def save_orbax(tree: PyTree, path: str | Path) -> None:
    """Write a tree as a checkpoint of Orbax.

    Args:
      tree: of arrays.
      path: of a directory that is not there yet.

    Raises:
      UserError: if it is there.
    """
    import orbax.checkpoint as ocp

    place = Path(path).expanduser().resolve()
    if place.exists():
        raise UserError(f"{path} is there already: Orbax writes a checkpoint into a new directory")
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(place, tree)


def save_population(population: Population, path: str | Path, devices: Sequence[Any]) -> None:
    """Write a population as one checkpoint, its members spread over devices.

    Args:
      population: n members.
      path: of a directory that is not there yet.
      devices: of which the greatest number that divides n is used.

    Raises:
      UserError: if the directory is there.
    """
    num = len(population.trial_ids)
    number = max(d for d in range(1, len(devices) + 1) if num % d == 0)
    mesh = jax.sharding.Mesh(np.asarray(devices[:number]), ("members",))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("members"))
    result = jax.tree.map(lambda leaf: jax.device_put(leaf, spread), population.result)
    ids = {"trial_ids": population.trial_ids, "members": population.members}
    save_orbax({**ids, "result": result}, path)


def train_state(module: Any, variables: Any, tx: Any) -> Any:
    """A `TrainState` with what else a linen module has in `collections`.

    Args:
      module: of the trial.
      variables: all its collections.
      tx: Optax transformation.

    Raises:
      UserError: if it is no linen module.
    """
    import flax.linen as nn

    if not isinstance(module, nn.Module):
        raise UserError(
            "a TrainState is of a linen module; of an NNX module there is best.nnx_state(), and "
            "nnx.Optimizer to train on with"
        )

    others = {name: value for name, value in variables.items() if name != "params"}
    return _state_class().create(
        apply_fn=module.apply, params=variables["params"], tx=tx, collections=others
    )


@cache
def _state_class() -> Any:
    """Made when it is first used: Flax's training tools take a while to import."""
    from flax import struct
    from flax.training.train_state import TrainState

    class State(TrainState):
        """A `TrainState` with what else the module has."""

        params: Any  # also plain dicts, which Flax's own annotation forgets
        collections: Any = struct.field(default_factory=dict)

    return State


def nnx_state(module: Any, kept: PyTree) -> Any:
    """The state of an NNX module.

    Args:
      module: makes one of what is kept.
      kept: of a trial.

    Raises:
      UserError: for another kind of module.
    """
    from flax import nnx

    if not callable(module) or not hasattr(module, "restores_nnx"):
        raise UserError("an nnx.State is of an NNX module; of a linen one there is train_state(tx)")
    return nnx.state(module(kept))
