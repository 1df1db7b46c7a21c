"""The nearest model that a family can build, its training, and the command to train it."""

import dataclasses
import math
import shlex
from dataclasses import dataclass
from typing import Any

from t5x_like import inspection
from t5x_like.config.gin_files import find_gin_file
from t5x_like.cost import flops
from t5x_like.data import formats
from t5x_like.scaling.family import SHAPE_FILE, Family, NoModel, Shape, Size, model_of, size_of
from t5x_like.scaling.laws import TOTAL, WITHOUT_EMBEDDINGS, Law
from t5x_like.scaling.planning import given_names
from t5x_like.scaling.recipe import Recipe, Training

# A row, and the task of the printed command. T5 reads 512 tokens of input for 114 of targets
# (Raffel et al. 2020, section 3.3.4).
_ROW_TOKENS, _ROW_TOKENS_AFTER_INPUTS = 2048, 114
_TASK, _TASK_WITH_INPUTS = "tasks/c4_lm.gin", "tasks/c4_span_corruption.gin"
_INPUTS_FOR_TARGETS = 512 / 114


@dataclass(frozen=True)
class Buildable:
    """A model and its training.

    Attributes:
      family: with its changes.
      shape: of the model.
      size: its exact numbers of parameters.
      training: batch, steps and learning rate.
      feature_lengths: tokens of a row.
      task_file: the gin file of the command's task.
      flops_per_token: exact, forward and backward, for each target token; every query meets
        every key, as MFU counts it.
      needed_flops_per_token: less what masks hide.
      positions_per_token: positions of both sides for each target token: 1 of a decoder. Speeds are
        in positions, as `train` logs them.
    """

    family: Family
    shape: Shape
    size: Size
    training: Training
    feature_lengths: dict[str, int]
    task_file: str
    flops_per_token: float
    needed_flops_per_token: float
    positions_per_token: float

    @property
    def training_flops(self) -> float:
        """The exact FLOPs of all steps."""
        return self.flops_per_token * self.training.tokens

    @property
    def rows(self) -> int:
        """The rows of a batch."""
        return self.training.batch_tokens // self.feature_lengths["targets"]

    @property
    def bindings(self) -> dict[str, Any]:
        """The macros to bind after `gin_files`."""
        return {
            **_macros_of_shape(self.family, self.shape),
            **dict(self.family.bindings),
            "TASK_FEATURE_LENGTHS": self.feature_lengths,
            "BATCH_SIZE": self.rows,
            "LEARNING_RATE": self.training.learning_rate,
            "WARMUP_STEPS": self.training.warmup_steps,
            "TRAIN_STEPS": self.training.steps,
        }

    @property
    def gin_files(self) -> tuple[str, ...]:
        """The gin files of the training, in order."""
        return *_files_before(self.family, self.task_file), *self.family.gin_files

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments of `t5x-like` that train it."""
        files = [f"--gin_file={name}" for name in self.gin_files]
        modules = [f"--module_import={name}" for name in self.family.modules]
        bindings = {"MODEL_DIR": f"runs/{self.family.name}_plan", **self.bindings}
        flags = [f"--gin.{name}={value}" for name, value in bindings.items()]
        return "train", *files, *modules, *flags

    @property
    def command(self) -> str:
        """A shell command that trains it, in one line."""
        return shlex.join(["t5x-like", *self.arguments])

    def counted(self, kind: str) -> int:
        """N as the law counts it: active parameters, with or without embeddings."""
        embeddings = self.size.parameters - self.size.without_embeddings
        return self.size.active - (embeddings if kind == WITHOUT_EMBEDDINGS else 0)

    def notes(self, devices: int) -> list[str]:
        """Caveats about training it on this number of devices."""
        notes = []
        if self.rows % devices:
            notes.append(
                f"a batch of {self.rows} rows cannot be divided by {devices:,} devices: divide the "
                "model too, or train on fewer."
            )
        if "inputs" in self.feature_lengths:
            notes.append(
                "D counts target tokens; the laws were measured on decoders, so that for an "
                "encoder-decoder they are only a rough guide."
            )
        return notes

    def to_json(self, law: Law) -> dict[str, Any]:
        """Converts it to numbers, with the loss that the law predicts for the model as built."""
        parameters, training = self.counted(law.parameters_kind), self.training
        loss = law.loss(parameters, training.tokens)
        return {
            "gin_files": list(self.gin_files),
            "num_layers": self.shape.num_layers,
            "embed_dim": self.shape.embed_dim,
            "num_heads": self.shape.num_heads,
            "head_dim": self.shape.head_dim,
            "mlp_dim": self.shape.mlp_dim,
            "parameters": self.size.parameters,
            "parameters_without_embeddings": self.size.without_embeddings,
            "active_parameters": self.size.active,
            "tokens": training.tokens,
            "batch_rows": self.rows,
            "loss": None if loss is None else float(loss),
            "flops_6nd": 6.0 * self.size.active * training.tokens,
            "flops_exact": self.training_flops,
            "flops_needed": self.needed_flops_per_token * training.tokens,
            "flops_ratio": self.flops_per_token / (6.0 * self.size.active),
        }


def buildable(
    family: Family,
    parameters: float,
    tokens: float,
    *,
    kind: str = TOTAL,
    recipe: Recipe,
    row_tokens: int | None = None,
    devices: int = 1,
) -> Buildable:
    """Finds the model of a family nearest to N, and its training on D tokens.

    Args:
      family: with its changes.
      parameters: N.
      tokens: D.
      kind: what N counts, a law's `parameters_kind`.
      recipe: the rules.
      row_tokens: target tokens of a row; by default 2,048, or fewer where the family's positions
        end before, and 114 of an encoder-decoder, with 512 of inputs.
      devices: that divide a batch, where it has as many rows.

    Raises:
      NoModel: there is no such model, or no such training.
      UserError: the family's files and bindings set what is decided here, or what nothing reads.
    """
    shape = recipe.shape_of_width(family, recipe.widths()[0])  # any will do to see what is read
    model = model_of(family, shape)
    reads_inputs = "inputs" in formats.find(model.batch_format).task_features
    task_file = _TASK_WITH_INPUTS if reads_inputs else _TASK
    decided = (*_macros_of_shape(family, shape), *given_names.OF_TRAINING)
    given_names.check(family, _files_before(family, task_file), decided)
    if not hasattr(model, "num_heads"):
        raise NoModel(
            f"the laws are those of Transformers, and '{family.name}' is none: name another "
            "--family."
        )
    shape = recipe.shape(family, parameters)
    if kind == WITHOUT_EMBEDDINGS:
        shape = _without_embeddings(family, parameters, recipe, shape)
    model = model_of(family, shape)
    size = size_of(family, shape)
    usual = _ROW_TOKENS_AFTER_INPUTS if reads_inputs else _ROW_TOKENS
    row = row_tokens or min(usual, model.max_length or usual)
    lengths = {"targets": row}
    if reads_inputs:
        lengths = {"inputs": round(row * _INPUTS_FOR_TARGETS), **lengths}
    shapes = inspection.shapes_of(inspection.example_batch(model, lengths, 1))
    report, positions = flops.flop_report(model, shapes), flops.positions(shapes)
    return Buildable(
        family=family,
        shape=shape,
        size=size,
        training=_training(recipe, size.active, tokens, row, devices),
        feature_lengths=lengths,
        task_file=task_file,
        flops_per_token=report.step * positions / row,
        needed_flops_per_token=report.step_needed * positions / row,
        positions_per_token=positions / row,
    )


def _files_before(family: Family, task_file: str) -> tuple[str, ...]:
    """The command's files before those that the user gave, which replace what they bind."""
    return (
        "optimizers/adamw.gin",
        SHAPE_FILE.format(family.name),
        task_file,
        "runs/pretrain.gin",
    )


def _macros_of_shape(family: Family, shape: Shape) -> dict[str, int]:
    """The macros of a shape that the family's files read.

    Where heads divide the width nothing reads HEAD_DIM, and a flag for it would be refused.
    """
    text = "".join(find_gin_file(name).read_text("utf-8") for name in family.files)
    return {name: value for name, value in shape.bindings.items() if f"%{name}" in text}


def _training(recipe: Recipe, parameters: int, tokens: float, row: int, devices: int) -> Training:
    """The recipe's training, with a batch that meshes can divide.

    The rows are a multiple of `devices` times the largest power of two that leaves 16 multiples;
    with fewer rows than devices, of that power of two only. The recipe's own `rows_multiple` is
    kept.
    """
    found = recipe.training(parameters, tokens, row_tokens=row)
    rows = found.batch_tokens // row
    if recipe.rows_multiple > 1:
        return found
    unit = devices if devices <= rows else 1
    multiple = unit * 2 ** max(0, math.floor(math.log2(rows / unit / 16)))
    whole = dataclasses.replace(recipe, rows_multiple=multiple)
    return whole.training(parameters, tokens, row_tokens=row)


def _without_embeddings(family: Family, parameters: float, recipe: Recipe, shape: Shape) -> Shape:
    """The shape whose N without embeddings is nearest, searched from one nearest in total N."""
    for _ in range(4):
        size = size_of(family, shape)
        embeddings = size.parameters - size.without_embeddings
        closer = recipe.shape(family, parameters + embeddings)
        if closer == shape:
            break
        shape = closer
    return shape
