"""Sets of rules: which mesh axes divide each logical axis of parameters and activations."""

from collections.abc import Iterable, Mapping, Sequence

from t5x_like.distributed.mesh import MESH_AXES
from t5x_like.errors import UserError

BATCH_AXES = ("data", "fsdp", "expert")  # the mesh axes that the rows of a batch are split over

Rules = Sequence[tuple[str, str | tuple[str, ...] | None]]

# A rule takes its mesh axis from those that follow: on activations `batch` leaves none of `fsdp`
# to `embed`; on parameters, which have no batch, `embed` takes it.
_BATCH: Rules = (("batch", BATCH_AXES),)
# Units of the heads of keys and values in a projection, where several heads of queries share one.
SHARED_HEADS = "joined_shared_kv"
_TENSOR: Rules = tuple(
    (axis, "tensor") for axis in ("vocab", "mlp", "heads", "joined_kv", SHARED_HEADS)
)
_FSDP: Rules = (("embed", "fsdp"),)
_EXPERT: Rules = (("expert", "expert"),)
_LENGTH: Rules = (("length", ("sequence", "tensor")), ("length", "sequence"))

RULE_SETS: Mapping[str, Rules] = {
    # Data parallelism: parameters are replicated, rows divided.
    "data_parallel": _BATCH,
    # Parameters and optimizer state are divided too, and gathered layer by layer: ZeRO-3
    # (Rajbhandari et al. 2020).
    "fsdp": (*_BATCH, *_FSDP),
    # Heads, hidden units and vocabulary are divided: Megatron (Shoeybi et al. 2019).
    "tensor_parallel": (*_BATCH, *_TENSOR),
    # Both, as in PaLM (Chowdhery et al. 2022, section 4).
    "fsdp_tensor": (*_BATCH, *_TENSOR, *_FSDP),
    # Experts are divided, with all-to-alls of tokens (Lepikhin et al. 2020, section 3).
    "expert_parallel": (*_BATCH, *_EXPERT, *_TENSOR, *_FSDP),
    # Between the products the length is divided over `tensor`, where nothing else is
    # (Korthikanti et al. 2022, section 4.2.2), and over `sequence` everywhere.
    "sequence_parallel": (*_BATCH, *_EXPERT, *_TENSOR, *_FSDP, *_LENGTH),
    # For long rows: their length is divided over `sequence` with all-to-alls in attention (Jacobs
    # et al. 2023), and so are parameters, over all devices that share rows or the batch.
    "context_parallel": (
        *_BATCH,
        *_EXPERT,
        ("length", "sequence"),
        *_TENSOR,
        ("embed", ("fsdp", "sequence")),
        *_FSDP,
    ),
    # All of them: an axis of size 1 changes nothing.
    "standard": (*_BATCH, *_EXPERT, ("length", "sequence"), *_TENSOR, *_FSDP),
}


def mesh_axes_of(target: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """The mesh axes of a rule's target."""
    return (target,) if isinstance(target, str) else tuple(target or ())


def check_mesh_axes(rules: Rules) -> None:
    """Refuses rules of a user's own for mesh axes that there are not.

    Raises:
      UserError: names the axis, and those that there are.
    """
    for axis in (axis for _, target in rules for axis in mesh_axes_of(target)):
        if axis not in MESH_AXES:
            raise UserError(
                f"Partitioner.rules names the mesh axis '{axis}': the axes are "
                f"{', '.join(MESH_AXES)} (what T5X calls 'model' is 'tensor')."
            )


def check_logical_axes(rules: Rules, of_model: Iterable[str | None]) -> None:
    """Refuses rules of a user's own that divide what no array has.

    Args:
      rules: to check.
      of_model: the logical axes of its parameters; those of activations are in packaged rules.

    Raises:
      UserError: names the axis, and those that there are.
    """
    packaged = {logical for one_set in RULE_SETS.values() for logical, _ in one_set}
    known = packaged | {axis for axis in of_model if axis is not None}
    for logical, target in rules:
        if target and logical not in known:
            raise UserError(
                f"Partitioner.rules divides '{logical}' over {'*'.join(mesh_axes_of(target))}, and "
                f"the model has no such axis: its axes are {', '.join(sorted(known))}."
            )
