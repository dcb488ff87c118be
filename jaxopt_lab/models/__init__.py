"""Flax modules, one file each."""

from jaxopt_lab.models.mlp import MLP
from jaxopt_lab.models.rnn import RNN, make_rnn

__all__ = ["MLP", "RNN", "make_rnn"]
