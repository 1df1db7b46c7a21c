"""The identity of a run, so that it is not continued with other settings by mistake.

`MODEL_DIR/run.json` describes the objects that training was given when it began. What decides
its numbers (model, data, optimizer, seed) is its identity; the rest may change between two starts.
"""

import dataclasses
import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from t5x_like.errors import UserError
from t5x_like.host import files

FILE = "run.json"
_SHOWN = 6

# Fields of models and data that change nothing beyond rounding: how it is computed, and where from.
HARMLESS_FIELDS = frozenset(
    {
        "remat_policy",
        "scan_unroll",
        "logit_chunks",
        "masked_places",
        "cache_dir",
        "prefetch",
        "verify_source",
        "devices",
        "store_bytes",
        "store_dir",
        "averages",  # an optimizer's name says it
    }
)
Description = dict[str, str]


@dataclasses.dataclass(frozen=True)
class RunIdentity:
    """What a run is, and how it was started.

    Attributes:
      identity: name to value of all that decides its numbers, `{"model.num_layers": "6"}`.
      settings: name to value of what may change, `{"train_steps": "1000"}`.
    """

    identity: Description
    settings: Description

    @classmethod
    def of(cls, identity: Mapping[str, Any], settings: Mapping[str, Any]) -> "RunIdentity":
        """Describes the objects of a run."""
        return cls(describe(identity), describe(settings))

    def all(self) -> Description:
        """Both together, as one configuration."""
        return {**self.settings, **self.identity}


@dataclasses.dataclass(frozen=True)
class Changes:
    """Between two starts of a run; each a line `name: before -> now`.

    Attributes:
      refused: what makes it another run.
      harmless: what does not.
    """

    refused: list[str]
    harmless: list[str]


def compare(before: RunIdentity, now: RunIdentity) -> Changes:
    """What has changed since the run was last started.

    A schedule that ends with the run is as long as the run: where a value was the old number of
    steps and is the new one, it changed with it.
    """
    steps = (before.settings.get("train_steps"), now.settings.get("train_steps"))
    refused: list[str] = []
    harmless = _changed(before.settings, now.settings)
    for name, old, new in _differences(before.identity, now.identity):
        followed = ".schedule." in name and steps[0] != steps[1] and (old, new) == steps
        (harmless if followed else refused).append(_shown(name, old, new))
    return Changes(refused, harmless)


def _shown(name: str, old: str, new: str) -> str:
    what, _, last = name.rpartition(".")
    if last == "fingerprint":
        # Two digests say nothing to a reader; what they are of does.
        return f"{what}: its source, vocabulary or preprocessing has changed"
    return f"{name}: {old} -> {new}"


def check(directory: epath.Path, now: RunIdentity, *, allow_change: bool = False) -> Changes:
    """Compares with what the run in `directory` was when it was last started.

    Args:
      directory: MODEL_DIR.
      now: what is to be started.
      allow_change: whether it may become another run.

    Raises:
      UserError: it would, and may not; the differences.
    """
    before = read(directory)
    if before is None:
        return Changes([], [])
    changes = compare(before, now)
    if changes.refused and not allow_change:
        shown = "; ".join(changes.refused[:_SHOWN])
        more = len(changes.refused) - _SHOWN
        raise UserError(
            f"MODEL_DIR '{directory}' holds another run: {shown}"
            f"{f'; and {more} more' if more > 0 else ''}. Choose another MODEL_DIR, undo the "
            "change, or continue all the same with --allow_config_change."
        )
    return changes


def read(directory: epath.Path) -> RunIdentity | None:
    """What `write` has written, if it has.

    Raises:
      UserError: the file is damaged, or is no file, or MODEL_DIR cannot be reached.
    """
    path = directory / FILE
    try:
        if not path.exists():
            return None
    except OSError as error:  # of the network: local paths answer
        raise UserError(f"MODEL_DIR '{directory}' cannot be reached: {error}") from error
    try:
        found = json.loads(files.read_whole(path))
        parts = [_text_by_name(found[part]) for part in ("identity", "settings")]
    except UserError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"'{path}' is damaged ({type(error).__name__}): delete it to continue the run "
            "without comparing its configuration."
        ) from error
    return RunIdentity(*parts)


def _text_by_name(found: Any) -> Description:
    if not all(isinstance(text, str) for pair in found.items() for text in pair):
        raise TypeError
    return dict(found)


def write(directory: epath.Path, identity: RunIdentity) -> None:
    """Replaces the file as a whole."""
    text = json.dumps(dataclasses.asdict(identity), indent=1) + "\n"
    files.write_whole(directory / FILE, text)


def describe(value: Any) -> Description:
    """The parts of an object by name, as text that is the same in every process.

    Dataclasses (Flax modules too) are described by their fields, functions by their names and
    what they close over, anything else that is no plain value by its class and attributes.
    """
    return dict(_parts("", value, ()))


def _parts(name: str, value: Any, above: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    if id(value) in above:
        return  # it holds itself
    if value is None or isinstance(value, str | bytes | bool | int | float | complex):
        yield name, repr(value)
        return
    if isinstance(value, np.ndarray | jax.Array):
        array = np.asarray(value)
        digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:12]
        yield name, f"{array.dtype}{list(array.shape)} {digest}"
        return
    plain = (str, bytes, bool, int, float, type(None))
    if isinstance(value, Sequence) and all(isinstance(part, plain) for part in value):
        yield name, repr(list(value))
        return
    head, inner = _fields(value)
    if head:
        yield name, head
    siblings: tuple[int, ...] = ()
    for part, content in inner.items():
        if part not in HARMLESS_FIELDS:
            # A function often closes over objects that are fields beside it.
            seen = (*above, id(value), *(siblings if inspect.isfunction(content) else ()))
            yield from _parts(f"{name}.{part}" if name else part, content, seen)
            siblings += (id(content),)


def _fields(value: Any) -> tuple[str, dict[str, Any]]:
    """What an object is called, and what it is made of."""
    if isinstance(value, Mapping):
        return "", {str(key): content for key, content in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        items = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        return "", {str(index): content for index, content in enumerate(items)}
    if isinstance(value, type):
        return _qualified(value), {}
    if hasattr(value, "fingerprint") and hasattr(value, "name"):
        own = {"name": value.name, "fingerprint": _fingerprint(value)}
        return "", {**own, "objective": getattr(value, "learned", None)}
    if isinstance(value, functools.partial):
        positional = {str(index): content for index, content in enumerate(value.args)}
        return _fields(value.func)[0], {**positional, **value.keywords}
    if callable(value) and (inspect.isroutine(value) or hasattr(value, "__wrapped__")):
        function = inspect.unwrap(value)
        return _qualified(function), _closed_over(function)
    if dataclasses.is_dataclass(value):
        fields = [field.name for field in dataclasses.fields(value)]
        if "parent" in fields:  # of a Flax module
            fields = [field for field in fields if field not in ("parent", "name")]
        return _qualified(type(value)), {field: getattr(value, field) for field in fields}
    return _qualified(type(value)), dict(getattr(value, "__dict__", {}))


def _closed_over(function: Callable[..., Any]) -> dict[str, Any]:
    cells = getattr(function, "__closure__", None) or ()
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    return {name: cell.cell_contents for name, cell in zip(names, cells, strict=False)}


def _fingerprint(task: Any) -> str | None:
    try:
        return task.fingerprint()
    except (OSError, ImportError):
        return None  # its source cannot be seen from this host


def _qualified(thing: Any) -> str:
    # Without the module: where a thing is defined may change between versions.
    return str(getattr(thing, "__qualname__", repr(thing)))


def _differences(before: Description, now: Description) -> Iterator[tuple[str, str, str]]:
    """Name, value before and value now; of what was replaced as a whole, not its parts."""
    replaced: list[str] = []
    for name in {**before, **now}:
        old, new = before.get(name, "not there"), now.get(name, "not there")
        unseen = name.endswith(".fingerprint") and "None" in (old, new)
        # A version that had no such field did what None says.
        unseen |= {old, new} == {"not there", "None"}
        if old != new and not unseen and not name.startswith(tuple(replaced)):
            replaced.append(f"{name}.")
            yield name, old, new


def _changed(before: Description, now: Description) -> list[str]:
    return [_shown(name, old, new) for name, old, new in _differences(before, now)]
