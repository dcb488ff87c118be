"""Which inputs of a traced program its outputs depend on; dead code counts for nothing."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from jax.extend import core

#: For each output, a set of inputs: bit i stands for input i.
Masks = tuple[int, ...]


def dependencies(closed: core.ClosedJaxpr) -> list[frozenset[int]]:
    """Find which inputs each output depends on.

    Bodies of loops, branches and inner jitted functions are looked into, so that what they take
    and throw away is no dependency. What is unknown counts as depending on everything.

    Args:
      closed: a traced program.

    Returns:
      For each output, indices into the inputs.

    Examples:
      >>> import jax
      >>> closed = jax.make_jaxpr(lambda x, y: (x, y + 0 * x.shape[0]))(jax.numpy.ones(3), 1.0)
      >>> dependencies(closed)
      [frozenset({0}), frozenset({1})]
    """
    return [frozenset(_bits(mask)) for mask in _Analysis().masks(closed)]


def sub_jaxprs(equation: core.JaxprEqn) -> list[Any]:
    """The programs inside an equation, `Jaxpr` each: of loops, branches and calls."""
    found: list[Any] = []
    for value in equation.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, core.ClosedJaxpr | core.Jaxpr):
                found.append(open_jaxpr(item))
    return found


def open_jaxpr(jaxpr: Any) -> Any:
    """The `Jaxpr` of a `ClosedJaxpr`, or itself."""
    return jaxpr.jaxpr if isinstance(jaxpr, core.ClosedJaxpr) else jaxpr


class Loop(NamedTuple):
    """The parts of a `scan` or `while` equation.

    Attributes:
      body: what is repeated: (constants, carry, slices) -> (carry, slices).
      constants, carry, slices: how many inputs the body has of each.
      condition: of a `while`: (constants, carry) -> bool; else None.
      condition_constants: how many inputs of the condition are constants.
      length: number of repetitions; None if it is not known.
    """

    body: Any
    constants: int
    carry: int
    slices: int
    condition: Any = None
    condition_constants: int = 0
    length: int | None = None


def loop_of(equation: core.JaxprEqn) -> Loop | None:
    """Take a loop apart; None for any other equation."""
    params = equation.params
    if equation.primitive.name == "scan":
        body = open_jaxpr(params["jaxpr"])
        if "ft_in" in params:  # from JAX 0.11 on
            constants, carry, _ = map(len, params["ft_in"].unpack())
        else:
            constants, carry = params["num_consts"], params["num_carry"]
        slices = len(body.invars) - constants - carry
        return Loop(body, constants, carry, slices, length=params["length"])
    if equation.primitive.name == "while":
        body, constants = open_jaxpr(params["body_jaxpr"]), params["body_nconsts"]
        condition = open_jaxpr(params["cond_jaxpr"])
        carry = len(body.invars) - constants
        return Loop(body, constants, carry, 0, condition, params["cond_nconsts"])
    return None


class _Analysis:
    """Dependencies of programs and of those inside them, each looked at once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, Masks]] = {}

    def masks(self, jaxpr: Any) -> Masks:
        jaxpr = open_jaxpr(jaxpr)
        if id(jaxpr) not in self._known:
            # The program is kept beside its masks, so that its id stays its own.
            self._known[id(jaxpr)] = jaxpr, self._forward(jaxpr)
        return self._known[id(jaxpr)][1]

    def _forward(self, jaxpr: Any) -> Masks:
        known = {variable: 1 << i for i, variable in enumerate(jaxpr.invars)}

        def read(atom: Any) -> int:
            return 0 if isinstance(atom, core.Literal) else known.get(atom, 0)

        references = any(_is_reference(v) for e in jaxpr.eqns for v in (*e.invars, *e.outvars))
        # What is written to a reference may be read by an equation before it in a loop.
        for _ in range(2 if references else 1):
            for equation in jaxpr.eqns:
                inputs = [read(atom) for atom in equation.invars]
                written = [atom for atom in equation.invars if _is_reference(atom)]
                outputs = (
                    _everything(inputs, equation) if written else self._apply(equation, inputs)
                )
                for variable, mask in zip(equation.outvars, outputs, strict=True):
                    known[variable] = known.get(variable, 0) | mask
                for variable in written:
                    known[variable] = known.get(variable, 0) | _union(inputs)
        return tuple(read(atom) for atom in jaxpr.outvars)

    def _apply(self, equation: core.JaxprEqn, inputs: list[int]) -> Sequence[int]:
        loop = loop_of(equation)
        if loop is not None:
            return (self._scan if loop.condition is None else self._while)(loop, inputs)
        inner = sub_jaxprs(equation)
        if equation.primitive.name == "cond":
            index, operands = inputs[0], inputs[1:]
            branches = [_substitute(self.masks(branch), operands) for branch in inner]
            return [index | _union(masks) for masks in zip(*branches, strict=True)]
        if len(inner) == 1 and len(inner[0].invars) == len(inputs):
            outputs = self.masks(inner[0])
            if len(outputs) == len(equation.outvars):
                return _substitute(outputs, inputs)
        return _everything(inputs, equation)

    def _scan(self, loop: Loop, inputs: list[int]) -> Sequence[int]:
        body = self.masks(loop.body)
        constants, carry, slices = _split(inputs, loop.constants, loop.carry)
        final = list(carry) if loop.length == 0 else [0] * loop.carry
        stacked = [0] * (len(body) - loop.carry)
        seen = list(carry)
        for _ in range(min(loop.length or 0, _MANY)):
            outputs = _substitute(body, [*constants, *seen, *slices])
            new = [a | b for a, b in zip(final, outputs[: loop.carry], strict=True)]
            stacked = [a | b for a, b in zip(stacked, outputs[loop.carry :], strict=True)]
            wider = [a | b for a, b in zip(seen, new, strict=True)]
            if new == final and wider == seen:
                break
            final, seen = new, wider
        return [*final, *stacked]

    def _while(self, loop: Loop, inputs: list[int]) -> Sequence[int]:
        body, condition = self.masks(loop.body), self.masks(loop.condition)
        asked, constants, carry = _split(inputs, loop.condition_constants, loop.constants)
        fixed = [
            atom is variable
            for atom, variable in zip(
                loop.body.outvars, loop.body.invars[loop.constants :], strict=True
            )
        ]
        seen = list(carry)
        while True:
            turns = _union(_substitute(condition, [*asked, *seen]))
            outputs = _substitute(body, [*constants, *seen])
            new = [
                before if same else before | after | turns
                for before, after, same in zip(seen, outputs, fixed, strict=True)
            ]
            if new == seen:
                return seen
            seen = new


#: More than any chain of dependencies from carry to carry.
_MANY = 10_000


def _is_reference(atom: Any) -> bool:
    return hasattr(getattr(atom, "aval", None), "inner_aval")


def _everything(inputs: Iterable[int], equation: core.JaxprEqn) -> list[int]:
    return [_union(inputs)] * len(equation.outvars)


def _union(masks: Iterable[int]) -> int:
    union = 0
    for mask in masks:
        union |= mask
    return union


def _substitute(outputs: Sequence[int], inputs: Sequence[int]) -> list[int]:
    return [_union(inputs[i] for i in _bits(mask)) for mask in outputs]


def _split(values: list[int], *sizes: int) -> tuple[list[int], list[int], list[int]]:
    first, second = sizes
    return values[:first], values[first : first + second], values[first + second :]


def _bits(mask: int) -> Iterable[int]:
    index = 0
    while mask:
        if mask & 1:
            yield index
        mask >>= 1
        index += 1
