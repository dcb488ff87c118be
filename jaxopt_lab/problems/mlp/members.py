"""Members: networks that share their kernels and train as one, each with adapters and a head.

A member multiplies inputs or outputs of a layer by its own adapters, so its kernel is the shared
one with rows and columns rescaled. Members stand beside each other as rows: b rows become k * b
after the first layer, member by member.

Source: Gorishniy, Kotelnikov & Babenko 2024, "TabM: Advancing Tabular Deep Learning with
Parameter-Efficient Ensembling" (arXiv:2410.24210); Wen, Tran & Ba 2020, "BatchEnsemble"
(arXiv:2002.06715).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxopt_lab.core.types import PRNGKey


class Adapters(NamedTuple):
    """What members have of their own in one hidden layer.

    Attributes:
      inputs: whether they rescale its inputs; the parameter `r` [k, n].
      outputs: whether they rescale its products; the parameter `s` [k, m].
      bias: whether `bias` is [k, m] instead of [m].
      signs: name of the adapter that begins as random signs, the others as ones; "" for none.
    """

    inputs: bool = False
    outputs: bool = False
    bias: bool = False
    signs: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the adapters' parameters."""
        return tuple(name for name, has in (("r", self.inputs), ("s", self.outputs)) if has)


def adapters_of(form: str, layer: int) -> Adapters:
    """Adapters of hidden layer number `layer`, counted from 0.

    Args:
      form: `full` has adapters of inputs and outputs and a bias in each layer; `mini` an adapter
        of the network's inputs; `late` one of the first layer's outputs instead, so that the
        product with the inputs is computed once for all members.
      layer: its number.
    """
    first = layer == 0
    if form == "full":
        return Adapters(True, True, True, "r" if first else "")
    if not first:
        return Adapters()
    return Adapters(outputs=True, signs="s") if form == "late" else Adapters(inputs=True, signs="r")


def shapes(
    members: int, form: str, layer: int | None, rows: int, columns: int
) -> dict[str, tuple[int, ...]]:
    """Shapes of a layer's parameters by name.

    Args:
      members: k; 1 is a plain dense layer.
      form: one of `hyperparameters.ENSEMBLE_FORMS`.
      layer: number of the hidden layer, counted from 0; None for the head.
      rows: inputs of the layer.
      columns: its outputs.
    """
    if members == 1:
        return {"kernel": (rows, columns), "bias": (columns,)}
    if layer is None:
        return {"kernel": (members, rows, columns), "bias": (members, columns)}
    own = adapters_of(form, layer)
    found = {"kernel": (rows, columns), "bias": (members, columns) if own.bias else (columns,)}
    sizes = {"r": rows, "s": columns}
    return {**found, **{name: (members, sizes[name]) for name in own.names}}


class MemberDense(nn.Module):
    """A hidden layer of k members.

    Attributes:
      features: outputs m.
      members: k.
      own: what they have of their own.
      common: whether the layer's rows are common to all members, [b, n], or each has its own,
        [k * b, n].
      kernel_init: of the kernel [n, m].
      adapter_init: (key, name of the adapter, size) -> [k, size].
      dtype: in which it computes.
      dot_general: of the product.
    """

    features: int
    members: int
    own: Adapters
    common: bool
    kernel_init: Callable[..., Array]
    adapter_init: Callable[[PRNGKey, str, int], Array]
    dtype: Any
    dot_general: Callable[..., Array]

    @nn.compact
    def __call__(self, inputs: Float[Array, "_ n"]) -> Float[Array, "_ m"]:
        """Rows in, [k * b, m] out, those of a member together."""
        k, size, width = self.members, inputs.shape[1], self.features
        kernel = self.param("kernel", self.kernel_init, (size, width))
        shape = (k, 1, width) if self.own.bias else (1, 1, width)
        bias = self.param("bias", nn.initializers.zeros, shape[::2] if self.own.bias else (width,))
        sizes = {"r": size, "s": width}
        scales = {
            name: self.param(name, self.adapter_init, name, sizes[name]).astype(self.dtype)
            for name in self.own.names
        }
        x, kernel = inputs.astype(self.dtype), kernel.astype(self.dtype)
        products = self._products(x, kernel, scales.get("r"))
        if "s" in scales:
            products = products * scales["s"][:, None]
        products = products + bias.astype(self.dtype).reshape(shape)
        return products.reshape(-1, width)

    def _products(self, x: Array, kernel: Array, scale: Array | None) -> Float[Array, "_ b m"]:
        """Products of each member's rows; [1, b, m] where they are common."""
        k, (size, width) = self.members, kernel.shape
        if not self.common:
            if scale is not None:
                x = (x.reshape(k, -1, size) * scale[:, None]).reshape(-1, size)
            return self._dot(x, kernel).reshape(k, -1, width)
        if scale is None:
            return self._dot(x, kernel)[None]
        # Rescaled kernels side by side: k copies of the rows would have gradients, to no purpose.
        wide = (kernel[:, None] * scale.T[:, :, None]).reshape(size, k * width)
        return self._dot(x, wide).reshape(-1, k, width).swapaxes(0, 1)

    def _dot(self, x: Array, kernel: Array) -> Array:
        return self.dot_general(x, kernel, (((1,), (0,)), ((), ())))


class MemberHead(nn.Module):
    """The heads of k members, each of its own weights.

    Attributes:
      features: outputs o of each.
      members: k.
      kernel_init: of one head's kernel [n, o].
    """

    features: int
    members: int
    kernel_init: Callable[..., Array]

    @nn.compact
    def __call__(self, inputs: Float[Array, "_ n"]) -> Float[Array, "k b o"]:
        """Rows of all members in, outputs of each member."""
        k, size, width = self.members, inputs.shape[1], self.features

        def init(key: PRNGKey, shape: tuple[int, ...]) -> Array:
            keys = jax.random.split(key, k)
            return jax.vmap(lambda key: self.kernel_init(key, shape[1:]))(keys)

        kernel = self.param("kernel", init, (k, size, width))
        bias = self.param("bias", nn.initializers.zeros, (k, width))
        return jnp.matmul(inputs.reshape(k, -1, size), kernel) + bias[:, None]


def draw_adapter(
    key: PRNGKey, members: int, size: int, draw_size: int, signs: bool
) -> Float[Array, "k n"]:
    """An adapter as it begins; a shorter one is a part of a longer one.

    Args:
      key: random key.
      members: k.
      size: units n.
      draw_size: units at which to draw before cutting, at least `size`.
      signs: random signs; else ones.
    """
    if not signs:
        return jnp.ones((members, size))
    # Units lead in the draw: more leading entries keep the prefix.
    return jax.random.rademacher(key, (draw_size, members), jnp.float32)[:size].T


def mean_loss(
    loss: Callable[[Array, Array], Array], outputs: Float[Array, "k b o"], targets: Array
) -> Float[Array, " b"]:
    """The mean of the members' losses; never the loss of their mean, which would let them lean on
    each other.

    Args:
      loss: (outputs [b, o], targets) -> [b].
      outputs: of each member.
      targets: of the rows.
    """
    return jax.vmap(loss, in_axes=(0, None))(outputs, targets).mean(axis=0)


def mean_output(outputs: Float[Array, "k b o"]) -> Float[Array, "b o"]:
    """The mean of members' outputs."""
    return outputs.mean(axis=0)


def mean_probability(outputs: Float[Array, "k b c"]) -> Float[Array, "b c"]:
    """Logarithms of the mean of members' class probabilities, which `softmax` gives back."""
    logs = jax.nn.log_softmax(outputs, axis=-1)
    return jax.nn.logsumexp(logs, axis=0) - math.log(outputs.shape[0])
