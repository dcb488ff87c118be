"""Which programs a study compiles: exact shapes, or a few padded ones that serve many."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from operator import itemgetter
from typing import Any

from jaxopt_lab.core.cohorts import MAX_ACCELERATOR_WIDTH
from jaxopt_lab.core.types import Config
from jaxopt_lab.problems.mlp.hyperparameters import (
    CALIBRATED_LOSS,
    REGISTRY,
    features_key,
    features_on,
)
from jaxopt_lab.problems.mlp.signature import Signature

_SIGNATURES: dict[Signature, Signature] = {}
_facts = itemgetter(*(name for name, spec in REGISTRY.items() if spec.static))


@dataclass(frozen=True)
class Programs:
    """The programs of a study: what each trial's shape is rounded up to.

    Attributes:
      widths: hidden sizes compiled, ascending; a trial takes the least that holds it.
      depths: numbers of layers compiled, likewise.
      block: rows per block; a batch size is a whole number of blocks. 0: each its own.
      activations: computed together and picked by each trial; (): each its own program.
      noise_rows: common divisor of all batch sizes.
      draw_width: the widest network.
      features: optional features of the study.
      masked_width: whether a trial can be narrower than its program.
      masked_depth: whether a trial can be shallower than its program.
      optimizers: computed by one formula; (): each its own program.
      max_cohorts: bound of the cohort width for each of `widths`, so that few places stay empty;
        (): none.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    block: int
    activations: tuple[str, ...]
    noise_rows: int
    draw_width: int
    features: frozenset[str]
    masked_width: bool
    masked_depth: bool
    optimizers: tuple[str, ...] = ()
    max_cohorts: tuple[int, ...] = ()

    def signature(self, config: Config) -> Signature:
        """The program of a complete configuration; grows for one outside the space."""
        facts = (_facts(config), features_key(config))
        if facts not in self._found:
            found = self._signature(config, self.features | features_on(config))
            # One object for equal ones, which are keys everywhere: identical keys are not compared.
            self._found[facts] = _SIGNATURES.setdefault(found, found)
        return self._found[facts]

    @cached_property
    def _found(self) -> dict[Any, Signature]:
        """Signatures by static values and what tells features."""
        return {}

    def _signature(self, config: Config, features: frozenset[str]) -> Signature:
        width = least(self.widths, config["hidden_size"])
        depth = least(self.depths, config["num_layers"])
        batch, kind, rule = config["batch_size"], config["activation"], config["optimizer"]
        merged = bool(self.block) and batch % self.block == 0
        return Signature(
            optimizers=sharing(self.optimizers, rule),
            activations=sharing(self.activations, kind),
            num_layers=depth,
            hidden_size=width,
            block=self.block if merged else batch,
            ema=config["ema"],
            early_stopping=config["early_stopping"],
            penalize_biases=config["penalize_biases"],
            features=features,
            draw_width=max(self.draw_width, width),
            noise_rows=math.gcd(self.noise_rows, batch),
            masked_depth=self.masked_depth or depth != config["num_layers"],
            masked_width=self.masked_width or width != config["hidden_size"],
            accumulate=merged,
            precision=config["precision"],
            calibrated=config["early_stopping"]
            and config["early_stopping_monitor"] == CALIBRATED_LOSS,
            **members_of(config),
        )

    def max_cohort(self, signature: Signature) -> int:
        """Bound of the cohort width of a program."""
        bounds = dict(zip(self.widths, self.max_cohorts, strict=False))
        return bounds.get(signature.hidden_size, MAX_ACCELERATOR_WIDTH)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; `from_dict` takes it back."""
        return {**asdict(self), "features": sorted(self.features)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Programs":
        """Read what `to_dict` wrote, also that of a version with one bound for all widths."""
        data = dict(data)
        if "max_width" in data:
            data["max_cohorts"] = [data.pop("max_width")] * len(data["widths"])
        lists = {k: tuple(v) for k, v in data.items() if isinstance(v, list)}
        return cls(**{**data, **lists, "features": frozenset(data["features"])})


def members_of(config: Config) -> dict[str, Any]:
    """Number and form of a network's members; one has no form."""
    size = config["ensemble_size"]
    return {"ensemble_size": size, "ensemble_form": config["ensemble_form"] if size > 1 else "mini"}


def sharing(merged: tuple[str, ...], name: str) -> tuple[str, ...]:
    """The names that share a program with this one."""
    return merged if name in merged else (name,)


def least(sizes: Sequence[int], value: int) -> int:
    """The least of ascending sizes that holds a value; the value itself if none does."""
    return next((size for size in sizes if size >= value), value)
