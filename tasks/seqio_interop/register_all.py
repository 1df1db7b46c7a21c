"""Importing this module registers every declared task and mixture with seqio.

It is for seqio's own tools:
`seqio_cache_tasks --module_import=tasks.seqio_interop.register_all --tasks=c4_text`.
"""

import contextlib

from tasks import registry
from tasks.errors import SourceUnavailable


def register_all() -> None:
    """Registers all declared tasks and mixtures but those that need a user's own files.

    Imports TensorFlow.
    """
    for name in registry.names():
        with contextlib.suppress(SourceUnavailable):
            registry.get_mixture_or_task(name).seqio()


register_all()
