"""MT-DNN (Liu et al. 2019): one BERT that learns many tasks at once, each with a head of its own.

A batch is of one task (algorithm 1): its loss reaches the shared encoder and that task's head. Four
kinds of heads (section 3.1): `heads.Classification` of single sentences, `heads.Regression` of
similarity, `heads.PairClassification`, and `heads.Ranking` of candidates.
"""

import zlib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict

from models import losses
from models.bert import BERT
from models.errors import ModelError
from models.heads import (
    Classification,
    Head,
    HeadOutput,
    PairClassification,
    Ranking,
    Regression,
)
from models.heads.head import LOSS
from models.heads.stochastic_answer import StochasticAnswer
from models.layers.linear import Initializer
from models.model import Array, Batch, Params


class MTDNN(BERT):
    """BERT with a head for each of several tasks.

    Batches of the format `labelled_tasks` say of which task each row is, `task` `[b]`: the number
    that `task_number` gives its name. A row counts in the loss of its own task's head alone. The
    loss has a term for each head, under its name, which is a mean over that head's rows; a batch of
    one task has one term that is not 0, and terms are counted once each (algorithm 1 has no
    weights: how often a task is drawn is its weight).

    The tokens of ranked candidates are `[b, candidates, s]`; of other tasks' rows in such a batch
    the first is read.

    The field `head`, which the file of a single task binds, is not taken.

    Attributes:
      heads: name to head, in their order.
      tasks: which head has a task of another name than the head's, task to head: several tasks may
        have one, as MNLI's two.
      task: the one task that it is asked about, by name; None is all of them. See `of_task`.
    """

    heads: Mapping[str, Any] = FrozenDict()
    tasks: Mapping[str, str] = FrozenDict()
    task: str | None = None

    def __post_init__(self) -> None:
        """Checks what it cannot be built with.

        Raises:
          ModelError: no heads, or one of a name that is none or of another kind; a task of a head
            that there is not; and as BERT.
        """
        self.head = None
        # gin gives dictionaries; a model's fields are hashed.
        self.heads, self.tasks = FrozenDict(self.heads), FrozenDict(self.tasks)
        if not self.heads:
            raise self.refused("heads", "a head for each task is needed, {'mnli': @...}")
        for name, head in self.heads.items():
            if not str(name).isidentifier() or name == LOSS:
                raise self.refused("heads", f"{name!r} is no name for a head")
            if not isinstance(head, Classification | Regression | Ranking):
                raise self.refused("heads", f"that of {name!r} is none of the four kinds")
        for task, name in self.tasks.items():
            if name not in self.heads:
                raise self.refused("tasks", f"{task!r} is to have a head {name!r}, which is none")
        self.use_masked_head = self.use_next_sentence_head = False
        self.use_pooler = True
        super().__post_init__()
        if self.task is not None:
            self.head_of(self.task)

    @nn.nowrap
    def head_of(self, task: str) -> str:
        """The name of the head that a task has.

        Raises:
          ModelError: it has none.
        """
        name = self.tasks.get(task, task)
        if name not in self.heads:
            known = ", ".join(sorted({*self.heads, *self.tasks}))
            raise ModelError(
                f"MTDNN has no head for the task '{task}': it has those of {known}. "
                "MTDNN.tasks says which head a task of another name has."
            )
        return name

    @nn.nowrap
    def of_task(self, task: str) -> "MTDNN":
        """The model as it is for one task: its batches, its loss and what it predicts.

        The parameters are the same; it makes none of its own.

        Raises:
          ModelError: it has no head for the task.
        """
        self.head_of(task)
        return self.clone(task=task)

    @property
    def _asked(self) -> dict[str, Head]:
        """The heads that are run."""
        if self.task is None:
            return dict(self.heads)
        name = self.head_of(self.task)
        return {name: self.heads[name]}

    @property
    def batch_format(self) -> str:
        """That of its one task's head, or of rows of all tasks."""
        if self.task is None:
            return "labelled_tasks"
        (head,) = self._asked.values()
        return head.batch_format

    @property
    def label_names(self) -> Mapping[str, tuple[str, ...]]:
        """Of its one task; of all together, none."""
        if self.task is None:
            return {}
        (head,) = self._asked.values()
        return head.label_names

    def make_head(self, kernel_init: Initializer) -> None:
        """Makes the layers of each head; each is `output_heads_NAME` among the parameters."""
        made: dict[str, nn.Module] = {}
        for name, head in self.heads.items():
            rate = self.dropout_rate if head.dropout_rate is None else head.dropout_rate
            if isinstance(head, PairClassification):
                made[name] = StochasticAnswer(
                    head.outputs, kernel_init, head.steps, rate, head.prediction_dropout_rate
                )
            else:
                made[name] = HeadOutput(head.outputs, kernel_init, rate)
        self.output_heads = made

    # What runs inside `apply`.

    def __call__(  # type: ignore[override]  # of several heads, by name
        self, **features: Any
    ) -> dict[str, Array]:
        """What each head gives, by name; see `head_logits`."""
        return self.logits_by_head(**features)[0]

    def logits_by_head(
        self, *, enable_dropout: bool = False, **features: Any
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """What each head gives, and the vectors that heads read.

        Returns:
          Float32 `[b, outputs]` by head, of a ranking `[b, candidates]`; and `hidden_states`
          `[b, s, e]` and `pooled` `[b, e]`, with the candidates, where there are any, as rows.

        Raises:
          ModelError: a feature is missing.
        """
        self.check_features(features)
        rows = features["encoder_input_tokens"].shape[:-1]
        features = {
            name: x.reshape(-1, x.shape[-1])
            for name, x in features.items()
            if name.startswith("encoder_") and x is not None
        }
        x_bse = self.hidden_states(**features, enable_dropout=enable_dropout)
        pooled_be = self.pooled(x_bse)
        places = self._places(features)
        found = {}
        for name, head in self._asked.items():
            read = (x_bse, *places) if isinstance(head, PairClassification) else (pooled_be,)
            logits = self.output_heads[name](*read, enable_dropout)
            logits = logits.reshape(rows[0], -1, head.outputs)
            found[name] = logits[..., 0] if isinstance(head, Ranking) else logits[:, 0]
        return found, {"hidden_states": x_bse, "pooled": pooled_be}

    def _places(self, features: Mapping[str, Array]) -> tuple[Array, Array]:
        """Where the first text is, and where the second, with what stands around them."""
        tokens_bs = features["encoder_input_tokens"]
        types_bs = features.get("encoder_token_types", jnp.zeros_like(tokens_bs))
        segments_bs = features.get("encoder_segment_ids", tokens_bs != self.pad_id)
        there_bs = segments_bs != 0
        return there_bs & (types_bs == 0), there_bs & (types_bs == 1)

    # What a user calls.

    @property
    def loss_terms(self) -> Mapping[str, float]:
        """A term for each head; `loss` for one task's."""
        return {LOSS: 1.0} if self.task is not None else dict.fromkeys(self.heads, 1.0)

    @nn.nowrap
    def _own_rows(self, name: str, batch: Batch) -> Batch:
        """The batch with the labels of one head's rows alone, in its dtype."""
        if self.task is not None:
            return batch
        tasks = {name, *(task for task, head in self.tasks.items() if head == name)}
        numbers = jnp.array([task_number(task) for task in sorted(tasks)], jnp.int32)
        mine_b = (batch["task"][:, None] == numbers).any(axis=1)
        dtype = jnp.float32 if isinstance(self.heads[name], Regression) else jnp.int32
        return {
            # Another head's labels could be out of range.
            "label": jnp.where(mine_b, batch["label"], 0).astype(dtype),
            "label_weight": batch["label_weight"] * mine_b,
        }

    @nn.nowrap
    def loss_weights(self, batch: Batch) -> dict[str, Array]:
        """How many rows each head has."""
        found = {
            name: head.weight(self._own_rows(name, batch)) for name, head in self._asked.items()
        }
        return found if self.task is None else {LOSS: next(iter(found.values()))}

    @nn.nowrap
    def loss(
        self, params: Params, batch: Batch, rng: Array | None = None
    ) -> tuple[dict[str, Array], losses.Metrics]:
        """Each head's loss summed over its rows, and its metrics, `NAME_label_accuracy` of classes.

        Args:
          params: as `init` makes them.
          batch: of `batch_format`.
          rng: for dropout, of which there is none without it.
        """
        found: Any = self.apply(
            {"params": params},
            **batch,
            enable_dropout=rng is not None,
            rngs={} if rng is None else {"dropout": rng},
        )
        terms: dict[str, Array] = {}
        metrics: losses.Metrics = {}
        for name, head in self._asked.items():
            loss, measured = head.loss(found[name], self._own_rows(name, batch))
            if self.task is not None:
                return {LOSS: loss}, measured
            terms[name] = loss
            metrics[name] = measured.pop(LOSS)
            metrics |= {f"{name}_{metric}": value for metric, value in measured.items()}
        return terms, metrics

    @nn.nowrap
    def predict(self, params: Params, batch: Batch) -> dict[str, Array]:
        """What the heads say, without dropout, and the vectors that they read.

        Args:
          params: as `init` makes them.
          batch: as for `__call__`.

        Returns:
          The `predictions` of its one task's head, or of all heads as `NAME_OUTPUT`; and float32
          `hidden_states` `[b, s, e]` and `pooled` `[b, e]`, without those of candidates.
        """
        found: Any = self.apply({"params": params}, **batch, method="logits_by_head")
        logits, vectors = found
        predicted: dict[str, Array] = {}
        if batch["encoder_input_tokens"].ndim == 2:
            predicted = {name: x.astype(jnp.float32) for name, x in vectors.items()}
        for name, head in self._asked.items():
            prefix = "" if self.task is not None else f"{name}_"
            predicted |= {
                f"{prefix}{output}": value
                for output, value in head.predictions(logits[name]).items()
            }
        return predicted


def task_number(name: str) -> int:
    """By which the batches of `labelled_tasks` name a task: the CRC-32 of its name, 31 bits of it.

    So a model and its data agree without knowing one another, whatever other tasks there are.
    """
    return zlib.crc32(name.encode()) & 0x7FFFFFFF
