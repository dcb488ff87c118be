"""A Flax NNX module as pure functions: split into graph and arrays, merged for each call.

Its arrays are nested dicts of plain arrays, keys of random numbers as the uint32 numbers in them,
so that they can be written to a file.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.types import PRNGKey, PyTree
from jaxopt_lab.problems.supervised.batches import Batch
from jaxopt_lab.problems.supervised.modules import Network, Variables, call_keywords

#: How keys of random numbers are made, whatever JAX is set to.
KEYS = "threefry2x32"


def nnx_network(make: Callable[..., Any], name: str) -> Network:
    """Wrap a function of `rngs`.

    A module is in the mode of `module.train()` in training and of `module.eval()` in validation;
    `__call__(inputs)` gets `train` or `deterministic`, `hparams`, `mask` and `rngs` where it names
    them. Variables of the type `nnx.Param` are trained.

    Args:
      make: rngs -> module.
      name: of the builder, for messages.
    """
    template = nnx.eval_shape(lambda: _made(make, nnx.Rngs(jax.random.key(0, impl=KEYS)), name))
    graph, params_like, others_like = _split(template)
    if not jax.tree.leaves(params_like):
        raise UserError(f"{type(template).__name__} has no parameters (nnx.Param) to train")
    known = set(nnx.to_flat_state(others_like).paths)
    are_keys = jax.tree.map(_is_key, nnx.to_pure_dict(others_like))

    def init(key: PRNGKey, batch: Batch, hparams: Any) -> Variables:
        del batch, hparams
        return taken_apart(_made(make, nnx.Rngs(key), name))

    def taken_apart(module: Any) -> Variables:
        found: Any = nnx.split(module, nnx.Param, is_sown, ...)
        _, params, _, others = found
        return Variables(nnx.to_pure_dict(params), _without_keys(nnx.to_pure_dict(others)))

    def is_sown(path: Any, variable: Any) -> bool:
        """Whether `sow` or `perturb` tells it, which is no state: it would grow with every step."""
        told = isinstance(variable, nnx.Intermediate) or isinstance(variable.get_value(), tuple)
        return told and tuple(path) not in known

    def merged(variables: Variables, train: bool) -> Any:
        params, others = _copy(params_like), _copy(others_like)
        nnx.replace_by_pure_dict(params, variables.params)
        collections = jax.tree.map(_with_key, variables.collections, are_keys)
        nnx.replace_by_pure_dict(others, collections)
        module = nnx.merge(graph, params, others)
        module.train() if train else module.eval()
        return module

    def apply(
        variables: Variables, batch: Batch, hparams: Any, key: PRNGKey, train: bool
    ) -> tuple[PyTree, PyTree]:
        module = merged(variables, train)
        outputs = call(module, batch, hparams, key, train)
        return outputs, taken_apart(module).collections if train else variables.collections

    def arguments(variables: Variables, hparams: Any, key: PRNGKey, train: bool) -> dict[str, Any]:
        del hparams
        return {"module": merged(variables, train), "rngs": nnx.Rngs(key)}

    def moved(arguments: dict[str, Any], new: Any) -> PyTree:
        del new
        return taken_apart(arguments["module"]).collections

    def exported(variables: Variables) -> PyTree:
        return {"params": variables.params, "others": variables.collections}

    restored = Restored(lambda found: merged(Variables(found["params"], found["others"]), False))
    return Network(restored, init, apply, arguments, moved, exported)


def call(module: nnx.Module, batch: Batch, hparams: Any, key: PRNGKey, train: bool) -> PyTree:
    """Outputs of a module that is in the mode of training or validation already.

    Args:
      module: whose `__call__` gets what it names.
      batch: its inputs and mask.
      hparams: those that have values in the program.
      key: of `rngs`.
      train: what `train`, or the opposite of `deterministic`, is.
    """
    offered = {"hparams": hparams, "mask": batch.mask, "rngs": nnx.Rngs(key)}
    return module(batch.inputs, **call_keywords(module, train, offered))


class Restored:
    """Makes a module, in the mode of `module.eval()`, of what a study kept of a trial.

    Args:
      merged: what is kept -> module.
    """

    #: By which what knows no NNX tells it from a linen module.
    restores_nnx = True

    def __init__(self, merged: Callable[[PyTree], Any]) -> None:
        self._merged = merged

    def __call__(self, kept: PyTree) -> Any:
        """The module of a trained trial."""
        return self._merged(kept)


def _made(make: Callable[..., Any], rngs: nnx.Rngs, name: str) -> nnx.Module:
    module = make(rngs)
    if not isinstance(module, nnx.Module):
        raise UserError(f"{name} must return a Flax module, got {type(module).__name__}")
    return module


def _split(module: nnx.Module) -> tuple[Any, Any, Any]:
    """Graph, trained variables, other variables."""
    found: Any = nnx.split(module, nnx.Param, ...)
    return found


def _copy(state: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf, state)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _without_keys(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, tree)


def _with_key(leaf: Any, is_key: bool) -> Any:
    return jax.random.wrap_key_data(leaf, impl=KEYS) if is_key else leaf
