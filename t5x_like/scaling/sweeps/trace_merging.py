"""Merges the traces of functions that differ in numbers only.

Which numbers, and where they enter, is found by comparing the traces: no function has to be
written for it, and none sees anything but its own numbers.

`optax.inject_hyperparams` would make less vary. It traces what it injects, which Python's
conditions on a schedule's warm-up or on Adafactor's weight decay refuse; an optimizer of a
user's own would have to be a function of its numbers; they would stand in the state, and so in
checkpoints that `train` continues; and numbers derived from them, as 1 - b2, would be rounded:
20 updates by AdamW with b2 = 0.999 differ by 6e-5.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

# Calls whose body is taken for the call, and where they keep it.
_CALLS = {"jit": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}


class NotMergeable(ValueError):
    """Two functions differ in more than numbers."""


def merge_traces(functions: Sequence[Callable[..., Any]], *example: Any) -> Callable[..., Any]:
    """`f(which, *args)`, which computes `functions[which](*args)`.

    `which` may be known at run time only, or be mapped over by `jax.vmap`.

    Args:
      functions: of the same arguments; at least one.
      *example: arguments, arrays or `ShapeDtypeStruct`s.

    Raises:
      NotMergeable: at once, where the functions differ in more than numbers, or by a number that
        enters a loop or a choice.
    """
    traces = [jax.make_jaxpr(function, return_shape=True)(*example) for function in functions]
    programs = [closed for closed, _ in traces]
    tree = jax.tree.structure(traces[0][1])

    def call(which: jax.Array, *args: Any) -> Any:
        return jax.tree.unflatten(tree, _evaluate(programs, jax.tree.leaves(args), which))

    jax.eval_shape(call, jax.ShapeDtypeStruct((), jnp.int32), *example)
    return call


def _evaluate(programs: Sequence[ClosedJaxpr], args: Sequence[Any], which: jax.Array) -> list[Any]:
    """The results of the program that `which` tells, computed by the first one's equations."""
    bodies: list[Jaxpr] = [program.jaxpr for program in programs]
    # Each variable of each program is known by that of the first one in its place.
    places: list[dict[Any, Any]] = [{} for _ in bodies]
    values: dict[Any, Any] = {}

    def define(variables: Sequence[Any], value: Any) -> None:
        for known, variable in zip(places, variables, strict=True):
            known[variable] = variables[0]
        values[variables[0]] = value

    def read(atoms: Sequence[Any]) -> Any:
        if all(isinstance(atom, Literal) for atom in atoms):
            return _chosen([atom.val for atom in atoms], atoms[0].aval.dtype, which)
        if any(isinstance(atom, Literal) for atom in atoms):
            raise NotMergeable("one has a number where another computes one")
        if any(known[atom] is not atoms[0] for known, atom in zip(places, atoms, strict=True)):
            raise NotMergeable("they compute with different arrays")
        return values[atoms[0]]

    for i, variables in enumerate(_together([body.constvars for body in bodies])):
        constants = [program.consts[i] for program in programs]
        define(variables, _chosen(constants, variables[0].aval.dtype, which))
    for variables, value in zip(_together([b.invars for b in bodies]), args, strict=True):
        define(variables, value)
    for equations in _together([body.eqns for body in bodies]):
        first = equations[0]
        if any(equation.primitive is not first.primitive for equation in equations):
            raise NotMergeable(f"one computes {first.primitive}, another does not")
        inputs = [read(atoms) for atoms in _together([eqn.invars for eqn in equations])]
        body = _CALLS.get(first.primitive.name)
        if body is not None:
            results = _evaluate([eqn.params[body] for eqn in equations], inputs, which)
        else:
            if not all(_alike(equation.params, first.params) for equation in equations[1:]):
                raise NotMergeable(f"they differ inside {first.primitive}")
            found = first.primitive.get_bind_params(first.params)
            # Older versions of JAX give functions beside the parameters.
            functions, params = found if isinstance(found, tuple) else ((), found)
            results = first.primitive.bind(*functions, *inputs, **params)
            results = results if first.primitive.multiple_results else [results]
        for variables, value in zip(
            _together([equation.outvars for equation in equations]), results, strict=True
        ):
            define(variables, value)
    return [read(atoms) for atoms in _together([body.outvars for body in bodies])]


def _together(sequences: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """The first elements of all, the second ones, and so on."""
    if len({len(sequence) for sequence in sequences}) > 1:
        raise NotMergeable("one computes more than another")
    return list(zip(*sequences, strict=True))


def _chosen(numbers: Sequence[Any], dtype: Any, which: jax.Array) -> Any:
    """The one that `which` tells, where they are not all the same."""
    if any(np.shape(number) != np.shape(numbers[0]) for number in numbers):
        raise NotMergeable("they have constants of different shapes")
    if all(np.array_equal(number, numbers[0]) for number in numbers[1:]):
        return numbers[0]
    return jnp.asarray(np.stack([np.asarray(number) for number in numbers]), dtype)[which]


def _alike(a: Any, b: Any) -> bool:
    """Whether parameters of a primitive are the same, programs inside them included."""
    if a is b:
        return True
    if isinstance(a, ClosedJaxpr) and isinstance(b, ClosedJaxpr):
        same = len(a.consts) == len(b.consts) and str(a.jaxpr) == str(b.jaxpr)
        return same and all(map(np.array_equal, a.consts, b.consts))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_alike(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(map(_alike, a, b))
    return str(a) == str(b)
