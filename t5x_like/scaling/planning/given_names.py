"""What gin files and flags may say of a planned training: not what the plan itself decides.

A plan's flags stand last in its command, so that a binding of theirs would be overridden.
"""

from collections.abc import Sequence
from dataclasses import fields

from t5x_like import config
from t5x_like.errors import UserError
from t5x_like.host import xla_flags
from t5x_like.scaling.family import Family, Shape

# Macros of the training that a plan binds, beside those of the model's shape.
OF_TRAINING = (
    "TASK_FEATURE_LENGTHS", "BATCH_SIZE", "LEARNING_RATE", "WARMUP_STEPS", "TRAIN_STEPS"
)  # fmt: skip
_OF_RECIPE = "leave it out, and change it in the printed command"
_OF_OPTIMIZER = (
    "its learning rate is of AdamW with a cosine. Leave it out, and put another optimizer's file "
    "into the printed command, without its LEARNING_RATE and WARMUP_STEPS"
)
# What a plan binds or takes from its own files, and what does the same.
_DECIDED = {
    **dict.fromkeys(("OPTIMIZER", "SCHEDULE"), _OF_OPTIMIZER),
    **{field.name.upper(): "--parameters says how large" for field in fields(Shape)},
    **dict.fromkeys(OF_TRAINING, _OF_RECIPE),
    "TASK_FEATURE_LENGTHS": "--row_tokens says how long its rows are. A file of a task goes into "
    "the printed command, in the place of the one there",
    "MODEL_DIR": "give it as --gin.MODEL_DIR",
}


def check(family: Family, before: Sequence[str], decided: Sequence[str]) -> None:
    """Refuses what the plan's command would not heed.

    Args:
      family: with the files and flags that the user gave.
      before: the command's files before those of the user.
      decided: the macros that the command binds.

    Raises:
      UserError: a file or flag binds what the plan decides, or what nothing of the training reads.
    """
    files = *before, *family.gin_files
    with config.isolated():
        config.parse(files, family.bindings, module_imports=family.modules)
        for name, instead in _DECIDED.items():
            place = config.bound_in(name)
            if place is None or place.source in before or place.is_default:
                continue
            if place.source != "--gin.MODEL_DIR":  # which stands in the command
                raise UserError(f"{place}: {name} is for the plan to decide: {instead}.")
        own = [(name, "1") for name in ("MODEL_DIR", *decided)]
        config.parse(files, (*family.bindings, *own), module_imports=family.modules)
        for one in config.unread(["t5x_like.train.train"], xla_flags.VARIABLES):
            name = one.place.source.removeprefix("--gin.")
            if name in decided:
                raise UserError(
                    f"a file or flag that was given binds what %{name} stands for in "
                    f"{before[1]}, so that nothing reads {name}, which is for the plan to decide."
                )
            if one.place.line is None:
                raise UserError(one.message)
