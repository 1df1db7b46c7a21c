"""What metrics of records are: losses, which are better lower, and counts that are neither."""

# What evaluation gives of the loss, and the terms of models' losses (`Model.loss_terms`).
_LOSSES = frozenset(
    {
        *("loss", "cross_entropy", "bits_per_byte", "perplexity", "word_perplexity"),
        *("masked_language_model", "next_sentence", "sentence_order", "sentence_structure"),
        *("span_boundary", "replaced_token_detection", "replaced_language_model"),
        *("forward", "backward", "supervised", "cross_view", "denoising", "back_translation"),
        *("targets", "soft_targets", "hidden_states", "embeddings", "attention"),
    }
)
# Of routers and of what was written: neither more nor less is better.
_COUNTS = ("expert_", "router_", "translation_length")


def is_of_loss(metric: str) -> bool:
    """Whether less of it is better; of the part of a name after its last `/`."""
    name = metric.rpartition("/")[2]
    return name in _LOSSES or name.endswith(("_loss", "_penalty"))


def is_count(metric: str) -> bool:
    """Whether it says how a model works, and not how well."""
    name = metric.rpartition("/")[2]
    return name.startswith(_COUNTS) and not is_of_loss(name)
