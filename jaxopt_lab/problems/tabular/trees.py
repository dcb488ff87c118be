"""Boosted trees as plain arrays: what they predict, in NumPy, and where they come from.

A library's model object can be stored only by pickle, which executes what a stranger wrote into it.
Arrays of nodes can be checked, and need no library to predict.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

#: Positions of labels are below this.
MAX_LABELS = 256
#: Numbers of a stored model are at most this.
LARGEST = 1e300
#: Of a class that training did not see, the output is as much below that of others.
_UNSEEN = 700.0
_KINDS = {
    "feature": (np.int32, 1),
    "threshold": (np.float64, 1),
    "left": (np.int32, 1),
    "right": (np.int32, 1),
    "missing_left": (np.bool_, 1),
    "labels": (np.int32, 1),
    "value": (np.float64, 1),
    "sets": (np.bool_, 2),
    "roots": (np.int32, 1),
    "outputs": (np.int32, 1),
    "baseline": (np.float64, 1),
}
#: Rows times trees that are gone through together.
_AT_ONCE = 2**19
#: Arrays with an entry for each node.
_NODES = ("feature", "threshold", "left", "right", "missing_left", "labels", "value")


@dataclass(frozen=True, eq=False)
class Trees:
    """The nodes of T trees one after the other; a child stands behind its parent.

    Attributes:
      feature: [N] int32, the column that a node looks at; -1 for a leaf.
      threshold: [N] float64; rows of at most this go left.
      left: [N] int32, place of the left child.
      right: [N] int32, place of the right child.
      missing_left: [N] bool, whether NaN goes left.
      labels: [N] int32, the row of `sets` that a node of labels goes by; -1 for numbers.
      value: [N] float64, what a leaf adds.
      sets: [S, 256] bool, which positions of labels go left.
      roots: [T] int32, place of each tree's first node.
      outputs: [T] int32, the output that each tree adds to.
      baseline: [o] float64, outputs before any tree.

    Raises:
      ValueError: if they are not that.
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    missing_left: np.ndarray
    labels: np.ndarray
    value: np.ndarray
    sets: np.ndarray
    roots: np.ndarray
    outputs: np.ndarray
    baseline: np.ndarray

    def __post_init__(self) -> None:
        for name, (kind, rank) in _KINDS.items():
            array = getattr(self, name)
            if array.dtype != kind or array.ndim != rank:
                raise ValueError(f"trees: {name} is {array.dtype} of rank {array.ndim}")
        num = len(self.feature)
        if any(len(getattr(self, name)) != num for name in _NODES):
            raise ValueError("trees: arrays of nodes differ in length")
        if self.sets.shape[1] != MAX_LABELS or len(self.roots) != len(self.outputs):
            raise ValueError("trees: sets or outputs of the wrong shape")
        split = np.flatnonzero(self.feature >= 0)
        places = [self.left[split], self.right[split], self.roots]
        ends = [split + 1, split + 1, 0]
        for found, least in zip(places, ends, strict=True):
            if ((found < least) | (found >= num)).any():
                raise ValueError("trees: a node is no child behind its parent")
        if ((self.labels < -1) | (self.labels >= len(self.sets))).any():
            raise ValueError("trees: a node has no set of labels")
        if ((self.outputs < 0) | (self.outputs >= len(self.baseline))).any():
            raise ValueError("trees: a tree has no output")
        numbers = (self.threshold[split], self.value, self.baseline)
        if not all((np.abs(found) <= LARGEST).all() for found in numbers):
            raise ValueError("trees: numbers must be finite")

    @property
    def num_outputs(self) -> int:
        """Numbers that are predicted for a row."""
        return len(self.baseline)

    @property
    def num_features(self) -> int:
        """The least number of columns that the nodes look at."""
        return int(self.feature.max(initial=-1)) + 1

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Outputs float64 [n, o] of rows float64 [n, F].

        Args:
          inputs: numbers, and positions of labels, as training saw them; NaN where missing.
        """
        total = np.repeat(self.baseline[None], len(inputs), axis=0)
        if not len(self.roots):
            return total
        columns = [np.flatnonzero(self.outputs == place) for place in range(self.num_outputs)]
        step = max(_AT_ONCE // len(self.roots), 1)
        for begin in range(0, len(inputs), step):
            rows = slice(begin, begin + step)
            found = self.value[self._leaves(inputs[rows])]
            for output, mine in enumerate(columns):
                # In memory one after the other: how a row is summed depends on no other row.
                total[rows, output] += np.ascontiguousarray(found[:, mine]).sum(axis=1)
        return total

    def _leaves(self, inputs: np.ndarray) -> np.ndarray:
        """Places [n, T] of the leaf that each row of [n, F] comes to in each tree."""
        whole = np.where(np.isnan(inputs), 0.0, np.clip(inputs, 0, MAX_LABELS - 1)).astype(int)
        places = np.tile(self.roots.astype(np.int64), len(inputs))
        waiting = np.flatnonzero(self.feature[places] >= 0)
        while len(waiting):
            node, row = places[waiting], waiting // len(self.roots)
            values = inputs[row, self.feature[node]]
            is_left = values <= self.threshold[node]
            labels = self.labels[node]
            of_labels = np.flatnonzero(labels >= 0)
            if len(of_labels):
                position = whole[row[of_labels], self.feature[node[of_labels]]]
                is_left[of_labels] = self.sets[labels[of_labels], position]
            is_left = np.where(np.isnan(values), self.missing_left[node], is_left)
            places[waiting] = np.where(is_left, self.left[node], self.right[node])
            waiting = waiting[self.feature[places[waiting]] >= 0]
        return places.reshape(len(inputs), len(self.roots))

    def first(self, num_trees: int) -> "Trees":
        """The first of the trees.

        Args:
          num_trees: how many; all where there are not more.
        """
        if num_trees >= len(self.roots):
            return self
        end = int(self.roots[num_trees])
        kept = {name: getattr(self, name)[:end] for name in _NODES}
        return replace(self, **kept, roots=self.roots[:num_trees], outputs=self.outputs[:num_trees])

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name; `Trees(**arrays)` is the same again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def weighted(parts: Sequence[tuple[Trees, float]]) -> Trees:
    """One model of all trees, whose outputs are the weighted sum of those of its parts.

    Args:
      parts: models of as many outputs, and their weights.
    """
    found: dict[str, list[np.ndarray]] = {name: [] for name in _KINDS}
    num_nodes = num_sets = 0
    for trees, weight in parts:
        arrays = trees.to_arrays()
        for name in ("left", "right", "roots"):
            arrays[name] = arrays[name] + np.int32(num_nodes)
        labels = arrays["labels"]
        arrays["labels"] = np.where(labels >= 0, labels + np.int32(num_sets), labels)
        arrays["value"] = weight * arrays["value"]
        num_nodes += len(trees.feature)
        num_sets += len(trees.sets)
        for name, array in arrays.items():
            found[name].append(array)
    baseline = sum(weight * trees.baseline for trees, weight in parts)
    joined = {name: np.concatenate(arrays) for name, arrays in found.items()}
    return Trees(**{**joined, "baseline": np.asarray(baseline)})


def from_hist_gradient_boosting(
    model: Any, classes: np.ndarray | None = None, num_outputs: int = 1
) -> Trees:
    """The trees of scikit-learn's HistGradientBoosting, whose labels come before its numbers.

    Args:
      model: fitted on columns of labels, as positions that all occur, and then of numbers.
      classes: int indices of the classes that it saw, in its order; None for regression.
      num_outputs: o.
    """
    known, places = model._bin_mapper.make_known_categories_bitsets()
    outputs, baseline = places_of(classes, num_outputs)
    baseline[outputs] = np.ravel(model._baseline_prediction)
    builder = _Builder(baseline)
    for round_ in model._predictors:
        for output, tree in zip(outputs, round_, strict=True):
            nodes, left_sets = tree.nodes, tree.raw_left_cat_bitsets
            is_labels = nodes["is_categorical"].astype(bool) & ~nodes["is_leaf"].astype(bool)
            which = np.where(is_labels, nodes["bitset_idx"].astype(np.int64), -1)
            sets = np.zeros((len(left_sets), MAX_LABELS), bool)
            for node in np.flatnonzero(is_labels):
                place = nodes["bitset_idx"][node]
                sets[place] = _bits(left_sets[place])
                if nodes["missing_go_to_left"][node]:  # where labels that were never seen go, too
                    sets[place] |= ~_bits(known[places[nodes["feature_idx"][node]]])
            is_leaf = nodes["is_leaf"].astype(bool)
            builder.add(
                int(output),
                feature=np.where(is_leaf, -1, nodes["feature_idx"].astype(np.int64)),
                # Infinite where only missing values go right.
                threshold=np.where(is_leaf | is_labels, 0.0, _finite(nodes["num_threshold"])),
                left=nodes["left"],
                right=nodes["right"],
                missing_left=nodes["missing_go_to_left"],
                labels=which,
                value=np.where(is_leaf, nodes["value"], 0.0),
                sets=sets,
            )
    return builder.trees()


def from_lightgbm(
    dumped: Mapping[str, Any], classes: np.ndarray | None = None, num_outputs: int = 1
) -> Trees:
    """The trees of LightGBM.

    Args:
      dumped: what `Booster.dump_model` gives; columns of labels hold positions.
      classes: as in `from_hist_gradient_boosting`.
      num_outputs: likewise.

    Raises:
      ValueError: for a kind of node that none of its defaults makes.
    """
    outputs, baseline = places_of(classes, num_outputs)
    builder = _Builder(baseline)
    for place, tree in enumerate(dumped["tree_info"]):
        nodes: list[dict[str, Any]] = []
        sets: list[np.ndarray] = []
        _unfold(tree["tree_structure"], nodes, sets)
        columns = {name: np.array([node[name] for node in nodes]) for name in nodes[0]}
        found = np.array(sets, bool).reshape(len(sets), MAX_LABELS)
        builder.add(int(outputs[place % len(outputs)]), **columns, sets=found)
    return builder.trees()


def _unfold(node: Mapping[str, Any], nodes: list[dict[str, Any]], sets: list[np.ndarray]) -> int:
    """Append a node of LightGBM's and what hangs on it; the place of the node."""
    here = len(nodes)
    mine: dict[str, Any] = {"feature": -1, "threshold": 0.0, "left": 0, "right": 0, "labels": -1}
    mine |= {"missing_left": False, "value": float(node.get("leaf_value", 0.0))}
    nodes.append(mine)
    if "split_feature" not in node:
        return here
    mine["feature"], mine["value"] = int(node["split_feature"]), 0.0
    if node["decision_type"] == "==":
        mine["labels"] = len(sets)
        sets.append(np.isin(np.arange(MAX_LABELS), [int(x) for x in node["threshold"].split("||")]))
    elif node["decision_type"] == "<=" and node["missing_type"] in ("None", "NaN"):
        mine["threshold"] = min(max(float(node["threshold"]), -LARGEST), LARGEST)
        # Where training saw none, a missing value counts as 0.
        no_missing = node["missing_type"] == "None"
        left = mine["threshold"] >= 0 if no_missing else node["default_left"]
        mine["missing_left"] = bool(left)
    else:
        raise ValueError(f"LightGBM's node {node['decision_type']}, {node['missing_type']}")
    mine["left"] = _unfold(node["left_child"], nodes, sets)
    mine["right"] = _unfold(node["right_child"], nodes, sets)
    return here


def places_of(classes: np.ndarray | None, num_outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Which outputs a library's model adds to, and where they start.

    Args:
      classes: indices of the classes that it saw, at least two; None for regression.
      num_outputs: o.

    Returns:
      Outputs int [k], one for two classes, whose first stays at 0; and [o] float64: 0, and for a
      class that training did not see what makes it impossible.
    """
    if classes is None:
        return np.arange(num_outputs), np.zeros(num_outputs)
    start = np.full(num_outputs, -_UNSEEN)
    start[classes] = 0.0
    return (classes[1:] if len(classes) == 2 else classes), start


def _finite(values: np.ndarray) -> np.ndarray:
    return np.clip(values, -LARGEST, LARGEST)


def _bits(words: np.ndarray) -> np.ndarray:
    """[256] bool of 8 words of 32 bits."""
    return np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little").astype(bool)


class _Builder:
    """Puts trees one after the other."""

    def __init__(self, baseline: np.ndarray) -> None:
        self.baseline, self.num_nodes, self.num_sets = baseline, 0, 0
        self.parts: dict[str, list[np.ndarray]] = {name: [] for name in _KINDS}

    def add(self, output: int, **tree: np.ndarray) -> None:
        tree["labels"] = np.where(tree["labels"] >= 0, tree["labels"] + self.num_sets, -1)
        for side in ("left", "right"):
            tree[side] = tree[side].astype(np.int64) + self.num_nodes
        tree |= {"roots": np.array([self.num_nodes]), "outputs": np.array([output])}
        self.num_nodes += len(tree["feature"])
        self.num_sets += len(tree["sets"])
        for name, array in tree.items():
            self.parts[name].append(array)

    def trees(self) -> Trees:
        self.parts["baseline"].append(self.baseline)
        return Trees(
            **{
                name: np.concatenate([part.astype(kind) for part in self.parts[name]])
                for name, (kind, _) in _KINDS.items()
            }
        )
