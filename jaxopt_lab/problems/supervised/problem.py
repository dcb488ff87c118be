"""Any Flax module, any loss, any Optax chain, any arrays: supervised learning as a problem."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax import nnx
from numpy.typing import ArrayLike

from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.core.executors.fitting import PRECISIONS
from jaxopt_lab.core.hparams import Hparams
from jaxopt_lab.core.objective import Objective
from jaxopt_lab.core.scalars import scalar
from jaxopt_lab.core.tracing.check import Checked
from jaxopt_lab.core.tracing.executors import checked_executor
from jaxopt_lab.core.trainable import Trainable
from jaxopt_lab.core.types import PyTree
from jaxopt_lab.problems.general import REQUIRED, ROLES, GeneralProblem
from jaxopt_lab.problems.general.problem import check_count
from jaxopt_lab.problems.supervised import losses, optimizers
from jaxopt_lab.problems.supervised.batches import Batch, Rows, checked_arrays, lay_out
from jaxopt_lab.problems.supervised.linen import linen_network
from jaxopt_lab.problems.supervised.metrics import is_over_all_rows
from jaxopt_lab.problems.supervised.modules import (
    Builder,
    Network,
    name_of,
    needed_by,
    read_builder,
)
from jaxopt_lab.problems.supervised.nnx_modules import nnx_network
from jaxopt_lab.problems.supervised.row_loop import make_row_loop
from jaxopt_lab.problems.supervised.splits import split_rows
from jaxopt_lab.problems.supervised.still import refuse_still
from jaxopt_lab.problems.supervised.training import Setting, make_trainable

_OWN_METRICS = ("loss", "train_loss")
#: Libraries whose networks look like functions that make NNX modules, or are asked for here.
_OTHER_LIBRARIES = ("equinox", "haiku", "keras", "torch")
#: The default of `splits`.
_SHARE = 0.2


@checked_call(
    by_place="data is one pair, and the loss has its name: "
    "lab.supervised(model, (inputs, targets), loss=...)"
)
def supervised(
    model: Any,
    data: tuple[PyTree, PyTree],
    *,
    loss: Any,
    optimizer: Any = None,
    metrics: Mapping[str, Callable[..., Any]] | None = None,
    objective: str = "loss",
    direction: str = "minimize",
    objective_at: str = "last",
    splits: Any = 0.2,
    num_seeds: Any = 1,
    batch_size: Any = 32,
    budget: Any = None,
    validation: tuple[PyTree, PyTree] | None = None,
    groups: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    roles: Mapping[str, str] | None = None,
    eval_params: optimizers.EvalParams = optimizers.eval_params,
    eval_batch_size: Any = 256,
    rngs: Sequence[str] = ("dropout",),
    random_state: Any = 0,
    executor: Any = None,
    precision: Any = "float32",
) -> GeneralProblem:
    """Describe a supervised problem, or any that minimises a loss over rows.

    A unit of budget is an epoch over a split's training rows, in a random order that the trials
    which train together share, and then a validation. The last minibatch of an epoch is filled up
    with rows of its beginning, so that statistics over a minibatch see real rows only; its loss is
    averaged over the rows that are its own.

    Args:
      model: a function of keywords, which are static hyperparameters, that returns a linen module
        or a function of `rngs` that returns an NNX module; or a Flax class; or a linen module.
        `__call__(inputs)` gets, where it names them, `train` (`training`, `is_training`) or
        `deterministic`, `hparams` and `mask`: [b] bool, False at rows that only fill up; a mask of
        a sequence's steps is part of the inputs.
      data: (inputs, targets), each an array or a pytree of arrays [N, ...]; targets may be None for
        a loss of its own form. Keep test rows out of it.
      loss: (outputs, targets) -> [b], one number for each row, or (outputs, targets, hparams), of
        which the third may have any name if it has no default. If it has a parameter named
        `module`, it is given what it names of: `module`, `variables` (for `module.apply`; of linen
        only), `batch` (`inputs`, `targets`, `mask`, `weights`), `hparams`, `rngs` and `train`; it
        then returns [b], or a scalar in which rows outside `batch.mask` do not count, or one of
        them and the collections that changed.
      optimizer: hparams -> optax chain, built inside the trace; or (hparams, total_steps), with the
        updates of the whole budget as float32; or a chain; or a dict of several, of which a static
        hyperparameter `optimizer` is the choice. It is given `value` where it takes it. The default
        is AdamW of `learning_rate` and of `b1`, `b2`, `eps`, `weight_decay` where there are any.
      metrics: name -> function of (outputs, targets), one number for each row, or of all rows where
        marked by `metrics.over_all_rows`.
      objective: "loss" (of validation rows), "train_loss", or one of `metrics`.
      direction: "minimize" or "maximize".
      objective_at: "last" or "best" epoch.
      splits: a share to hold out; K folds; a scikit-learn splitter; pairs (training rows,
        validation rows); None for no validation: "loss" is then that of training. A share and folds
        are stratified where targets are integer labels. See `splits.split_rows`.
      num_seeds: trainings of each trial on each split; each starts from weights of its own.
      batch_size: rows of a minibatch; unless the space has a `batch_size`, a static choice.
      budget: epochs of a trial unless `optimize` says otherwise.
      validation: (inputs, targets) of rows to validate on; all of `data` is then trained on, and
        `splits` and `groups` are left out.
      groups: [N], for a splitter that reads them.
      sample_weight: [N], not negative: of losses and metrics, in training and validation.
      roles: role -> hyperparameter, where it is not called like the role.
      eval_params: (state of the optimizer, parameters) -> parameters that are evaluated and kept;
        by default those of `optax.contrib.schedule_free` where it is in the chain.
      eval_batch_size: validation rows that a trial takes at once.
      rngs: linen's random streams besides "params".
      random_state: of the splits.
      executor: "vmap", "map" or "kernel"; None leaves the choice to the planner.
      precision: what products use where the executor is "kernel": "float32" (three passes of
        bfloat16, each product within 1.2e-5 of the sum of its terms' sizes), "tf32", "bfloat16",
        or by name "bf16x3", "bf16x6", "tf32x3", "scalar". Other executors multiply float32.

    Returns:
      A problem for `Study`.

    Raises:
      UserError: for whatever cannot be trained, in one line.
    """
    builder = read_builder(model)
    losses.checked_loss(loss)
    metrics = _checked_metrics(metrics, objective)
    chains = optimizers.checked_optimizers(optimizer)
    whole = losses.is_whole(loss)
    rows, num_valid = _rows(data, validation, splits, groups, sample_weight, scalar(random_state))
    if not num_valid and (metrics or objective not in _OWN_METRICS):
        raise UserError(
            "metrics are of validation rows, and splits=None leaves none; give splits=0.2, say"
        )
    if not whole and not jax.tree.leaves(rows.targets):
        raise UserError(
            f"targets are missing: {name_of(loss)} is a loss of (outputs, targets); a loss with a "
            "parameter named `module` can do without"
        )
    num_seeds = check_count("num_seeds", num_seeds)
    batch_size = check_count("batch_size", batch_size)
    eval_batch_size = check_count("eval_batch_size", eval_batch_size)
    keywords = {**builder.keywords}
    keywords.setdefault("batch_size", batch_size)
    if keywords["batch_size"] is REQUIRED:
        keywords["batch_size"] = batch_size
    if "" not in chains:
        if "optimizer" in builder.keywords:
            raise UserError(
                f"{builder.name} takes a keyword `optimizer`, which is the name of the choice "
                "among several optimizers; rename it"
            )
        keywords["optimizer"] = next(iter(chains))
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise UserError(
            f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}."
            f"{did_you_mean(str(precision), PRECISIONS)}"
        )
    label_range = _label_range(rows.targets)
    example = _example(rows)

    def setting(**given: Any) -> Setting:
        chosen = {**{k: v for k, v in keywords.items() if v is not REQUIRED}, **given}
        size = check_count("batch_size", chosen["batch_size"])
        chain = chains.get(chosen["optimizer"] if "" not in chains else "")
        if chain is None:
            hint = did_you_mean(chosen["optimizer"], chains)
            raise UserError(
                f"there is no optimizer {chosen['optimizer']!r}; there are: "
                f"{', '.join(chains)}.{hint}"
            )
        network = _network(builder, chosen, rngs)
        return Setting(
            network=network,
            score=losses.make_score(network, loss, label_range),
            build=optimizers.make_build(chain),
            eval_params=eval_params,
            metrics=metrics,
            example=example,
            batch_size=min(size, int(rows.num_train.max())),
            eval_batch_size=min(eval_batch_size, max(num_valid, default=1)),
            num_splits=len(rows.num_train),
            num_valid=num_valid,
            label_range=label_range,
            weighted=not isinstance(rows.weights, tuple),
            precision=precision,
        )

    def build(**given: Any) -> Trainable:
        made = setting(**given)
        return make_trainable(made)._replace(row_loop=make_row_loop(made))

    def inspect(found: Checked, given: Mapping[str, Any], hparams: Hparams) -> None:
        refuse_still(setting(**given), found.state, hparams, name_of(loss), builder.name)

    def module(**given: Any) -> Any:
        chosen = {**{k: v for k, v in keywords.items() if v is not REQUIRED}, **given}
        return _network(builder, chosen, rngs).module

    return GeneralProblem(
        kind="supervised",
        build=build,
        keywords=keywords,
        objective=Objective(objective, direction, objective_at),
        num_members=len(rows.num_train) * num_seeds,
        data=rows,
        budget=None if budget is None else check_count("budget", budget),
        unit="epoch",
        roles=_roles(roles),
        source=builder.name,
        identity={
            "model": _described(builder, keywords),
            "loss": name_of(loss),
            "optimizer": {name: name_of(one) for name, one in chains.items()},
            "metrics": {name: name_of(function) for name, function in metrics.items()},
            "data": _checksum(rows),
            "num_splits": len(rows.num_train),
            "num_seeds": num_seeds,
            **({} if precision == "float32" else {"precision": precision}),
        },
        executor=checked_executor(executor),
        extras={
            "module": module,
            "setting": setting,
            "loss": loss,
            "defaults": optimizers.ADAMW_DEFAULTS if optimizer is None else {},
        },
        inspect=inspect,
        doubt=lambda: _not_finite(rows),
    )


def _not_finite(rows: Rows) -> str:
    """Which data hold NaN or infinity, and where first; "" for none."""
    for what, tree in (("inputs", rows.inputs), ("targets", rows.targets)):
        for leaf in jax.tree.leaves(tree):
            if leaf.dtype.kind != "f":
                continue
            odd = ~np.isfinite(leaf).reshape(len(leaf), -1).all(axis=1)
            if odd.any():
                return (
                    f"{what} hold NaN or infinity, in row {int(np.argmax(odd))} first "
                    f"({int(odd.sum())} such rows): correct them, or leave those rows out"
                )
    return ""


def _network(builder: Builder, chosen: Mapping[str, Any], rngs: Sequence[str]) -> Network:
    missing = [name for name in builder.keywords if name not in chosen]
    if missing:
        raise UserError(
            f"{builder.name} takes {missing[0]!r}, which has no default and no range; add "
            f"{missing[0]}=lab.Choice([...]) to the space, or give it a default"
        )
    made = builder.make(**{name: chosen[name] for name in builder.keywords})
    if isinstance(made, nn.Module):
        return linen_network(made, rngs)
    if isinstance(made, nnx.Module):
        name = type(made).__name__
        raise UserError(
            f"{builder.name} returned an NNX module that exists already, and every trial needs one "
            f"of its own: return lambda rngs: {name}(..., rngs=rngs)"
        )
    elsewhere = type(made).__module__.partition(".")[0] in _OTHER_LIBRARIES
    if elsewhere or not callable(made):
        raise UserError(
            f"{builder.name} must return a Flax module, or a function of rngs that makes one, got "
            f"{type(made).__name__}"
            + ("; networks of other libraries are trained by lab.from_steps" if elsewhere else "")
        )
    return nnx_network(made, builder.name)


def _checked_metrics(
    metrics: Mapping[str, Callable[..., Any]] | None, objective: str
) -> dict[str, Callable[..., Any]]:
    if metrics is not None and not isinstance(metrics, Mapping):
        raise UserError(
            "metrics must be a dict, name -> function of (outputs, targets), got "
            f"{type(metrics).__name__}"
        )
    found = dict(metrics or {})
    for name, function in found.items():
        if name in _OWN_METRICS:
            raise UserError(f"a metric cannot be called {name!r}: that is the loss; rename it")
        if not callable(function):
            raise UserError(
                f"metric {name!r} must be a function of (outputs, targets), got "
                f"{type(function).__name__}"
            )
        taken = ["sample_weight"] if is_over_all_rows(function) else []
        others = [each for each in needed_by(function)[2:] if each not in taken]
        if others:
            raise UserError(
                f"the metric {name!r} takes {others[0]!r}, which nothing gives: a metric is a "
                "function of (outputs, targets)"
            )
    known = [*_OWN_METRICS, *found]
    if objective not in known:
        raise UserError(
            f"there is no metric {objective!r} to optimise; there are: {', '.join(known)}."
            f"{did_you_mean(str(objective), known)}"
        )
    return found


def _rows(
    data: Any,
    validation: Any,
    splits: Any,
    groups: Any,
    sample_weight: Any,
    random_state: int,
) -> tuple[Rows, tuple[int, ...]]:
    """The data of the problem, and the validation rows of each split; () without any."""
    inputs, targets, num_rows = _pair("data", data)
    weights = _checked_weights(sample_weight, num_rows)
    if validation is None:
        pairs = split_rows(splits, num_rows, targets, groups, random_state)
    else:
        by_default = splits is None or (isinstance(splits, float) and splits == _SHARE)
        for name, unread in (("splits", not by_default), ("groups", groups is not None)):
            if unread:
                raise UserError(
                    f"with validation= all of data is trained on, and {name}= would not be read; "
                    "give one of the two"
                )
        more, more_targets, num_more = _pair("validation", validation)
        inputs = _stacked("inputs", inputs, more)
        targets = _stacked("targets", targets, more_targets)
        if weights is not None:
            weights = np.concatenate([weights, np.ones(num_more, np.float32)])
        every = np.arange(num_rows + num_more, dtype=np.int32)
        pairs = [(every[:num_rows], every[num_rows:])]
    rows = lay_out(inputs, targets, weights, pairs)
    if weights is not None:
        for number, pair in enumerate(pairs):
            for what, part in zip(("training", "validation"), pair, strict=True):
                if len(part) and weights[part].sum() <= 0:
                    raise UserError(f"all {what} rows of split {number} have a sample weight of 0")
    return rows, tuple(int(n) for n in rows.num_valid) if rows.valid_rows.shape[1] else ()


def _pair(what: str, data: Any) -> tuple[PyTree, PyTree, int]:
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise UserError(f"{what} must be (inputs, targets); targets may be None")
    prefix = "" if what == "data" else f"{what} "
    inputs, num_rows = checked_arrays(prefix + "inputs", data[0])
    targets, num_targets = checked_arrays(prefix + "targets", data[1])
    if num_rows is None:
        raise UserError(f"{prefix}inputs hold no array")
    if num_targets is not None and num_targets != num_rows:
        raise UserError(
            f"{prefix}inputs and targets must have as many rows, got {num_rows} and {num_targets}"
        )
    if num_rows < 1:
        raise UserError(f"{prefix}inputs have no rows")
    return inputs, targets, num_rows


def _stacked(what: str, train: PyTree, valid: PyTree) -> PyTree:
    wanted: Any = jax.tree.structure(train)
    if wanted != jax.tree.structure(valid):
        raise UserError(f"validation {what} must be built like those of data")
    for first, second in zip(jax.tree.leaves(train), jax.tree.leaves(valid), strict=True):
        if first.shape[1:] != second.shape[1:] or first.dtype != second.dtype:
            raise UserError(
                f"validation {what} must be like those of data, {first.dtype} rows of "
                f"{list(first.shape[1:])}; got {second.dtype} rows of {list(second.shape[1:])}"
            )
    return jax.tree.map(lambda *both: np.concatenate(both), train, valid)


def _checked_weights(sample_weight: Any, num_rows: int) -> np.ndarray | None:
    if sample_weight is None:
        return None
    weights = np.asarray(sample_weight)
    if weights.shape != (num_rows,) or weights.dtype.kind not in "biuf":
        raise UserError(
            f"sample_weight must hold one number for each of {num_rows} rows, got "
            f"{weights.dtype} {list(weights.shape)}"
        )
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise UserError("sample_weight must be finite and not negative")
    return weights.astype(np.float32)


def _label_range(targets: PyTree) -> tuple[int, int] | None:
    if isinstance(targets, np.ndarray) and targets.dtype.kind in "iu" and targets.size:
        return int(targets.min()), int(targets.max())
    return None


def _example(rows: Rows) -> Batch:
    """One row of zeros, of which a module learns shapes."""
    inputs, targets = jax.tree.map(
        lambda leaf: np.zeros((1, *leaf.shape[1:]), leaf.dtype), (rows.inputs, rows.targets)
    )
    mask: Any = np.ones(1, bool)
    weights: Any = np.ones(1, np.float32)
    return Batch(inputs, targets, mask, weights)


def _roles(given: Mapping[str, str] | None) -> dict[str, str]:
    for role in given or {}:
        if role not in ROLES:
            hint = did_you_mean(role, ROLES)
            raise UserError(f"there is no role {role!r}; there are: {', '.join(ROLES)}.{hint}")
    return {**{role: role for role in ROLES}, **(given or {})}


def _described(builder: Builder, keywords: Mapping[str, Any]) -> str:
    """The module with its defaults, or the builder's name where a keyword has none."""
    defaults = {name: keywords[name] for name in builder.keywords}
    if REQUIRED in defaults.values():
        return builder.name
    made = builder.make(**defaults)
    return " ".join(repr(made).split()) if isinstance(made, nn.Module) else builder.name


def _checksum(rows: Rows) -> str:
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(rows):
        found.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape};".encode())
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()[:32]
