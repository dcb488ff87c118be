"""Compiled programs that outlive a study: data of the same shapes need not compile them again."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

import jax

from jaxopt_lab.core.engine import Engine
from jaxopt_lab.core.types import PyTree

#: Engines that are kept, those used last; each holds two compiled programs and no data.
MAX_SHARED = 32

_ENGINES: OrderedDict[Hashable, Engine] = OrderedDict()
_LOCK = threading.Lock()


def shared_engine(
    key: Hashable, make: Callable[[PyTree], Engine], data: PyTree, seed: int
) -> Engine:
    """An engine for some data, whose programs may have been compiled for others before.

    Args:
      key: all that programs depend on besides shapes and dtypes of the data.
      make: a new engine of that key for some data, or for none yet.
      data: arrays that reach its trainable.
      seed: of the study.
    """
    whole = (key, shapes_of(data))
    with _LOCK:
        found = _ENGINES.pop(whole, None)
        if found is None:
            found = make(None)
        _ENGINES[whole] = found
        while len(_ENGINES) > MAX_SHARED:
            _ENGINES.popitem(last=False)
    return found.on(data, seed)


def shapes_of(data: PyTree) -> Hashable:
    """Structure, shapes and dtypes of arrays."""
    leaves, structure = jax.tree.flatten(data)
    return structure, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)


def forget() -> None:
    """Drop all that is shared; studies that use it keep it."""
    _ENGINES.clear()
