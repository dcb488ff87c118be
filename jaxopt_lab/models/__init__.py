"""Flax modules, one file each, and layers for modules of your own."""

from jaxopt_lab.models.cnn import CNN
from jaxopt_lab.models.convolutions import conv_general_dilated, max_pool
from jaxopt_lab.models.dropout import Dropout
from jaxopt_lab.models.mlp import MLP
from jaxopt_lab.models.products import dot_general
from jaxopt_lab.models.rnn import RNN

__all__ = [
    "CNN",
    "MLP",
    "RNN",
    "Dropout",
    "conv_general_dilated",
    "dot_general",
    "max_pool",
]
