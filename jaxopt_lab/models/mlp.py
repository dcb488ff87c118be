"""A multilayer perceptron."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from jaxopt_lab.models.activations import activation_function
from jaxopt_lab.models.dropout import Dropout, dropout_rate
from jaxopt_lab.models.products import dot_general


class MLP(nn.Module):
    """Dense layers with one activation, dropout after each hidden layer, a linear head.

    Attributes:
      num_outputs: size of the head; None: one number per row, shape [b].
      num_layers: hidden layers.
      hidden_size: neurons of each.
      activation: name (see `ACTIVATION_FUNCTIONS`) or function.
      dropout: rate, unless `hparams` has `dropout`.
    """

    num_outputs: int | None
    num_layers: int = 2
    hidden_size: int = 64
    activation: str | Callable[[Array], Array] = "relu"
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, "b *f"],
        *,
        train: bool = False,
        hparams: Mapping[str, Any] | None = None,
    ) -> Float[Array, "b *o"]:
        """Apply the network.

        Args:
          inputs: rows; further axes are flattened.
          train: whether to drop.
          hparams: `dropout`, if it is there, may be traced.
        """
        activate = activation_function(self.activation)
        rate = dropout_rate(hparams, self.dropout)
        x = inputs.reshape(len(inputs), -1)
        for i in range(self.num_layers):
            dense = nn.Dense(
                self.hidden_size,
                kernel_init=nn.initializers.he_normal(),
                dot_general=dot_general,
                name=f"hidden_{i}",
            )
            x = Dropout(name=f"dropout_{i}")(activate(dense(x)), rate, train=train)
        x = nn.Dense(self.num_outputs or 1, name="output")(x)
        return x[:, 0] if self.num_outputs is None else x
