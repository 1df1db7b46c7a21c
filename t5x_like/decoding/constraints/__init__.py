"""What generated text keeps to, however its tokens are chosen."""

from t5x_like.decoding.constraints.constraints import Constraints, Written, constraints_of
from t5x_like.decoding.constraints.stop_strings import (
    StopStrings,
    checked_stop_strings,
    token_texts,
)

__all__ = [
    "Constraints",
    "StopStrings",
    "Written",
    "checked_stop_strings",
    "constraints_of",
    "token_texts",
]
