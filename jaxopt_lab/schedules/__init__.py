"""Optax's schedules, of which every number may be traced: a searched peak, warm-up or length.

Optax asks in Python whether its numbers are positive, so that each value would need a program of
its own. These have Optax's names, arguments and values, and serve all values in one program.
"""

from jaxopt_lab.schedules.decays import (
    cosine_decay_schedule,
    cosine_onecycle_schedule,
    exponential_decay,
    linear_schedule,
    polynomial_schedule,
    warmup_cosine_decay_schedule,
    warmup_exponential_decay_schedule,
)

__all__ = [
    "cosine_decay_schedule",
    "cosine_onecycle_schedule",
    "exponential_decay",
    "linear_schedule",
    "polynomial_schedule",
    "warmup_cosine_decay_schedule",
    "warmup_exponential_decay_schedule",
]
