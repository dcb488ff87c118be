"""Flax modules, one file each."""

from jaxopt_lab.models.mlp import MLP

__all__ = ["MLP"]
