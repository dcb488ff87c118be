"""What the tests of kernels share."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax


def an_h100() -> AbstractContextManager[Any]:
    """What programs are lowered for, which later versions of JAX want to know."""
    if not hasattr(jax.sharding, "AbstractDevice"):
        return nullcontext()
    device = jax.sharding.AbstractDevice("NVIDIA H100", None, "gpu")
    mesh = jax.sharding.AbstractMesh((), (), abstract_device=device)
    return jax.sharding.use_abstract_mesh(mesh)
