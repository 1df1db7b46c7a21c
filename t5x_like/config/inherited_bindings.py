"""Bindings on a base class that hold for the classes derived from it.

A file under `hardware/` cannot know which family it will meet: it binds
`language_model.LanguageModel.dtype`, and every family has that field from this base.
"""

import inspect
from collections.abc import Mapping
from typing import Any

Key = tuple[str, str]  # scope and selector


def inherited(
    bindings: Mapping[Key, Mapping[str, Any]], classes: Mapping[str, type]
) -> dict[Key, dict[str, Any]]:
    """What derived classes take over from bindings on their bases.

    A class's own binding wins, then that of its nearest base, wherever each was written.

    Args:
      bindings: (scope, selector) -> parameter -> value.
      classes: selector -> class, for the selectors that are classes.

    Returns:
      The bindings to add, of the same form.
    """
    selectors = {cls: selector for selector, cls in classes.items()}
    added: dict[Key, dict[str, Any]] = {}
    for selector, cls in classes.items():
        bases = [selectors[base] for base in cls.__mro__[1:] if base in selectors]
        parameters = inspect.signature(cls).parameters if bases else {}
        for scope in {scope for scope, name in bindings if name in bases}:
            taken = dict(bindings.get((scope, selector), {}))
            for base in bases:
                for name, value in bindings.get((scope, base), {}).items():
                    if name in parameters and name not in taken:
                        taken[name] = value
                        added.setdefault((scope, selector), {})[name] = value
    return added
