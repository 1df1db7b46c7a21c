"""The packages `models` and `tasks`, which are installed beside this one.

Others have folders of these names too, most of all where people work. An editable install is
found after everything that the path holds, a namespace package included, so ours would give way
to them: they are found by their place instead, before the path is asked.
"""

import importlib.util
import os
import sys
from importlib.machinery import PathFinder

from t5x_like.errors import UserError

NAMES = ("models", "tasks")
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class OwnPackages:
    """An entry of `sys.meta_path` that finds the two packages where they were installed."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> object:
        """The package beside this one; None for every other name."""
        return PathFinder.find_spec(name, [_ROOT]) if name in NAMES else None


def find_first() -> None:
    """Lets this process find our packages, whatever the path and the working directory hold."""
    if OwnPackages not in sys.meta_path:
        sys.meta_path.insert(0, OwnPackages)  # type: ignore[arg-type]


def check() -> None:
    """Stops where a module of the user's has been loaded in the place of one of ours.

    Raises:
      UserError: names the module's place and ours.
    """
    for name in NAMES:
        module = sys.modules.get(name)
        spec = importlib.util.find_spec(name) if module is None else module.__spec__
        found = (
            spec.origin if spec and spec.origin else str(getattr(module, "__path__", "no place"))
        )
        ours = os.path.join(_ROOT, name)
        if os.path.dirname(os.path.abspath(found)) != ours:
            raise UserError(
                f"the package '{name}' that is loaded is {found}, but t5x-like's own is {ours}: "
                "import t5x_like before the other, or give the other another name."
            )


def own_name_hint(module: str) -> str:
    """A hint for a module that was not found in one of our packages, but is in a user's folder.

    Args:
      module: its dotted name.

    Returns:
      A sentence, after a space; "" where there is no such folder.
    """
    package, *inner = module.split(".")
    if package not in NAMES:
        return ""
    for place in [os.getcwd(), *sys.path]:
        path = os.path.join(place, package, *inner)
        if os.path.isfile(path + ".py") or os.path.isdir(path):
            folder = os.path.join(place, package)
            return f" '{package}' is t5x-like's own package: give '{folder}' another name."
    return ""
