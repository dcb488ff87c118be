"""Who is trained beside the base: the ladders that diagnose, and the cures that are tried."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxopt_lab.core.types import Config

#: Learning rates of the ladder, as multiples of the base's; 0 trains nothing.
RATE_LADDER = (0.0, 0.01, 0.1, 0.3, 3.0, 10.0)
ADAPTIVE = ("adam", "adamw", "rmsprop", "lion")
#: Least learning rate that reduce-on-plateau leaves.
PLATEAU_FLOOR = 1e-5
BASE = "base"
#: Families of the base on rows without a fault: see `rows.mended`.
OUTLIERS, TARGET, SCALE, TARGET_SCALE, VALIDATION = ON_MENDED_ROWS = (
    "outliers",
    "target",
    "scale",
    "target scale",
    "validation",
)


@dataclass(frozen=True)
class Member:
    """One variant of the base configuration.

    Attributes:
      name: what a person calls it.
      settings: hyperparameters that differ from the base.
      family: variants that turn the same knob; "" for the base and pure probes.
      is_cure: whether it may be recommended.
      split: of the data that it is trained and validated on; 0 is the given one.
      comparable: whether its losses are of the base's validation rows, and in its unit.
    """

    name: str
    settings: Mapping[str, Any]
    family: str = ""
    is_cure: bool = True
    split: int = 0
    comparable: bool = True

    def config(self, base: Config) -> Config:
        """The whole configuration."""
        return {**base, **self.settings}


def ladder(base: Config, num_rows: int, num_epochs: int) -> list[Member]:
    """The base, learning rates around its own, other second moments and values of eps, and averaged
    weights, which take the shaking of a constant rate away without learning less.

    Args:
      base: complete configuration.
      num_rows: training rows.
      num_epochs: of each training; of averages that are the same for most of it one is tried.
    """
    rate = base["learning_rate"]
    found = [Member(BASE, {}, is_cure=False)]
    for factor in RATE_LADDER:
        lower = 0 < factor < 1
        name = f"learning rate ÷{round(1 / factor)}" if lower else f"learning rate ×{factor:g}"
        found.append(Member(name, {"learning_rate": times(rate, factor)}, "learning rate", lower))
    if base["optimizer"] in ADAPTIVE:
        found += [
            Member(f"b2 {b2:g}", {"b2": b2}, "b2")
            for b2 in (0.99, 0.999, 0.9995, 0.9999)
            if b2 > base["b2"]
        ]
    if base["optimizer"] in ("adam", "adamw", "rmsprop"):
        found += [Member(f"eps {e:g}", {"eps": e}, "eps") for e in (1e-5, 1e-3) if e > base["eps"]]
    return [*found, *_averages(base, num_rows, num_epochs)]


def cures(base: Config, num_rows: int, clip_norms: tuple[float, float]) -> list[Member]:
    """The remedies of practice beyond those of `ladder`, at several strengths, and pairs.

    Args:
      base: complete configuration.
      num_rows: training rows; a batch is at most a quarter of them.
      clip_norms: 50 % and 90 % quantile of the base's gradient norms.
    """
    rate = base["learning_rate"]
    middle, high = (float(f"{norm:.3g}") for norm in clip_norms)
    clip = {"clip_norm": middle}
    cosine = {"schedule": "cosine", "final_fraction": 0.0}
    average = {"ema": True, "ema_decay": 0.99}
    l2 = {"l2": 0.01}
    found = [
        Member("reduce on plateau", plateau(rate), "schedule"),
        Member("cosine decay to 0", cosine, "schedule"),
        Member("linear decay to 0", {"schedule": "linear", "final_fraction": 0.0}, "schedule"),
        Member("warm-up", {"warmup_fraction": 0.1}, "warm-up"),
        Member("clip norm at its median", clip, "clip"),
        Member("clip norm at its 90 %", {"clip_norm": high}, "clip"),
        Member("clip norm at 1", {"clip_norm": 1.0}, "clip"),
        Member("clip values at 1", {"clip_value": 1.0}, "clip"),
        Member("adaptive clip at 0.01 of the weights", {"agc": 0.01}, "adaptive clip"),
        Member("AdaGC 1.05", {"adagc": 1.05}, "adaptive clip"),
        Member("dropout 0.3", {"dropout": 0.3}, "regularisation"),
        Member("dropout 0.5", {"dropout": 0.5}, "regularisation"),
        Member("L2 0.001", {"l2": 0.001}, "regularisation"),
        Member("L2 0.01", l2, "regularisation"),
        Member("L2 0.1", {"l2": 0.1}, "regularisation"),
        Member("dropout 0.3 and L2 0.01", {"dropout": 0.3, **l2}, "regularisation"),
        Member("decay to 0 and averaged weights", {**cosine, **average}, "pair"),
        Member(
            "rate ÷3 and clip at the median", {"learning_rate": times(rate, 0.3), **clip}, "pair"
        ),
        Member("clip at the median and decay to 0", {**clip, **cosine}, "pair"),
        Member("L2 0.01 and decay to 0", {**l2, **cosine}, "pair"),
        Member("warm-up and decay to 0", {"warmup_fraction": 0.1, **cosine}, "pair"),
        Member("rate ÷3 and decay to 0", {"learning_rate": times(rate, 0.3), **cosine}, "pair"),
        Member("rate ÷10 and decay to 0", {"learning_rate": times(rate, 0.1), **cosine}, "pair"),
    ]
    if base["optimizer"] in ("adam", "adamw", "lion"):
        found.append(Member("b1 0.95", {"b1": 0.95}, "b1"))
    return _others([*found, *batches(base, num_rows)], base)


def batches(base: Config, num_rows: int) -> list[Member]:
    """Larger batches, at the same rate and at the one that goes with it.

    Args:
      base: complete configuration.
      num_rows: training rows; a batch is at most a quarter of them.
    """
    rate, found = base["learning_rate"], []
    for factor in (4, 16):
        size = base["batch_size"] * factor
        if 4 * size <= num_rows:
            found.append(Member(f"batch ×{factor}", {"batch_size": size}, "batch"))
            # In as many epochs a larger batch makes fewer updates: with the rate that goes with it
            # they are as much larger, as the noise of an update allows.
            power = 0.5 if base["optimizer"] in ADAPTIVE else 1.0
            more = float(f"{factor**power:g}")
            both = {"batch_size": size, "learning_rate": times(rate, more)}
            found.append(Member(f"batch ×{factor} with rate ×{more:g}", both, "batch"))
    return found


def much_higher(rate: float, name: str = "learning_rate") -> list[Member]:
    """What to try where nothing is learned, beyond the ladder.

    Args:
      rate: of the base.
      name: hyperparameter that is the learning rate.
    """
    return [
        Member(f"learning rate ×{factor}", {name: times(rate, factor)}, "learning rate", False)
        for factor in (100, 1000)
    ]


def times(rate: float, factor: float) -> float:
    """A rate that a person would write: 3e-4, not 0.00030000000000000003."""
    return float(f"{rate * factor:.12g}")


def plateau(rate: float) -> Config:
    """What reduce on plateau changes at a learning rate: factor 0.2, patience 5, floor 1e-5."""
    return {
        "schedule": "reduce_on_plateau",
        "plateau_factor": 0.2,
        "plateau_patience": 5,
        "plateau_floor": min(1.0, PLATEAU_FLOOR / rate) if rate else 1.0,
    }


def _others(found: list[Member], base: Config) -> list[Member]:
    """Those that change something."""
    return [m for m in found if any(base[k] != v for k, v in m.settings.items())]


def _averages(base: Config, num_rows: int, num_epochs: int) -> list[Member]:
    """Weights averaged over an epoch, and of fixed decays that differ from that, in the later half
    of a training, and from each other: a decay is held below (t + 1) / (t + 10) after t updates.
    """
    half = num_rows / base["batch_size"] * num_epochs / 2
    most = (half + 1.0) / (half + 10.0)
    found, taken = [], set()
    for decay, name in (
        (over_an_epoch(num_rows, base["batch_size"]), "weights averaged over an epoch"),
        (0.99, "averaged weights 0.99"),
        (0.999, "averaged weights 0.999"),
    ):
        if min(decay, most) not in taken:
            taken.add(min(decay, most))
            found.append(Member(name, {"ema": True, "ema_decay": decay}, "average"))
    return _others(found, base)


def over_an_epoch(num_rows: int, batch_size: int) -> float:
    """Decay of averaged weights that forgets in one epoch's updates."""
    return round(1.0 - 1.0 / max(num_rows / batch_size, 2.0), 4)


def combined(first: Member, second: Member) -> Member:
    """Both cures at once; of two with rows of their own, on the first's."""
    settings = {**first.settings, **second.settings}
    name, comparable = f"{first.name} and {second.name}", first.comparable and second.comparable
    return Member(name, settings, "pair", True, first.split or second.split, comparable)
