"""The contracts that join the engine to `models` and `tasks`.

The three packages never import one another; whatever has these attributes fits.

A model is asked three things, each only by the programs that need it: `Model` by training,
evaluation of the loss, inspection and compilation; `Decodes` by generation and scoring;
`Predicts` by what reads labels, tags and spans off a head. Two more are of models whose training
needs something beside a batch: `Carries` a state from one batch to the next, `UsesFrozen`
parameters of other models. What makes a model by counting, without training, is `Counts`.

Shapes: `b` batch, `t` decoder positions, `s` encoder positions, `v` vocabulary.
"""

from t5x_like.protocols.back_translation import TranslatesBack
from t5x_like.protocols.models import (
    BESIDE_POLICY,
    LABELS,
    Array,
    Batch,
    Cache,
    Carries,
    Carry,
    Counts,
    CoversSource,
    Decodes,
    EmbedsContexts,
    EmbedsTokens,
    Example,
    Extends,
    FrozenSource,
    LearnsFromRewards,
    MeasuresRows,
    Metrics,
    Model,
    Params,
    Predicts,
    ShowsAttention,
    ShowsRouting,
    Sums,
    Tuning,
    UsesFrozen,
    UsesStep,
)
from t5x_like.protocols.optional_traits import (
    beside_policy,
    carries,
    feature_values,
    frozen_models,
    label_names,
    longest_row,
    measures_rows,
    mixes_rows,
    tuning,
    vocab_size,
)
from t5x_like.protocols.tasks import (
    Feature,
    FewShot,
    InputsForm,
    Mixture,
    Objective,
    Task,
    Vocabulary,
    vocabulary_differences,
)

__all__ = [
    "BESIDE_POLICY",
    "LABELS",
    "Array",
    "Batch",
    "Cache",
    "Carries",
    "Carry",
    "Counts",
    "CoversSource",
    "Decodes",
    "EmbedsContexts",
    "EmbedsTokens",
    "Example",
    "Extends",
    "Feature",
    "FewShot",
    "FrozenSource",
    "InputsForm",
    "LearnsFromRewards",
    "MeasuresRows",
    "Metrics",
    "Mixture",
    "Model",
    "Objective",
    "Params",
    "Predicts",
    "ShowsAttention",
    "ShowsRouting",
    "Sums",
    "Task",
    "TranslatesBack",
    "Tuning",
    "UsesFrozen",
    "UsesStep",
    "Vocabulary",
    "beside_policy",
    "carries",
    "feature_values",
    "frozen_models",
    "label_names",
    "longest_row",
    "measures_rows",
    "mixes_rows",
    "tuning",
    "vocab_size",
    "vocabulary_differences",
]
