"""The networks of a predictor as one ONNX model (extra `onnx`), from encoded rows to predictions.

ONNX's own package writes the few operators that a network has, as `forward` computes them in NumPy.
"""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxopt_lab.core.errors import MachineError, UserError
from jaxopt_lab.datasets import TargetTransforms
from jaxopt_lab.datasets.targets import LARGEST_LOG
from jaxopt_lab.problems.tabular.temperatures import LEAST

if TYPE_CHECKING:
    from jaxopt_lab.problems.tabular.networks import Network
    from jaxopt_lab.problems.tabular.predictor import Predictor
    from jaxopt_lab.problems.tabular.task import Transform

#: Operators are those of this version, the first with GELU, of 2023.
_OPSET, _IR = 20, 9


def model_of(predictor: "Predictor", single: bool) -> Any:
    """An `onnx.ModelProto`.

    Args:
      predictor: of networks.
      single: take the single network where there is an ensemble.

    Returns:
      A model with an input `rows_I` float32 [n, F] for each encoder I in use, as
      `Predictor.encode` numbers them, and an output float64: `prediction` [n] in the target's
      units, [n, T] of several targets, or `probabilities` [n, c].

    Raises:
      UserError: if the ensemble has members that are no networks.
      MachineError: if ONNX is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise MachineError("ONNX is missing: pip install 'jaxopt-lab[onnx]'") from None
    if predictor.others and not single:
        raise UserError(
            "an ONNX model is written of networks, and the ensemble has "
            f"{predictor.others[0].name} in it; take the single network, save_onnx(path, "
            "single=True), or tune with "
            "ensemble='networks'"
        )
    weights = (1.0,) if single else predictor.ensemble
    chosen = [(n, w) for n, w in zip(predictor.networks, weights, strict=False) if w]
    graph = _Graph(onnx)
    total = ""
    for network, weight in chosen:
        num_features = predictor.encoders[network.encoder].num_features
        known = _averaged(graph, network, num_features, predictor.transforms)
        known = graph.add("Mul", known, graph.constant(np.float64(weight)))
        total = graph.add("Add", total, known) if total else known
    if not predictor.transforms:
        total = _tempered(graph, total, predictor.temperature(single))
    name = "prediction" if predictor.transforms else "probabilities"
    _published(graph, total, predictor.transforms[0] if predictor.transforms else None, name)
    encoders = sorted({network.encoder for network, _ in chosen})
    inputs = {f"rows_{i}": predictor.encoders[i].num_features for i in encoders}
    model = graph.model(inputs, name, len(predictor.classes) or len(predictor.targets) or None)
    about = {
        "task": predictor.task,
        "target": predictor.target_name,
        "classes": json.dumps(list(predictor.classes)),
        **({"targets": json.dumps(list(predictor.targets))} if predictor.targets else {}),
    }
    onnx.helper.set_model_props(model, about)
    onnx.checker.check_model(model)
    return model


def _tempered(graph: "_Graph", chance: str, temperature: float) -> str:
    """As `temperatures.tempered`."""
    if temperature == 1.0:
        return chance
    logits = graph.add("Log", graph.add("Max", chance, graph.constant(np.float64(LEAST))))
    logits = graph.add("Div", logits, graph.constant(np.float64(temperature)))
    return graph.add("Softmax", logits, axis=-1)


class _Graph:
    """Operators in the order in which they are added, each with one output."""

    def __init__(self, onnx: Any) -> None:
        self._onnx = onnx
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add an operator; the name of its output."""
        name = output or f"{kind.lower()}_{len(self._nodes)}"
        node = self._onnx.helper.make_node(kind, list(inputs), [name], **attributes)
        self._nodes.append(node)
        return name

    def in_double(self, name: str) -> str:
        """The same numbers as float64."""
        return self.add("Cast", name, to=self._onnx.TensorProto.DOUBLE)

    def constant(self, array: Any) -> str:
        """Add an array; its name."""
        name = f"constant_{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(np.asarray(array), name))
        return name

    def model(self, inputs: dict[str, int], output: str, columns: int | None) -> Any:
        """The model: columns of each input, the name of the output and its columns, if it has."""
        helper, kinds = self._onnx.helper, self._onnx.TensorProto
        given = [helper.make_tensor_value_info(k, kinds.FLOAT, ["n", f]) for k, f in inputs.items()]
        shape = ["n"] if columns is None else ["n", columns]
        found = [helper.make_tensor_value_info(output, kinds.DOUBLE, shape)]
        graph = helper.make_graph(self._nodes, "jaxopt_lab", given, found, self._constants)
        versions = [helper.make_opsetid("", _OPSET)]
        return helper.make_model(
            graph, opset_imports=versions, ir_version=_IR, producer_name="jaxopt_lab"
        )


def _averaged(
    graph: _Graph, network: "Network", num_features: int, transforms: tuple["Transform", ...]
) -> str:
    """A network's outputs on the scale on which an ensemble averages, as `to_averaged`."""
    outputs = graph.in_double(_outputs(graph, network, num_features))
    if network.architecture.get("ensemble_size", 1) > 1:
        outputs = _mean_of_members(graph, outputs, bool(transforms))
    if not transforms:
        return graph.add("Softmax", outputs, axis=-1)
    transform = transforms[network.encoder]
    several = isinstance(transform, TargetTransforms)
    parts = transform.parts if isinstance(transform, TargetTransforms) else (transform,)

    def each(values: list[float]) -> str:
        """A number for each target."""
        return graph.constant(np.array(values) if several else np.float64(values[0]))

    z = outputs if several else graph.add("Squeeze", outputs, graph.constant(np.array([-1])))
    low, high = (each(list(bounds)) for bounds in zip(*(p.bounds for p in parts), strict=True))
    z = graph.add("Min", graph.add("Max", z, low), high)
    z = graph.add("Mul", z, each([part.scale for part in parts]))
    z = graph.add("Add", z, each([part.mean for part in parts]))
    most = [LARGEST_LOG if part.log else np.inf for part in parts]
    return graph.add("Min", z, each(most)) if any(part.log for part in parts) else z


def _published(graph: _Graph, total: str, transform: "Transform | None", name: str) -> None:
    """The output, in the targets' units or as it is, as `from_learnt`."""
    if isinstance(transform, TargetTransforms):
        logs = graph.constant(np.array([part.log for part in transform.parts]))
        graph.add("Where", logs, graph.add("Exp", total), total, output=name)
        return
    is_log = transform is not None and transform.log
    graph.add("Exp" if is_log else "Identity", total, output=name)


def _mean_of_members(graph: _Graph, outputs: str, is_number: bool) -> str:
    """As `forward.averaged`: of outputs [k, n, o] the mean, or logarithms of mean probabilities."""
    first = graph.constant(np.array([0]))
    if is_number:
        return graph.add("ReduceMean", outputs, first, keepdims=0)
    odds = graph.add("Softmax", outputs, axis=-1)
    return graph.add("Log", graph.add("ReduceMean", odds, first, keepdims=0))


def _outputs(graph: _Graph, network: "Network", num_features: int) -> str:
    """As `forward.outputs`: [n, o], of k members [k, n, o]."""
    shape, x, size = network.architecture, f"rows_{network.encoder}", num_features
    (activation,) = shape["activations"]
    for i in range(shape["num_layers"]):
        products = _dense(graph, network.params[f"hidden_{i}"], x, size)
        x, size = ACTIVATIONS[activation](graph, products), shape["hidden_size"]
    return _dense(graph, network.params["output"], x, size)


def _dense(graph: _Graph, layer: Any, x: str, size: int) -> str:
    """The first kernel may have rows for more columns than the encoder gives."""
    kernel, bias = np.asarray(layer["kernel"]), np.asarray(layer["bias"])
    if "r" in layer:
        x = graph.add("Mul", x, graph.constant(np.asarray(layer["r"])[:, None, :size]))
    x = graph.add("MatMul", x, graph.constant(kernel[..., :size, :]))
    if "s" in layer:
        x = graph.add("Mul", x, graph.constant(np.asarray(layer["s"])[:, None]))
    return graph.add("Add", x, graph.constant(bias if bias.ndim == 1 else bias[:, None]))


def _silu(graph: _Graph, x: str) -> str:
    return graph.add("Mul", x, graph.add("Sigmoid", x))


#: Those of `forward.FUNCTIONS`, by name.
ACTIVATIONS: dict[str, Callable[[_Graph, str], str]] = {
    "relu": lambda graph, x: graph.add("Relu", x),
    "tanh": lambda graph, x: graph.add("Tanh", x),
    "gelu": lambda graph, x: graph.add("Gelu", x, approximate="tanh"),
    "silu": _silu,
    "sigmoid": lambda graph, x: graph.add("Sigmoid", x),
}
