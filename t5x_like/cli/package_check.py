"""The three packages that are installed together, under names that others may have too."""

import importlib.util
from pathlib import Path

from t5x_like.errors import UserError


def check() -> None:
    """Stops when another package takes the place of `models` or `tasks`.

    Raises:
      UserError: names the package found instead.
    """
    ours = Path(__file__).resolve().parents[2]
    for name in ("models", "tasks"):
        spec = importlib.util.find_spec(name)
        found = Path(spec.origin).resolve().parent if spec and spec.origin else None
        if found != ours / name:
            raise UserError(
                f"package '{name}' is found at {found or 'no place'}, but t5x-like's own is "
                f"{ours / name}: uninstall the other, or start where it is not on the path."
            )
