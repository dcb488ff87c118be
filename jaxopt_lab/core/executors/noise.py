"""Random numbers in a kernel: elementwise operations on counters, no memory.

A key is two words. `COUNTER` is what kernels draw from: two rounds of a 32-bit mixing function,
some fifteen operations a number. `THREEFRY` is JAX's own generator, bit for bit, some hundred
operations a number; the tests hold kernels to `vmap` with it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

#: Two scalars of uint32.
Words = tuple[Any, Any]

_GOLDEN = 0x9E3779B9
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


class Generator(NamedTuple):
    """A generator of random bits.

    Attributes:
      fold_in: (key, number) -> another key.
      bits: (key, counters) -> a random word for each counter, uint32.
    """

    fold_in: Callable[[Words, Any], Words]
    bits: Callable[[Words, Any], Any]


def _u32(value: Any) -> Any:
    return jnp.asarray(value, jnp.uint32)


def _mixed(x: Any) -> Any:
    """The finalizer of MurmurHash3 (Appleby 2011)."""
    x = (x ^ (x >> _u32(16))) * _u32(0x85EBCA6B)
    x = (x ^ (x >> _u32(13))) * _u32(0xC2B2AE35)
    return x ^ (x >> _u32(16))


def _counter_fold(key: Words, number: Any) -> Words:
    first = _mixed(key[0] ^ _mixed(number + _u32(_GOLDEN)))
    return first, _mixed((key[1] + first) ^ number)


def _counter_bits(key: Words, counters: Any) -> Any:
    return _mixed(_mixed(counters + key[0]) ^ key[1])


def _threefry(key: Words, high: Any, low: Any) -> Words:
    """Salmon et al. 2011: 20 rounds of two words."""
    words = (*key, key[0] ^ key[1] ^ _u32(0x1BD11BDA))
    x, y = high + words[0], low + words[1]
    for turn in range(5):
        for rotation in _ROTATIONS[turn % 2]:
            x = x + y
            y = ((y << _u32(rotation)) | (y >> _u32(32 - rotation))) ^ x
        x = x + words[(turn + 1) % 3]
        y = y + words[(turn + 2) % 3] + _u32(turn + 1)
    return x, y


def _threefry_bits(key: Words, counters: Any) -> Any:
    high, low = _threefry(key, jnp.zeros_like(counters), counters)
    return high ^ low


def _threefry_fold(key: Words, number: Any) -> Words:
    return _threefry(key, _u32(0), number)


COUNTER = Generator(_counter_fold, _counter_bits)
THREEFRY = Generator(_threefry_fold, _threefry_bits)
