"""Bindings on a base class that hold for the classes derived from it.

A file under `hardware/` cannot know which family it will meet: it binds
`language_model.LanguageModel.dtype`, and every family has that field from this base.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from t5x_like.config.gin_internals import Key
from t5x_like.config.provenance import Rank


def inherited(
    bindings: Mapping[Key, Mapping[str, Any]],
    classes: Mapping[str, type],
    rank: Callable[[Key, str], Rank],
) -> dict[Key, dict[str, Key]]:
    """Which parameters of derived classes take the value that a base class is bound to.

    The later binding holds, whether it is the class's own or a base's, as for any other name:
    a flag over the files, a later file over an earlier one. Within one stretch of a file, where
    no order is meant, the nearest class's binding holds. Scopes do not mix: a scoped binding on
    a base is compared with those of its own scope.

    Args:
      bindings: (scope, selector) -> parameter -> value.
      classes: selector -> class, for the selectors that are classes.
      rank: of the binding of a parameter.

    Returns:
      (scope, derived selector) -> parameter -> (scope, base selector).
    """
    selectors = {cls: selector for selector, cls in classes.items()}
    found: dict[Key, dict[str, Key]] = {}
    for selector, cls in classes.items():
        line = [selector, *(selectors[base] for base in cls.__mro__[1:] if base in selectors)]
        scopes = {scope for scope, name in bindings if name in line[1:]}
        parameters = inspect.signature(cls).parameters if scopes else {}
        for scope in scopes:
            keys = [(scope, name) for name in line if (scope, name) in bindings]
            for parameter in parameters:
                binders = [key for key in keys if parameter in bindings[key]]
                # `max` takes the first of equals, which is the nearest class.
                best = max(binders, key=lambda key: rank(key, parameter), default=None)
                if best is not None and best[1] != selector:
                    found.setdefault((scope, selector), {})[parameter] = best
    return found
