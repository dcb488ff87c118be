"""How probable it is that a configuration trains without diverging."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float

from jaxopt_lab.search.gaussian_process import Posterior, predict


def labels(infeasible: np.ndarray) -> Float[np.ndarray, " n"]:
    """+1 where feasible, -1 where not."""
    return np.where(infeasible, -1.0, 1.0)


@jax.jit
def log_probability(posterior: Posterior, points: Float[Array, "m e"]) -> Float[Array, " m"]:
    """Log probability that each point is feasible, from a process fitted to `labels`.

    A least-squares classifier with a probit link: the process regresses the labels, and the
    probability is that of its noisy prediction being above 0. (Gelbart et al. use a probit
    likelihood; the regression has a closed form and needs no inner iterations.)

    Source: Gelbart et al. 2014, arXiv:1403.5607; Rasmussen & Williams 2006, section 6.5.
    """
    mean, variance = predict(posterior, points)
    noise = jnp.exp(posterior.hyper.log_noise)
    return log_ndtr(mean / jnp.sqrt(variance + noise))
