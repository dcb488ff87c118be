"""What is kept of trained members (weights, say), in the store of a study."""

from collections.abc import Sequence
from typing import Any

from jaxopt_lab.core.types import PyTree
from jaxopt_lab.problems.contract import Training
from jaxopt_lab.storage.rows import MemberKey
from jaxopt_lab.storage.store import Store

#: What weights are called among the arrays of a study.
_KIND = "weights"


class Weights:
    """Results of members.

    Args:
      store: of the study.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def put(self, member: MemberKey, kept: PyTree, training: Training) -> None:
        """Keep the result of (trial, fold, replicate); inside a transaction."""
        self._store.keep(_KIND, member, training.dump(kept))

    def get(self, member: MemberKey, training: Training, program: Any) -> PyTree:
        """What was kept before; `KeyError` if it was not."""
        return training.load(self._store.kept(_KIND, member), program)

    def has(self, member: MemberKey) -> bool:
        """Whether the result of a member is kept."""
        return member in self._store.kept_members(_KIND)

    @property
    def members(self) -> frozenset[MemberKey]:
        """Those of which results are kept."""
        return self._store.kept_members(_KIND)

    @property
    def trials(self) -> set[int]:
        """Those of which results are kept."""
        return {trial_id for trial_id, _, _ in self._store.kept_members(_KIND)}

    def keep_only(self, trials: Sequence[int]) -> None:
        """Drop the results of all other trials; inside a transaction."""
        self._store.drop(_KIND, self.trials - set(trials))
