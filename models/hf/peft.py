"""Low-rank factors in the format of the package `peft`, `adapter_model.safetensors`.

`peft` keeps A as `[rank, inputs]` and B as `[outputs, rank]` under the name of the matrix that they
are added to. Where Hugging Face has several of our matrices side by side in one, as GPT-2 has
queries, keys and values, so are their factors: the ranks add up, and B is zero where a factor of
one would reach another.
"""

import dataclasses
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import ModelError
from models.hf import FAMILIES
from models.hf.family import Family
from models.hf.mapping import Weight, parameter_shapes
from models.hf.tensor_files import TensorFiles, write_file
from models.model import Model
from models.tuning import LoRA
from models.tuning.low_rank import DOWN, UP

CONFIG, FILE = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_SUFFIX = ".weight"
# Keys of the configuration that are read, and those that leave the sum W + (alpha / r) A B as it
# is. Every other must be off: it may mean another sum.
_READ = ("peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "lora_dropout", "bias",
         "init_lora_weights")  # fmt: skip
_NEUTRAL = (
    "auto_mapping", "base_model_name_or_path", "eva_config", "exclude_modules", "fan_in_fan_out",
    "inference_mode", "layers_pattern", "layers_to_transform", "megatron_core", "merge_weights",
    "peft_version", "qalora_group_size", "revision", "target_modules", "task_type",
)  # fmt: skip
# First factors that `peft` makes beside the base model; the others change its matrices too, and
# `peft` changes them again when it loads the adapter.
_INITS = ("true", "false", "none", "gaussian", "orthogonal", "eva", "mica")


@dataclasses.dataclass(frozen=True)
class _Matrix:
    """One matrix of theirs, and those of ours that are in it."""

    theirs: str
    parts: tuple[tuple[Weight, tuple[int, ...]], ...]


def save_peft(model: Model, params: Any, path: str | Path, *, base: str | None = None) -> None:
    """Writes a directory that `peft.PeftModel.from_pretrained` takes.

    Args:
      model: with a `LoRA`, of a family that Hugging Face has.
      params: its parameters, those of the base model too.
      path: the directory to make; it may be there if it is empty.
      base: the name of the base model, kept in the configuration.

    Raises:
      ModelError: a model without factors, or without a type of Hugging Face; a directory that is
        not empty.
    """
    lora = model.tuning
    if not isinstance(lora, LoRA):
        raise ModelError(f"{type(model).__name__} has no LoRA: there are no factors to write.")
    family, directory = _family(model), Path(path)
    tensors: dict[str, np.ndarray] = {}
    ranks: dict[str, int] = {}
    turned = False
    for matrix in _matrices(family, model.clone(tuning=None)):
        own = [
            (weight, *factors)
            for weight, index in matrix.parts
            if (factors := _factors(params, weight, index)) is not None
        ]
        if not own:
            continue
        rank = sum(down.shape[-1] for _, down, _ in own)
        whole = np.zeros((rank, own[0][2].shape[-1] * own[0][0].num_parts), np.float32)
        first = 0
        for weight, down, up in own:
            rows = weight.own_part(whole[first : first + len(up)])
            rows[...] = np.asarray(up, np.float32).reshape(rows.shape)
            first += down.shape[-1]
        tensors[f"{_PREFIX}{matrix.theirs}.lora_A.weight"] = np.concatenate(
            [np.asarray(down, np.float32).T for _, down, _ in own]
        )
        tensors[f"{_PREFIX}{matrix.theirs}.lora_B.weight"] = whole.T
        ranks[matrix.theirs] = rank
        turned = not own[0][0].transposed
    if not tensors:
        raise ModelError(f"no matrix with factors of {type(model).__name__} is one of theirs.")
    _write(directory, tensors, _configuration(lora, ranks, turned, base))


def load_peft(path: str | Path, model: Model) -> tuple[Model, dict[str, Any]]:
    """Reads factors that `peft` has written, for a base model of ours.

    Args:
      path: a directory with `adapter_config.json` and `adapter_model.safetensors`.
      model: the base model.

    Returns:
      The model with its `LoRA`, of the highest rank that there is, and a tree of the factors alone,
      NumPy arrays. Matrices of ours that are one of theirs share A.

    Raises:
      ModelError: other adapters than low-rank factors, an option of `peft` that means another sum,
        a tensor without a place in the model, or of another shape.
    """
    if model.tuning is not None:
        raise ModelError(
            f"the base {type(model).__name__} is tuned itself: export it merged first."
        )
    directory = Path(path)
    config = _read_configuration(directory)
    tensors = TensorFiles(directory / FILE)
    found: dict[str, Any] = {}
    left, targets, shapes = set(tensors), set(), parameter_shapes(model)
    rank = max([config["r"], *config["rank_pattern"].values()])
    scale = config["lora_alpha"] / config["r"]
    for matrix in _matrices(_family(model), model):
        names = [f"{_PREFIX}{matrix.theirs}.lora_{letter}.weight" for letter in "AB"]
        if not set(names) <= set(tensors):
            continue
        left -= set(names)
        down, up = (np.asarray(tensors[name], np.float32) for name in names)
        own_rank = _of_pattern(config["rank_pattern"], matrix.theirs, config["r"])
        if len(down) != own_rank:
            raise ModelError(
                f"{directory}: {names[0]!r} is of rank {len(down)}, where {CONFIG} has {own_rank}."
            )
        own_alpha = _of_pattern(config["alpha_pattern"], matrix.theirs, config["lora_alpha"])
        own_scale = own_alpha / own_rank
        # A lower rank is a higher one with zeros, and another scale another B.
        up = up * (own_scale / scale)
        for weight, index in matrix.parts:
            name = weight.ours.removesuffix("/kernel")
            inputs, outputs = shapes[weight.ours][-2:]
            if down.shape != (own_rank, inputs) or up.shape != (
                outputs * weight.num_parts,
                own_rank,
            ):
                raise ModelError(
                    f"{directory}: {names[0]!r} and B are {down.shape} and {up.shape}, which does "
                    f"not fit {inputs} inputs and {outputs * weight.num_parts} outputs."
                )
            targets.add(name)
            own = np.ascontiguousarray(weight.own_part(up.T)).reshape(own_rank, outputs)
            stack = shapes[weight.ours][: weight.stacked_axes]
            for leaf, value in ((DOWN, down.T), (UP, own)):
                place = f"{name}/{leaf}"
                if place not in found:
                    size = (inputs, rank) if leaf == DOWN else (rank, outputs)
                    found[place] = np.zeros((*stack, *size), np.float32)
                found[place][index][tuple(slice(n) for n in value.shape)] = value
    if left or not found:
        what = f"tensor {min(left)!r} has no place" if left else "there are no factors"
        raise ModelError(f"{directory}: {what} in this {type(model).__name__}.")
    lora = LoRA(
        rank=rank,
        alpha=float(scale * rank),
        dropout_rate=float(config["lora_dropout"]),
        targets=tuple(f"^{name}$" for name in sorted(targets)),
    )
    return model.clone(tuning=lora), _nested(found)


def _family(model: Model) -> Family:
    family = next((family for family in FAMILIES if type(model) in family.models), None)
    if family is None:
        raise ModelError(f"{type(model).__name__} has no model type of Hugging Face.")
    return family


def _matrices(family: Family, model: Model) -> Iterator[_Matrix]:
    """The matrices of linear layers, in the order of the table."""
    shapes = parameter_shapes(model)
    found: dict[str, list[tuple[Weight, tuple[int, ...]]]] = {}
    for weight in family.weights(model):
        if isinstance(weight, Weight) and weight.ours.endswith("/kernel") and not weight.copy:
            for index, theirs in weight.places(shapes[weight.ours]):
                found.setdefault(theirs.removesuffix(_SUFFIX), []).append((weight, index))
    for theirs, parts in found.items():
        yield _Matrix(theirs, tuple(parts))


def _factors(params: Any, weight: Weight, index: tuple[int, ...]) -> Any:
    """A `[inputs, rank]` and B `[rank, outputs]` of one matrix, or None."""
    node = params
    for name in weight.ours.split("/")[:-1]:
        node = node[name]
    return (node[DOWN][index], node[UP][index]) if DOWN in node else None


def _configuration(
    lora: LoRA, ranks: Mapping[str, int], turned: bool, base: str | None
) -> dict[str, Any]:
    other = {name: rank for name, rank in ranks.items() if rank != lora.rank}
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "rank_pattern": other,
        # The scale of each, alpha / rank, is the same.
        "alpha_pattern": {name: lora.scale * rank for name, rank in other.items()},
        "lora_dropout": lora.dropout_rate,
        "target_modules": sorted(ranks),
        "fan_in_fan_out": turned,
        "bias": "none",
        "inference_mode": True,
        "task_type": None,
    }


def _write(directory: Path, tensors: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> None:
    if directory.is_symlink() or (directory.exists() and any(directory.iterdir())):
        raise ModelError(f"{directory} is there already: give a new or an empty directory.")
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        shapes = {name: array.shape for name, array in sorted(tensors.items())}
        write_file(temporary / FILE, list(shapes), shapes, lambda name: [tensors[name]], "float32")
        (temporary / CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        temporary.chmod(0o755)
        temporary.rename(directory)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _of_pattern(pattern: Mapping[str, Any], theirs: str, default: Any) -> Any:
    """What a pattern has for a matrix, by the rule of `peft.utils.other.get_pattern_key`.

    A key is a regular expression of the whole name or of its last parts; the first that fits
    counts, in the order of the file.
    """
    fitting = (key for key in pattern if re.match(rf"(.*\.)?({key})$", theirs))
    return pattern.get(next(fitting, theirs), default)


def _read_configuration(directory: Path) -> dict[str, Any]:
    path = directory / CONFIG
    try:
        config = json.loads(path.read_text("utf-8"))
        kind, rank, alpha = config["peft_type"], config["r"], config["lora_alpha"]
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}.") from error
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ModelError(f"{path} is no configuration of peft's LoRA.") from error
    if kind != "LORA":
        raise ModelError(f"{path}: peft_type {kind!r}: only 'LORA' is read.")
    ranks, alphas = (_pattern(path, config, name) for name in ("rank_pattern", "alpha_pattern"))
    for key, value in {"r": rank, **ranks}.items():
        if type(value) is not int or value < 1:
            raise ModelError(f"{path}: the rank of {key!r} is {value!r}, not a whole number > 0.")
    dropout = config.get("lora_dropout") or 0.0
    for key, value in {"lora_dropout": dropout, "lora_alpha": alpha, **alphas}.items():
        if type(value) not in (int, float) or (key == "lora_alpha" and not value):
            raise ModelError(f"{path}: {key!r} is {value!r}, not a number that can be used.")
    for name, value in config.items():
        if value and name not in (*_READ, *_NEUTRAL):
            raise ModelError(f"{path}: {name} {value!r} is not supported.")
    if config.get("bias", "none") != "none":
        raise ModelError(f"{path}: bias {config['bias']!r}: only 'none' is read.")
    init = config.get("init_lora_weights")
    if str(init).lower() not in _INITS:
        raise ModelError(
            f"{path}: init_lora_weights {init!r} changes the base model's matrices too: let peft "
            "convert the adapter, save_pretrained(path_initial_model_for_weight_conversion=...)."
        )
    return {**config, "rank_pattern": ranks, "alpha_pattern": alphas, "lora_dropout": dropout}


def _pattern(path: Path, config: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = config.get(name) or {}
    if not isinstance(found, dict):
        raise ModelError(f"{path}: {name} {found!r} has no names of matrices.")
    for key in found:
        try:
            re.compile(key)
        except re.error as error:
            raise ModelError(f"{path}: {name} has {key!r}, no pattern of names: {error}.") from None
    return found


def _nested(leaves: Mapping[str, np.ndarray]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in leaves.items():
        node = tree
        *above, last = name.split("/")
        for step in above:
            node = node.setdefault(step, {})
        node[last] = value
    return tree
