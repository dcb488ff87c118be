"""Rows of a supervised problem with what was found about them, and the same rows without it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxopt_lab.core.trainable import Trainable
from jaxopt_lab.problems.general import GeneralProblem
from jaxopt_lab.problems.supervised.batches import Rows, lay_out
from jaxopt_lab.problems.supervised.losses import is_whole
from jaxopt_lab.problems.supervised.row_loop import make_row_loop
from jaxopt_lab.problems.supervised.training import Setting, make_trainable
from jaxopt_lab.stabilization.members import SCALE, TARGET, TARGET_SCALE, Member
from jaxopt_lab.stabilization.rows import SOUND, Faults, Split, faults, is_comparable, mended

#: Arrays that mended ones are laid beside are no larger.
_MOST_BYTES = 2**28


class MendedRows(NamedTuple):
    """A problem whose data hold its rows and, where something was found, those without it.

    Attributes:
      problem: the given one where nothing was found.
      members: the base on each of those.
      faults: what was found.
      num_splits: splits of the given rows; those of member m begin at m.split times as many. 0 of
        a problem that has none.
    """

    problem: GeneralProblem
    members: tuple[Member, ...]
    faults: Faults
    num_splits: int

    def fold(self, number: int, member: Member) -> int:
        """The member of a trial that trains on a variant's rows, as `Shared.split` says it.

        Args:
          number: of the one that trains on the given rows.
          member: with its own split.
        """
        if not self.members:
            return number
        seed, split = divmod(number, self.num_splits)
        every = self.num_splits * (1 + len(self.members))
        return seed * every + member.split * self.num_splits + split


def look_at(problem: GeneralProblem, curve: str) -> MendedRows:
    """Look for faults in the rows of a supervised problem of one array in.

    Args:
      problem: of any kind.
      curve: metric that is measured; losses alone tell rows from rows.
    """
    data = problem.data
    if problem.kind != "supervised":
        return MendedRows(problem, (), SOUND, 0)
    given = [_split(data, k) for k in range(len(data.num_train))]
    nothing = MendedRows(problem, (), SOUND, len(given))
    inputs = data.inputs
    if not isinstance(inputs, np.ndarray) or inputs.dtype.kind != "f" or inputs.ndim < 2:
        return nothing
    targets = _numbers(data.targets) if not is_whole(problem.extras["loss"]) else None
    seen = faults(inputs, targets, given[0].train, given[0].valid)
    nothing = nothing._replace(faults=seen)
    if curve != "loss" or not len(given[0].valid):
        return nothing
    found = [mended(split, seen) for split in given]
    names = [{family for _, family, _ in mine} for mine in found]
    everywhere = set.intersection(*names)
    if inputs.nbytes > _MOST_BYTES:
        everywhere -= {TARGET, TARGET_SCALE, SCALE}
    found = [[one for one in mine if one[1] in everywhere] for mine in found]
    if not found[0]:
        return nothing
    members = tuple(
        Member(name, {}, family, split=number, comparable=is_comparable(given[0], split))
        for number, (name, family, split) in enumerate(found[0], 1)
    )
    by_member = [[mine[number][2] for mine in found] for number in range(len(members))]
    return nothing._replace(problem=_on(problem, given, by_member), members=members)


def rows_of(data: Rows, split: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation rows of a split."""
    return (
        np.asarray(data.train_rows[split][: int(data.num_train[split])]),
        np.asarray(data.valid_rows[split][: int(data.num_valid[split])]),
    )


def _split(data: Rows, number: int) -> Split:
    return Split(data.inputs, data.targets, *rows_of(data, number))


def _numbers(targets: Any) -> np.ndarray | None:
    """[N], of one number each; None of anything else."""
    if not isinstance(targets, np.ndarray) or targets.dtype.kind != "f":
        return None
    one = targets.ndim == 1 or (targets.ndim == 2 and targets.shape[1] == 1)
    return targets.reshape(-1) if one else None


def _on(
    problem: GeneralProblem, given: Sequence[Split], by_member: Sequence[Sequence[Split]]
) -> GeneralProblem:
    """The problem with further splits, member by member; changed arrays stand behind the given."""
    data = problem.data
    blocks, pairs = [(data.inputs, data.targets)], [(s.train, s.valid) for s in given]
    for splits in by_member:
        # What is changed is changed by the first split's rows.
        inputs, targets = splits[0].inputs, splits[0].targets
        offset = 0
        if inputs is not data.inputs or targets is not data.targets:
            offset = len(blocks) * len(data.inputs)
            blocks.append((inputs, targets))
        pairs += [(split.train + offset, split.valid + offset) for split in splits]
    if len(blocks) == 1:
        inputs, targets, weights = data.inputs, data.targets, data.weights
    else:
        inputs, targets = jax.tree.map(lambda *parts: np.concatenate(parts), *blocks)
        weights = data.weights
        if not isinstance(weights, tuple):
            weights = np.tile(weights, len(blocks))
    laid_out = lay_out(inputs, targets, None if isinstance(weights, tuple) else weights, pairs)
    make = problem.extras["setting"]

    def setting(**keywords: Any) -> Setting:
        made: Setting = make(**keywords)
        return made._replace(
            num_splits=len(pairs), num_valid=tuple(int(n) for n in laid_out.num_valid)
        )

    def build(**keywords: Any) -> Trainable:
        made = setting(**keywords)
        return make_trainable(made)._replace(row_loop=make_row_loop(made))

    return replace(
        problem,
        build=build,
        data=laid_out,
        num_members=problem.num_members * (1 + len(by_member)),
        extras={**problem.extras, "setting": setting},
        inspect=None,
        _trainings={},
    )
