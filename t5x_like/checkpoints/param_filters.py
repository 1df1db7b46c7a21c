"""Selects parts of a parameter tree by regular expressions on the parameters' names."""

import re
from collections.abc import Sequence

from t5x_like.errors import UserError


def matching(names: Sequence[str], patterns: Sequence[str]) -> set[str]:
    """Selects the names in which one of the regular expressions is found.

    Raises:
      UserError: an expression is invalid or matches nothing.
    """
    taken: set[str] = set()
    for pattern in patterns:
        try:
            found = [name for name in names if re.search(pattern, name)]
        except re.error as error:
            raise UserError(f"'{pattern}' is not a regular expression: {error}.") from error
        if not found:
            raise UserError(
                f"'{pattern}' matches none of the {len(names)} parameters, such as '{names[0]}'."
            )
        taken.update(found)
    return taken
