"""Gin files in, checked bindings out."""

from t5x_like.config.parsing import (
    DEFAULTS_FILE,
    check,
    configured,
    full_text,
    has_macro,
    import_lines,
    isolated,
    literal,
    macro,
    operative_text,
    parse,
    reached,
)

__all__ = [
    "DEFAULTS_FILE",
    "check",
    "configured",
    "full_text",
    "has_macro",
    "import_lines",
    "isolated",
    "literal",
    "macro",
    "operative_text",
    "parse",
    "reached",
]
