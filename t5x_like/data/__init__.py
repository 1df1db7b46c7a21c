"""Reading tokenized tasks into batches, without TensorFlow, and writing their caches with it."""

from t5x_like.data.batch_schedule import BatchSchedule, linear_ramp
from t5x_like.data.cache.building import cache_task
from t5x_like.data.cache.status import (
    CacheStatus,
    cache_status,
    check_source,
    refuse_unless_ready,
    status_of_description,
)
from t5x_like.data.config import (
    DatasetConfig,
    check_lengths,
    check_pairing,
    example_batch,
    feature_names,
    packs,
)
from t5x_like.data.dataset import open_dataset
from t5x_like.data.evaluation import (
    EvaluationBatch,
    EvaluationDataset,
    limit_in_rows,
    open_evaluation,
)
from t5x_like.data.examples import for_lengths
from t5x_like.data.iterator import DataIterator, merge_states
from t5x_like.data.long_examples import SplitLong, TrimLong
from t5x_like.data.mixing import (
    ExamplesProportional,
    GivenEpochs,
    GivenRates,
    MixtureSchedule,
    TokenShares,
)
from t5x_like.data.rows.one_task_batches import OneTaskBatches
from t5x_like.data.sharded.store import ShardStore

__all__ = [
    "BatchSchedule",
    "CacheStatus",
    "DataIterator",
    "DatasetConfig",
    "EvaluationBatch",
    "EvaluationDataset",
    "ExamplesProportional",
    "GivenEpochs",
    "GivenRates",
    "MixtureSchedule",
    "OneTaskBatches",
    "ShardStore",
    "SplitLong",
    "TokenShares",
    "TrimLong",
    "cache_status",
    "cache_task",
    "check_lengths",
    "check_pairing",
    "check_source",
    "example_batch",
    "feature_names",
    "for_lengths",
    "limit_in_rows",
    "linear_ramp",
    "merge_states",
    "open_dataset",
    "open_evaluation",
    "packs",
    "refuse_unless_ready",
    "status_of_description",
]
