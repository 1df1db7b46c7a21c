"""Gin files in, checked bindings out: beside the command line, all that knows gin.

Everything that is configured takes plain arguments and works without it.
"""

from t5x_like.config.checks import check
from t5x_like.config.gin_files import GinText
from t5x_like.config.lookup import argument, bound_in, has_macro, is_bound_to, macro, reached
from t5x_like.config.parsing import import_modules, isolated, parse
from t5x_like.config.programs import built, configured
from t5x_like.config.rendering import full_text, import_lines, operative_text, written_value
from t5x_like.config.unread import unread

__all__ = [
    "GinText",
    "argument",
    "bound_in",
    "built",
    "check",
    "configured",
    "full_text",
    "has_macro",
    "import_lines",
    "import_modules",
    "is_bound_to",
    "isolated",
    "macro",
    "operative_text",
    "parse",
    "reached",
    "unread",
    "written_value",
]
