"""Whether a model writes text, and how its prompts are laid out."""

from typing import Any

from t5x_like.data import formats
from t5x_like.data.formats.prompts import PromptFormat
from t5x_like.errors import UserError


def prompts_of(model: Any) -> PromptFormat:
    """How prompts become batches for this model.

    Args:
      model: any `Model`.

    Raises:
      UserError: it does not write text; says what can be done with it.
    """
    prompts = formats.find(model.batch_format).prompts
    if prompts is None or not hasattr(model, "decode_step"):
        able = ["trained", "inspected", "evaluated by its loss (generate_predictions = False)"]
        if hasattr(model, "predict"):
            able.append("asked for predictions (load_run(...).predict)")
        raise UserError(
            f"{type(model).__name__} does not generate or score text: it can be "
            f"{', '.join(able[:-1])} and {able[-1]}."
        )
    return prompts
