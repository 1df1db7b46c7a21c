"""A model that is trained with another, frozen one beside it, which is only read."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from models import flops
from models.model import Array, Batch, Model, Params
from models.tuning import Parts

TEACHER = "teacher"


@dataclasses.dataclass(frozen=True, kw_only=True)
class WithTeacher:
    """What the engine asks of a student and its teacher; most of it is the student's.

    A subclass writes the loss: `loss_terms`, `loss_weights`, `loss` and `loss_with_frozen`. Fulfils
    the engine's `UsesFrozen`.

    Attributes:
      student: what is trained.
      teacher: reads the same batches.
    """

    student: Model
    teacher: Model

    @property
    def frozen_models(self) -> Mapping[str, Model]:
        """The teacher."""
        return {TEACHER: self.teacher}

    @property
    def vocab_size(self) -> int:
        """The student's."""
        return self.student.vocab_size

    @property
    def max_length(self) -> int | None:
        """What both can read."""
        lengths = (self.student.max_length, self.teacher.max_length)
        return min((length for length in lengths if length is not None), default=None)

    @property
    def batch_format(self) -> str:
        """The student's."""
        return self.student.batch_format

    @property
    def label_names(self) -> Mapping[str, tuple[str, ...]]:
        """The student's, by which a run is checked against its task."""
        return getattr(self.student, "label_names", {})

    @property
    def feature_values(self) -> Mapping[str, int]:
        """What both tell apart."""
        found: dict[str, int] = {}
        for model in (self.student, self.teacher):
            for name, count in getattr(model, "feature_values", {}).items():
                found[name] = min(count, found.get(name, count))
        return found

    @property
    def mixes_rows(self) -> bool:
        """Whether the student's loss of a row depends on those that it is computed with."""
        return getattr(self.student, "mixes_rows", False)

    @property
    def tuning(self) -> Parts | None:
        """The student's."""
        return self.student.tuning

    @property
    def dtype(self) -> str:
        """The student's."""
        return self.student.dtype

    def init(self, rng: Array, batch: Batch | None = None) -> dict[str, Params]:
        """See `Model`."""
        return self.student.init(rng, batch)

    def apply(self, variables: Mapping[str, Params], **batch: Array) -> Any:
        """See `Model`."""
        return self.student.apply(variables, **batch)

    def abstract_params(self) -> Params:
        """See `Model`."""
        return self.student.abstract_params()

    def axis_blocks(self) -> dict[str, int]:
        """See `Model`."""
        return self.student.axis_blocks()

    def parameter_count(self, *, embeddings: bool = True) -> int:
        """See `Model`."""
        return self.student.parameter_count(embeddings=embeddings)

    def forward_flops(self, batch_shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Any]:
        """See `Model`: the student's, of which there is a backward pass too."""
        return self.student.forward_flops(batch_shapes)

    def backward_flops(self, batch_shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Any]:
        """See `Model`: the student's."""
        return self.student.backward_flops(batch_shapes)

    def step_flops(self, batch_shapes: Mapping[str, tuple[int, ...]]) -> float:
        """Those of the student's step, and of the teacher's forward pass."""
        read = flops.in_full(self.teacher.forward_flops(batch_shapes))
        return self.student.step_flops(batch_shapes) + read
