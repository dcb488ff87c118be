"""The multilayer perceptron that serves many shapes at once."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt16

from jaxopt_lab.core.types import BoolScalar, Hparams, IntScalar, PRNGKey, Scalar
from jaxopt_lab.models.activations import ACTIVATION_FUNCTIONS
from jaxopt_lab.models.products import dot_general
from jaxopt_lab.problems.mlp.hyperparameters import ACTIVATIONS
from jaxopt_lab.problems.mlp.initializers import init_kernel
from jaxopt_lab.problems.mlp.members import (
    MemberDense,
    MemberHead,
    adapters_of,
    draw_adapter,
    shapes,
)

_LEVELS = 2**16


class PaddedMLP(nn.Module):
    """An `MLP` of traced initialisation that takes its noise as an argument.

    One module can serve narrower and shallower networks: with `masked_width` the units beyond
    `hparams["hidden_size"]` are zero, with `masked_depth` the layers beyond
    `hparams["num_layers"]` are the identity, and with several activations `hparams["activation"]`
    picks one. Such a network computes what the smaller one computes alone.

    Attributes:
      num_layers: hidden layers, the most a trial can have.
      hidden_size: neurons of each, the most a trial can have.
      num_outputs: size of the head.
      activations: names out of `ACTIVATION_FUNCTIONS`.
      masked_depth: whether a trial can have fewer layers.
      masked_width: whether a trial can have fewer neurons.
      draw_width: width at which kernels are drawn; at least `hidden_size` (0: the same).
      with_orthogonal: whether `orthogonal` initialisation can occur.
      precision: dtype in which hidden layers compute; weights, head and outputs are float32.
      ensemble_size: members k that share the kernels (`members`); 1: a plain network.
      ensemble_form: how they differ, one of `hyperparameters.ENSEMBLE_FORMS`.
    """

    num_layers: int
    hidden_size: int
    num_outputs: int
    activations: tuple[str, ...]
    masked_depth: bool = False
    masked_width: bool = False
    draw_width: int = 0
    with_orthogonal: bool = True
    precision: str = "float32"
    ensemble_size: int = 1
    ensemble_form: str = "mini"

    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, "b f"],
        hparams: Hparams,
        noise: UInt16[Array, "layers _ h"] | Sequence[UInt16[Array, "_ h"]] | None = None,
        depth: IntScalar | None = None,
    ) -> Float[Array, "*k b o"]:
        """Apply the network.

        Args:
          inputs: rows.
          hparams: with `hidden_size`, `num_layers` or `activation` where masked or several,
            `dropout` where noise is given, and at initialisation also `initialization`.
          noise: uniform 16-bit integers for dropout, of `ensemble_size` * b rows; None in
            evaluation.
          depth: the most layers of any trial that is trained together with this one: products of
            deeper layers are skipped, not computed and masked. None: all are computed.

        Returns:
          [b, o], or [k, b, o] of k members.
        """

        x = inputs.astype(self.precision)
        for i in range(self.num_layers):
            maybe = self.masked_depth and i > 0
            wanted = i < depth if maybe and depth is not None else None
            dense = self._dense(f"hidden_{i}", self.hidden_size, i, hparams, wanted)
            new = self._activate(dense(x), hparams)
            if noise is not None:
                new = drop(new, noise[i], hparams["dropout"])
            x = jnp.where(i < hparams["num_layers"], new, x) if maybe else new
        return self._dense("output", self.num_outputs, None, hparams)(x.astype(jnp.float32))

    def _dense(
        self,
        name: str,
        size: int,
        layer: int | None,
        hparams: Hparams,
        wanted: BoolScalar | None = None,
    ) -> nn.Dense | MemberDense | MemberHead:
        """A dense layer: hidden layer number `layer`, or the head; multiplies if `wanted`."""

        def kernel_init(key: PRNGKey, shape: tuple[int, int], dtype: object = None) -> Array:
            width = hparams["hidden_size"].astype(jnp.float32)
            kernel = init_kernel(
                key,
                shape,
                (
                    jnp.asarray(shape[0], jnp.float32) if layer == 0 else width,
                    jnp.asarray(shape[1], jnp.float32) if layer is None else width,
                ),
                hparams["initialization"],
                hparams["activation"],
                shape[0] if layer == 0 else max(self.draw_width, self.hidden_size),
                self.with_orthogonal,
            )
            if not layer or not self.masked_depth:
                return kernel
            # A layer that the trial lacks is zero, so that no penalty or norm sees it.
            return jnp.where(layer < hparams["num_layers"], kernel, 0.0)

        if self.ensemble_size > 1:
            return self._member_layer(name, size, layer, hparams, kernel_init, wanted)
        return nn.Dense(
            size,
            dtype=jnp.float32 if layer is None else self.precision,
            kernel_init=kernel_init,
            name=name,
            dot_general=partial(dot_general, wanted=wanted),
        )

    def _member_layer(
        self,
        name: str,
        size: int,
        layer: int | None,
        hparams: Hparams,
        kernel_init: Callable[..., Array],
        wanted: BoolScalar | None,
    ) -> MemberDense | MemberHead:
        """What `_dense` gives, of several members."""
        if layer is None:
            return MemberHead(size, self.ensemble_size, kernel_init, name=name)
        own = adapters_of(self.ensemble_form, layer)

        def adapter_init(key: PRNGKey, adapter: str, size: int) -> Array:
            is_padded = layer > 0 or adapter == "s"  # else of the inputs
            draw_size = max(self.draw_width, size) if is_padded else size
            drawn = draw_adapter(key, self.ensemble_size, size, draw_size, adapter == own.signs)
            # Like kernels, it is zero where the trial has no unit or no layer.
            real = jnp.ones((size,), bool)
            if is_padded and self.masked_width:
                real &= jnp.arange(size) < hparams["hidden_size"]
            if layer > 0 and self.masked_depth:
                real &= layer < hparams["num_layers"]
            return jnp.where(real, drawn, 0.0)

        return MemberDense(
            features=size,
            members=self.ensemble_size,
            own=own,
            common=layer == 0,
            kernel_init=kernel_init,
            adapter_init=adapter_init,
            dtype=self.precision,
            dot_general=partial(dot_general, wanted=wanted),
            name=name,
        )

    def _activate(self, x: Float[Array, "b h"], hparams: Hparams) -> Float[Array, "b h"]:
        if len(self.activations) == 1:
            out = ACTIVATION_FUNCTIONS[self.activations[0]](x)
        else:
            codes = [hparams["activation"] == ACTIVATIONS.index(name) for name in self.activations]
            out = jnp.select(codes, [ACTIVATION_FUNCTIONS[name](x) for name in self.activations])
        if not self.masked_width:
            return out
        return jnp.where(jnp.arange(self.hidden_size) < hparams["hidden_size"], out, 0.0)

    @property
    def optional_layers(self) -> tuple[str, ...]:
        """Names of the layers that a trial can lack, the second hidden one first."""
        return tuple(f"hidden_{i}" for i in range(1, self.num_layers) if self.masked_depth)

    def noise(self, keys: PRNGKey, rows: int) -> UInt16[Array, "layers b h"]:
        """Draw the dropout noise of one block; trials that share the keys share the noise.

        Args:
          keys: [m], one per `rows` rows.
          rows: rows per key.

        Returns:
          b is m * `rows`, or as many for each member in turn.
        """
        if self.ensemble_size == 1:
            return layer_noise(keys, rows, self.num_layers, self.hidden_size)

        def of_member(j: Array) -> UInt16[Array, "layers b h"]:
            mine = jax.vmap(lambda key: jax.random.fold_in(key, j))(keys)
            return layer_noise(mine, rows, self.num_layers, self.hidden_size)

        drawn = jax.vmap(of_member, out_axes=1)(jnp.arange(self.ensemble_size))
        return drawn.reshape(self.num_layers, -1, self.hidden_size)


def count_parameters(
    num_features: int,
    hidden_size: int,
    num_layers: int,
    num_outputs: int,
    ensemble_size: int = 1,
    ensemble_form: str = "mini",
) -> int:
    """Weights, biases and adapters of a `PaddedMLP` without padding."""
    found = layer_shapes(
        num_features, hidden_size, num_layers, num_outputs, ensemble_size, ensemble_form
    )
    return sum(math.prod(shape) for layer in found.values() for shape in layer.values())


def layer_shapes(
    num_features: int,
    hidden_size: int,
    num_layers: int,
    num_outputs: int,
    ensemble_size: int = 1,
    ensemble_form: str = "mini",
) -> dict[str, dict[str, tuple[int, ...]]]:
    """Shapes of the parameters of a `PaddedMLP` without padding: layer -> name -> shape."""
    sizes = [num_features, *[hidden_size] * num_layers]
    found = {
        f"hidden_{i}": shapes(ensemble_size, ensemble_form, i, sizes[i], hidden_size)
        for i in range(num_layers)
    }
    head = shapes(ensemble_size, ensemble_form, None, hidden_size, num_outputs)
    return {**found, "output": head}


def layer_noise(
    keys: PRNGKey, rows: int, num_layers: int, hidden_size: int
) -> UInt16[Array, "layers b h"]:
    """Dropout noise of all layers: one key per `rows` rows, one draw per key and layer."""

    def draw(key: PRNGKey) -> UInt16[Array, "layers b h"]:
        layers, shape = jnp.arange(num_layers), (rows, hidden_size)
        return jax.vmap(lambda i: uniform16(jax.random.fold_in(key, i), shape))(layers)

    drawn = jax.vmap(draw, out_axes=1)(keys)
    return drawn.reshape(num_layers, -1, hidden_size)


def uniform16(key: PRNGKey, shape: tuple[int, int]) -> UInt16[Array, "b h"]:
    """Uniform 16-bit integers, two per 32-bit draw; a narrower draw is a part of a wider one.

    The bits are drawn with the width as the leading axis, and more leading rows keep the prefix.
    """
    rows, width = shape
    words = jax.random.bits(key, ((width + 1) // 2, rows), jnp.uint32)
    halves = jax.lax.bitcast_convert_type(words, jnp.uint16)
    return halves.transpose(1, 0, 2).reshape(rows, -1)[:, :width]


def drop(x: Float[Array, "... h"], noise: UInt16[Array, "... h"], rate: Scalar) -> Array:
    """Zero the units whose noise falls below a traced rate in [0, 1); rescale the others."""
    keep = noise.astype(jnp.float32) >= rate * _LEVELS
    return jnp.where(keep, x / (1.0 - rate).astype(x.dtype), 0.0)
