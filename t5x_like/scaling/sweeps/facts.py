"""What the gin files of a model and its base determine, read by building the model."""

import dataclasses
import functools

from t5x_like import config, inspection, train
from t5x_like.cost import flops
from t5x_like.errors import UserError
from t5x_like.scaling.family import Family, Shape, Size, gin_pairs
from t5x_like.scaling.recipe import Training


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the gin files of a model and its base determine.

    Attributes:
      size: numbers of parameters.
      row_tokens: positions of one row.
      row_flops: forward and backward, of one row.
      training: by the base's macros.
      imports: import lines that the files' bindings need.
    """

    size: Size
    row_tokens: int
    row_flops: float
    training: Training
    imports: tuple[str, ...]


@functools.cache
def model_facts(
    family: Family,
    shape: Shape | None,
    bindings: tuple[tuple[str, str], ...],
) -> Facts:
    """Builds the model of a family and shape, checks what else it needs, and reads macros.

    Args:
      family: with all changes of the sweep.
      shape: None if the family's gin files define the model.
      bindings: of a point of the grid, as gin text.

    Raises:
      UserError: nothing says how many steps to train; a value of a wrong type, or none.
    """
    shaped = gin_pairs(shape.bindings if shape else {})
    pairs = (*shaped, *family.bindings, *bindings, ("MODEL_DIR", "''"))
    with config.isolated():
        config.parse(family.files_of(shape), pairs, module_imports=family.modules)
        model = config.macro("MODEL")
        lengths = config.macro("TASK_FEATURE_LENGTHS")
        macros = {
            name: config.macro(name) if config.has_macro(name) else None
            for name in ("BATCH_SIZE", "TRAIN_STEPS", "LEARNING_RATE", "WARMUP_STEPS")
        }
        imports = tuple(config.import_lines())
        if macros["TRAIN_STEPS"]:
            config.check(train.train)
    shapes = inspection.shapes_of(inspection.example_batch(model, lengths, 1))
    row_tokens = flops.positions(shapes)
    parameters = model.parameter_count()
    size = Size(
        parameters,
        model.parameter_count(embeddings=False),
        getattr(model, "active_parameter_count", lambda: parameters)(),
    )
    training = Training(
        batch_tokens=row_tokens * int(macros["BATCH_SIZE"] or 1),
        steps=int(macros["TRAIN_STEPS"] or 0),
        learning_rate=float(macros["LEARNING_RATE"] or 0.0),
        warmup_steps=int(macros["WARMUP_STEPS"] or 0),
    )
    if not training.steps:
        raise UserError(
            "its gin files set no TRAIN_STEPS, and neither does the grid, which is for the first "
            "stage alone."
        )
    return Facts(size, row_tokens, model.step_flops(shapes), training, imports)
