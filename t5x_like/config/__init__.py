"""Gin files in, checked bindings out."""

from t5x_like.config.parsing import (
    DEFAULTS_FILE,
    built,
    check,
    configured,
    full_text,
    has_macro,
    import_lines,
    import_modules,
    isolated,
    literal,
    macro,
    operative_text,
    parse,
    reached,
)

__all__ = [
    "DEFAULTS_FILE",
    "built",
    "check",
    "configured",
    "full_text",
    "has_macro",
    "import_lines",
    "import_modules",
    "isolated",
    "literal",
    "macro",
    "operative_text",
    "parse",
    "reached",
]
