"""Random keys: derived by purpose, and as plain arrays where they leave a program."""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lab.core.types import PRNGKey, PyTree


def fold_in(key: PRNGKey, *numbers: Any) -> PRNGKey:
    """Derive a key by purpose: one `fold_in` per number."""
    for number in numbers:
        key = jax.random.fold_in(key, number)
    return key


def fold_in_name(key: PRNGKey, name: str) -> PRNGKey:
    """Derive a key by a name, from a hash of it."""
    digest = hashlib.sha256(name.encode()).digest()
    return jax.random.fold_in(key, np.uint32(int.from_bytes(digest[:4], "little")))


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def kinds_of(tree: PyTree) -> list[str | None]:
    """For each leaf, the name of its generator where it is a typed key, else None."""
    leaves = jax.tree.leaves(tree)
    return [str(jax.random.key_impl(leaf)) if _is_key(leaf) else None for leaf in leaves]


def to_data(tree: PyTree) -> PyTree:
    """Typed keys as arrays of uint32; other leaves stay."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)


def from_data(tree: PyTree, kinds: list[str | None]) -> PyTree:
    """What `to_data` was given, from `kinds_of` it."""
    leaves, structure = jax.tree.flatten(tree)
    typed = [
        leaf if kind is None else jax.random.wrap_key_data(leaf, impl=kind)
        for leaf, kind in zip(leaves, kinds, strict=True)
    ]
    return jax.tree.unflatten(structure, typed)
