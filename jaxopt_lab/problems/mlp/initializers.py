"""Kernel initialisation whose kind and true size are traced."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxopt_lab.core.types import IntScalar, PRNGKey, Scalar
from jaxopt_lab.problems.mlp.hyperparameters import ACTIVATIONS, INITIALIZATIONS

#: Standard deviation of a standard normal truncated to [-2, 2], and the mass it keeps.
_TRUNCATED_STD, _TRUNCATED_MASS = 0.87962566103423978, 0.95449973610364158
#: What `auto` stands for.
AUTO = {
    "relu": "he_normal",
    "gelu": "he_normal",
    "silu": "he_normal",
    "tanh": "xavier_normal",
    "sigmoid": "xavier_normal",
}


def init_kernel(
    key: PRNGKey,
    shape: tuple[int, int],
    fans: tuple[Scalar, Scalar],
    kind: IntScalar,
    activation: IntScalar,
    draw_columns: int,
    with_orthogonal: bool,
) -> Float[Array, "fan_in fan_out"]:
    """Draw a dense kernel, zero outside the true size.

    Args:
      key: random key.
      shape: (rows, columns) of the padded kernel.
      fans: true fan-in and fan-out, traced float32; at most `shape`.
      kind: index in `INITIALIZATIONS`, traced.
      activation: index in `ACTIVATIONS`, traced; decides `auto`.
      draw_columns: rows at which to draw before cutting to `shape`, so that a padded kernel
        holds the numbers of the unpadded one.
      with_orthogonal: whether `orthogonal` can occur (else its QR is left out of the program).

    Returns:
      float32 kernel. Normal draws are truncated at two standard deviations and rescaled, as in
      `jax.nn.initializers.variance_scaling`.

    Source: He et al. 2015 (arXiv:1502.01852), Glorot & Bengio 2010, LeCun et al. 1998, Saxe et
    al. 2014 (arXiv:1312.6120).
    """
    fan_in, fan_out = fans
    auto = jnp.asarray([INITIALIZATIONS.index(AUTO[name]) for name in ACTIVATIONS])
    kind = jnp.where(kind == 0, auto[activation], kind)
    name_is = {name: kind == i for i, name in enumerate(INITIALIZATIONS)}
    is_he = name_is["he_normal"] | name_is["he_uniform"]
    is_xavier = name_is["xavier_normal"] | name_is["xavier_uniform"]
    by_mode = jnp.where(is_xavier, 2.0 / (fan_in + fan_out), 1.0 / fan_in)
    std = jnp.sqrt(jnp.where(is_he, 2.0 / fan_in, by_mode))
    is_uniform = name_is["he_uniform"] | name_is["xavier_uniform"] | name_is["lecun_uniform"]
    # Columns lead in the draw: more leading entries keep the prefix, so columns need no cutting.
    drawn = jax.random.uniform(key, (shape[1], draw_columns), minval=-1.0, maxval=1.0)
    drawn = drawn[:, : shape[0]].T
    normal = jax.scipy.special.erfinv(drawn * _TRUNCATED_MASS) * jnp.sqrt(2.0) / _TRUNCATED_STD
    kernel = jnp.where(is_uniform, drawn * jnp.sqrt(3.0), normal) * std
    inside = (jnp.arange(shape[0]) < fan_in)[:, None] & (jnp.arange(shape[1]) < fan_out)
    kernel = jnp.where(inside, kernel, 0.0)
    if not with_orthogonal:
        return kernel
    kernel = jax.lax.cond(name_is["orthogonal"], orthogonalized, lambda same: same, kernel)
    return jnp.where(inside, kernel, 0.0)


def orthogonalized(normal: Float[Array, "n m"]) -> Float[Array, "n m"]:
    """The polar factor of a random matrix: orthonormal rows or columns, whichever are fewer.

    Rows and columns of zeros stay zero but for rounding, so the true block of a padded kernel
    becomes what it would become alone. The polar factor of a Gaussian matrix is uniform
    over such matrices.
    """
    u, s, vt = jnp.linalg.svd(normal, full_matrices=False)
    real = s > 1e-6 * s[0]
    return (u * real) @ vt
