"""Schedules as arithmetic: what Optax decides in Python is decided in the program here.

A schedule is a function of the count of updates made before this one, an integer or float scalar.
Lengths in steps may be fractional, as a searched share of all steps is.
"""

from collections.abc import Callable

import jax.numpy as jnp
import optax

from jaxopt_lab.core.types import Scalar

#: A number of Python's or a scalar array, traced or not.
Number = Scalar | float
Schedule = Callable[[Number], Scalar]


def linear_schedule(
    init_value: Number, end_value: Number, transition_steps: Number, transition_begin: Number = 0
) -> Schedule:
    """`optax.linear_schedule`: from one value to another along a line.

    Args:
      init_value: before the transition, and for ever if `transition_steps` is not positive.
      end_value: after it.
      transition_steps: its length.
      transition_begin: count at which it begins.
    """
    return polynomial_schedule(init_value, end_value, 1.0, transition_steps, transition_begin)


def polynomial_schedule(
    init_value: Number,
    end_value: Number,
    power: Number,
    transition_steps: Number,
    transition_begin: Number = 0,
) -> Schedule:
    """`optax.polynomial_schedule`: what remains of the way, to a power.

    Args:
      init_value: before the transition, and for ever if `transition_steps` is not positive.
      end_value: after it.
      power: positive.
      transition_steps: its length.
      transition_begin: count at which it begins.
    """

    def schedule(count: Number) -> Scalar:
        left = 1.0 - _progress(count - jnp.maximum(transition_begin, 0), transition_steps)
        value = (init_value - end_value) * _power(left, power) + end_value
        return jnp.where(jnp.asarray(transition_steps) > 0, value, init_value)

    return schedule


def cosine_decay_schedule(
    init_value: Number, decay_steps: Number, alpha: Number = 0.0, exponent: Number = 1.0
) -> Schedule:
    """`optax.cosine_decay_schedule`: half a period of a cosine.

    Args:
      init_value: at count 0.
      decay_steps: length; where it is not positive, the decay is over at once.
      alpha: share of `init_value` at the end.
      exponent: of the cosine.

    Source: Loshchilov & Hutter 2017, arXiv:1608.03983.

    Examples:
      >>> import jax
      >>> rates = jax.vmap(lambda rate, steps: cosine_decay_schedule(rate, steps)(5))
      >>> [round(float(rate), 6) for rate in rates(jnp.array([0.1, 0.1]), jnp.array([10, 5]))]
      [0.05, 0.0]
    """

    def schedule(count: Number) -> Scalar:
        cosine = 0.5 * (1.0 + jnp.cos(jnp.pi * _progress(count, decay_steps)))
        return init_value * ((1.0 - alpha) * _power(cosine, exponent) + alpha)

    return schedule


def exponential_decay(
    init_value: Number,
    transition_steps: Number,
    decay_rate: Number,
    transition_begin: Number = 0,
    staircase: bool = False,
    end_value: Number | None = None,
) -> Schedule:
    """`optax.exponential_decay`: times `decay_rate` every `transition_steps`.

    Args:
      init_value: before the decay, and for ever if `transition_steps` is not positive or
        `decay_rate` is 0.
      transition_steps: in which the value is multiplied once.
      decay_rate: by which.
      transition_begin: count at which it begins.
      staircase: whether in jumps; a Python value.
      end_value: beyond which it does not go; a lower bound where `decay_rate` is below 1.
    """

    def schedule(count: Number) -> Scalar:
        since = count - jnp.maximum(transition_begin, 0)
        times = since / _positive(transition_steps)
        times = jnp.floor(times) if staircase else times
        moves = (jnp.asarray(transition_steps) > 0) & (jnp.asarray(decay_rate) != 0)
        rate = jnp.where(moves, decay_rate, 1.0)
        value = jnp.where(since <= 0, init_value, init_value * rate**times)
        if end_value is not None:
            bounded = jnp.where(
                jnp.asarray(decay_rate) < 1.0,
                jnp.maximum(value, end_value),
                jnp.minimum(value, end_value),
            )
            value = jnp.where(moves, bounded, value)
        return value

    return schedule


def warmup_cosine_decay_schedule(
    init_value: Number,
    peak_value: Number,
    warmup_steps: Number,
    decay_steps: Number,
    end_value: Number = 0.0,
    exponent: Number = 1.0,
) -> Schedule:
    """`optax.warmup_cosine_decay_schedule`: up along a line, down along a cosine.

    Args:
      init_value: at count 0.
      peak_value: after the warm-up.
      warmup_steps: its length.
      decay_steps: of the whole schedule, warm-up included.
      end_value: at its end.
      exponent: of the cosine.
    """
    peak = jnp.asarray(peak_value)
    alpha = jnp.where(peak == 0, 0.0, end_value / jnp.where(peak == 0, 1.0, peak))
    decay = cosine_decay_schedule(peak_value, decay_steps - warmup_steps, alpha, exponent)
    return _warmed_up(init_value, peak_value, warmup_steps, decay)


def warmup_exponential_decay_schedule(
    init_value: Number,
    peak_value: Number,
    warmup_steps: Number,
    transition_steps: Number,
    decay_rate: Number,
    transition_begin: Number = 0,
    staircase: bool = False,
    end_value: Number | None = None,
) -> Schedule:
    """`optax.warmup_exponential_decay_schedule`: up along a line, then `exponential_decay`.

    Args:
      init_value: at count 0.
      peak_value: after the warm-up.
      warmup_steps: its length.
      transition_steps: see `exponential_decay`, whose counts begin after the warm-up.
      decay_rate: see there.
      transition_begin: see there.
      staircase: see there.
      end_value: see there.
    """
    decay = exponential_decay(
        peak_value, transition_steps, decay_rate, transition_begin, staircase, end_value
    )
    return _warmed_up(init_value, peak_value, warmup_steps, decay)


def cosine_onecycle_schedule(
    transition_steps: Number,
    peak_value: Number,
    pct_start: Number = 0.3,
    div_factor: Number = 25.0,
    final_div_factor: Number = 1e4,
) -> Schedule:
    """`optax.cosine_onecycle_schedule`: up and down again along cosines.

    Args:
      transition_steps: of the whole cycle.
      peak_value: at its highest.
      pct_start: share of the cycle, in (0, 1), after which that is, cut to a whole step.
      div_factor: the peak over the value at count 0.
      final_div_factor: the value at count 0 over that at the end.

    Source: Smith & Topin 2018, arXiv:1708.07120.
    """
    top = jnp.floor(pct_start * transition_steps)
    first = peak_value / div_factor
    last = first / final_div_factor

    def schedule(count: Number) -> Scalar:
        up = 0.5 * (1.0 - jnp.cos(jnp.pi * _progress(count, top)))
        down = 0.5 * (1.0 + jnp.cos(jnp.pi * _progress(count - top, transition_steps - top)))
        rising = first + (peak_value - first) * up
        return jnp.where(count < top, rising, last + (peak_value - last) * down)

    return schedule


def _warmed_up(init: Number, peak: Number, warmup_steps: Number, decay: Schedule) -> Schedule:
    """Up along a line, then a schedule whose counts begin there."""
    return optax.join_schedules([linear_schedule(init, peak, warmup_steps), decay], [warmup_steps])


def _positive(steps: Number) -> Scalar:
    """A length to divide by: itself, or 1 where it is none."""
    return jnp.where(jnp.asarray(steps) > 0, steps, 1.0)


def _progress(count: Number, steps: Number) -> Scalar:
    """The share of a length that is behind, in [0, 1]; 1 where there is none."""
    return jnp.where(jnp.asarray(steps) > 0, jnp.clip(count / _positive(steps), 0.0, 1.0), 1.0)


def _power(base: Scalar, exponent: Number) -> Scalar:
    """A power; none is computed where the exponent is the Python number 1."""
    return base if isinstance(exponent, int | float) and exponent == 1 else base**exponent
