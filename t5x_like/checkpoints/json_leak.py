"""A leak of tensorstore's, from which a run that saves often would grow without end.

tensorstore, up to 0.1.86 at least, never frees the JSON values it returns. Orbax asks for two
kinds of them in every save: the spec of the directory once for each array, and its counters of
bytes, for a log of throughput. Saving 40 parameters and their optimizer loses 70 KB each time,
and 2 KB where Orbax asks once for a directory.

Orbax's v1 interface (`orbax.checkpoint.experimental.v1` in 0.12.8) is no way around it: it writes
through the same functions. Of 40 parameters and AdamW's moments, a save of its `Checkpointer`
loses 82 KB (75 KB by the interface used here, 9 KB with this module; ten saves each), and takes
262 ms (231 and 227). Without OCDBT it loses 32 KB, and writes 252 files in 1.9 s instead of 20.
And its loading waits for the other processes at the end, one of which may have failed where a
checkpoint is damaged.
"""

import functools
import importlib
import inspect
from typing import Any

_MODULE = "orbax.checkpoint._src.serialization.tensorstore_utils"
_BUILD, _COUNT = "_build_ocdbt_kvstore_tspec", "get_tensorstore_raw_bytes"
_PARAMETERS = (
    "directory",
    "name",
    "process_spec",
    "write_options",
    "temporary_metadata_context",
)


@functools.cache
def contain() -> None:
    """Orbax asks for each directory's spec once from now on, and for no counters.

    What it writes and reads stays the same. These functions are private to Orbax: where they are
    not what they are in 0.12, it is left as it is.
    """
    try:
        module = importlib.import_module(_MODULE)
        build, _ = getattr(module, _BUILD), getattr(module, _COUNT)
    except (ImportError, AttributeError):
        return
    if tuple(inspect.signature(build).parameters) != _PARAMETERS:
        return
    setattr(module, _BUILD, _once_a_directory(build))
    setattr(module, _COUNT, _no_bytes)


def _once_a_directory(build: Any) -> Any:
    @functools.lru_cache(maxsize=16)
    def of_directory(directory: str, **options: Any) -> dict[str, Any]:
        return build(directory, None, **options)

    @functools.wraps(build)
    def of_array(directory: str, name: str | None = None, **options: Any) -> dict[str, Any]:
        spec = of_directory(directory, **options)  # callers change their copy's first level
        return dict(spec) if name is None else {**spec, "path": name}

    return of_array


def _no_bytes(*_: Any) -> int:
    """Of a difference of zero Orbax logs nothing."""
    return 0
