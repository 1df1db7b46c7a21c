"""Importing this registers every declared task with seqio.

For seqio's own tools: `seqio_cache_tasks --module_import=tasks.seqio_tasks --tasks=c4_text`.
"""

from tasks import registry


def register_all() -> None:
    """Registers all tasks and mixtures; imports TensorFlow."""
    for name in registry.names():
        registry.get_mixture_or_task(name).seqio()


register_all()
