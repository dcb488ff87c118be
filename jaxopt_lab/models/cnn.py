"""A convolutional network for small images."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from jaxopt_lab.models.activations import activation_function
from jaxopt_lab.models.convolutions import conv_general_dilated, max_pool
from jaxopt_lab.models.dropout import Dropout, dropout_rate
from jaxopt_lab.models.products import dot_general


class CNN(nn.Module):
    """Blocks of convolution, batch normalisation, activation and pooling; one hidden layer; a head.

    Attributes:
      num_outputs: size of the head; None: one number per image, shape [b].
      features: channels of each block; each halves rows and columns while both are at least 2.
      kernel_size: rows and columns of the kernels.
      hidden_size: neurons of the hidden layer; 0: none.
      activation: name (see `ACTIVATION_FUNCTIONS`) or function.
      batch_norm: whether the blocks normalise; the running moments are in `batch_stats`.
      momentum: of the running moments.
      dropout: rate before the hidden layer and the head, unless `hparams` has `dropout`.

    Source: LeCun et al. 1998; Ioffe & Szegedy 2015 (arXiv:1502.03167).
    """

    num_outputs: int | None
    features: Sequence[int] = (16, 32)
    kernel_size: int = 3
    hidden_size: int = 64
    activation: str | Callable[[Array], Array] = "relu"
    batch_norm: bool = True
    momentum: float = 0.9
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "b h w c"],
        *,
        train: bool = False,
        hparams: Mapping[str, Any] | None = None,
    ) -> Float[Array, "b *o"]:
        """Apply the network.

        Args:
          images: channels last.
          train: whether to drop, and to normalise by the batch: then `batch_stats` change.
          hparams: `dropout`, if it is there, may be traced.
        """
        activate = activation_function(self.activation)
        rate = dropout_rate(hparams, self.dropout)
        window = (self.kernel_size, self.kernel_size)
        x = images
        for i, features in enumerate(self.features):
            x = nn.Conv(
                features,
                window,
                use_bias=not self.batch_norm,
                kernel_init=nn.initializers.he_normal(),
                conv_general_dilated=conv_general_dilated,
                name=f"conv_{i}",
            )(x)
            if self.batch_norm:
                norm = nn.BatchNorm(not train, momentum=self.momentum, name=f"norm_{i}")
                x = norm(x)
            x = activate(x)
            if min(x.shape[1:3]) >= 2:
                x = max_pool(x, 2)
        x = Dropout(name="dropout_flat")(x.reshape(len(x), -1), rate, train=train)
        if self.hidden_size:
            dense = nn.Dense(self.hidden_size, dot_general=dot_general, name="hidden")
            x = Dropout(name="dropout_hidden")(activate(dense(x)), rate, train=train)
        x = nn.Dense(self.num_outputs or 1, name="output")(x)
        return x[:, 0] if self.num_outputs is None else x
