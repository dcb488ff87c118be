"""The loss of class probabilities that a temperature has made as good as it can.

Networks of classes are soon surer than they are right, long before they stop to learn which class
is likelier. A temperature mends the former afterwards, so the latter should tell the best epoch.

Source: Berta, Holzmüller, Jordan & Bach 2025, "Rethinking early stopping: refine, then calibrate",
arXiv:2501.19195.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxopt_lab.core.types import Scalar

#: What logits are divided by: 1 to 8, each a quarter above the one before. Between two of them
#: the least loss is nearly that of the better one.
TEMPERATURES = tuple(2.0 ** (i / 3.0) for i in range(10))


def calibrated_loss(
    loss: Callable[[Array, Array], Float[Array, " m"]],
    outputs: Float[Array, "m c"],
    targets: Array,
    mask: Bool[Array, " m"],
) -> Scalar:
    """The least mean loss at any of `TEMPERATURES`, in nats; NaN without rows.

    Args:
      loss: (logits [m, c], targets) -> [m].
      outputs: logits.
      targets: [m, ...], as the loss takes them.
      mask: False at padding.
    """

    def at(temperature: Scalar) -> Scalar:
        losses = loss(outputs / temperature, targets)
        return jnp.where(mask, losses, 0.0).sum() / mask.sum()

    return jax.lax.map(at, jnp.asarray(TEMPERATURES)).min()
