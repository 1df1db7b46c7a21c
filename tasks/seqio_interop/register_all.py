"""Importing this module registers every declared task and mixture with seqio.

It is for seqio's own tools:
`seqio_cache_tasks --module_import=tasks.seqio_interop.register_all --tasks=c4_text`.
"""

from tasks import registry


def register_all() -> None:
    """Registers all declared tasks and mixtures; imports TensorFlow."""
    for name in registry.names():
        registry.get_mixture_or_task(name).seqio()


register_all()
