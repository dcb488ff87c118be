"""A Flax linen module as pure functions: random streams by name, collections that it changes."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import flax.errors
import flax.linen as nn
import jax

from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.core.types import PRNGKey, PyTree
from jaxopt_lab.problems.supervised.batches import Batch
from jaxopt_lab.problems.supervised.modules import Network, Variables, call_keywords


def linen_network(module: nn.Module, streams: Sequence[str]) -> Network:
    """Wrap a module.

    `__call__(inputs)` gets `train` or `deterministic`, `hparams` and `mask` where it names them.

    Args:
      module: takes the inputs of a batch as its first argument.
      streams: names of its random streams besides "params"; one that it asks for and that is not
        among them draws from "params".
    """
    name = type(module).__name__

    def rngs_of(key: PRNGKey) -> dict[str, PRNGKey]:
        every = dict.fromkeys(("params", *streams))
        return {stream: jax.random.fold_in(key, i) for i, stream in enumerate(every)}

    def keywords(batch: Batch, hparams: Any, train: bool) -> dict[str, Any]:
        offered = {"hparams": hparams, "mask": batch.mask}
        given = call_keywords(module, train, offered)
        # What was given to the constructor, `deterministic` say, must not be given again.
        return {key: value for key, value in given.items() if getattr(module, key, None) is None}

    def init(key: PRNGKey, batch: Batch, hparams: Any) -> Variables:
        given = keywords(batch, hparams, False)
        found = split(name, module.init(rngs_of(key), batch.inputs, **given))
        kept = {
            key: value
            for key, value in found.collections.items()
            if not is_sown(key, found, batch, hparams)
        }
        return Variables(found.params, kept)

    def is_sown(collection: str, variables: Variables, batch: Batch, hparams: Any) -> bool:
        """Whether it holds what `sow` and `perturb` tell, and no state: the module does without it.

        Kept, `sow` would add to it in every step, and a loss that asks for it would find the
        value of the first batch before that of its own.
        """
        rest = {key: value for key, value in joined(variables).items() if key != collection}
        moving = [key for key in rest if key != "params"]

        def call(train: bool, rest: Any, batch: Batch, hparams: Any, key: PRNGKey) -> Any:
            given, mutable = keywords(batch, hparams, train), moving if train else False
            return module.apply(rest, batch.inputs, rngs=rngs_of(key), mutable=mutable, **given)

        for train in (False, True):
            try:
                jax.eval_shape(partial(call, train), rest, batch, hparams, jax.random.key(0))
            except Exception:  # whatever it fails with, it needs the collection
                return False
        return True

    def apply(
        variables: Variables, batch: Batch, hparams: Any, key: PRNGKey, train: bool
    ) -> tuple[PyTree, PyTree]:
        given = keywords(batch, hparams, train)
        rngs, old = rngs_of(key), variables.collections
        moving = list(old) if train else []
        if not moving:
            try:
                return module.apply(joined(variables), batch.inputs, rngs=rngs, **given), old
            except flax.errors.ModifyScopeVariableError as error:
                raise UserError(
                    f"{name} changes {', '.join(old) or 'a collection'} while it is evaluated; let "
                    "__call__ take `train`, and give BatchNorm use_running_average=not train"
                ) from error
        outputs, new = module.apply(
            joined(variables), batch.inputs, rngs=rngs, mutable=moving, **given
        )
        return outputs, {**old, **new}

    def arguments(variables: Variables, hparams: Any, key: PRNGKey, train: bool) -> dict[str, Any]:
        del hparams, train
        return {"module": module, "variables": joined(variables), "rngs": rngs_of(key)}

    def moved(arguments: dict[str, Any], new: Any) -> PyTree:
        old = {key: value for key, value in arguments["variables"].items() if key != "params"}
        if new is None:
            return old
        new = {key: value for key, value in new.items() if key != "params"}
        for key in [key for key in new if key not in old]:
            if not isinstance(new[key], Mapping) or did_you_mean(key, old):
                raise UserError(
                    f"the loss returned the collection {key!r}, which {name} does not have; it "
                    f"has: {', '.join(old) or 'none'}"
                )
            del new[key]  # told by `sow`: see `is_sown`
        return {**old, **new}

    return Network(module, init, apply, arguments, moved, joined)


def split(name: str, variables: Any) -> Variables:
    """Parameters apart from other collections.

    Args:
      name: the module's, for messages.
      variables: what `module.init` returned.
    """
    found = dict(variables)
    if not jax.tree.leaves(found.get("params")):
        raise UserError(f"{name} has no parameters to train")
    return Variables(found.pop("params"), found)


def joined(variables: Variables) -> dict[str, Any]:
    """What `module.apply` takes."""
    return {"params": variables.params, **variables.collections}
