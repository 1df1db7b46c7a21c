"""Checks at start-up that all processes of a run have the same configuration and code.

Processes that run different programs deadlock at the first collective, or compute something that
nobody asked for. Each process therefore publishes its bindings, versions and source hashes in the
key-value store of JAX's coordination service, which has a timeout.
"""

import hashlib
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from t5x_like.errors import UserError

TIMEOUT_SECONDS = 120
PACKAGES = ("t5x_like", "models", "tasks")
DISTRIBUTIONS = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
_PLACE = "t5x_like/config_sync"
_EQUAL = "equal"  # the answer of a process without differences


def facts(configuration: str) -> dict[str, str]:
    """What must be equal in all processes: bindings, versions, and a hash of each package.

    Args:
      configuration: gin text, as gin writes it.
    """
    versions = {name: metadata.version(name) for name in DISTRIBUTIONS}
    sources = {f"the source of {name}": source_hash(name) for name in PACKAGES}
    return {**versions, **sources, **bindings(configuration)}


def bindings(configuration: str) -> dict[str, str]:
    """Parses gin text, one binding a line as gin writes it, into name and value."""
    lines: list[str] = []
    for line in configuration.splitlines():
        if line[:1].isspace() and lines:
            lines[-1] = f"{lines[-1].rstrip(chr(92)).rstrip()} {line.strip()}"
        elif line and not line.startswith("#") and " = " in f"{line} ":
            lines.append(line)
    pairs = (line.partition(" = ") for line in lines)
    return {name.strip(): value.strip().rstrip("\\").strip() for name, _, value in pairs}


def source_hash(package: str) -> str:
    """Hashes the Python files of one of our packages, as twelve hexadecimal digits."""
    root = Path(__file__).resolve().parents[2] / package
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def differences(mine: Mapping[str, str], first: Mapping[str, str], limit: int = 3) -> str:
    """Describes each difference between `mine` and `first`; empty if there is none."""
    unequal = [name for name in {**first, **mine} if mine.get(name) != first.get(name)]
    found = [
        f"{name} is {mine.get(name, 'not set')} (process 0: {first.get(name, 'not set')})"
        for name in unequal[:limit]
    ]
    more = [f"and {len(unequal) - limit} more"] if len(unequal) > limit else []
    return ", ".join(found + more)


def check(client: Any, index: int, count: int, mine: Mapping[str, str]) -> None:
    """Compares all processes with process 0; either all of them return, or all raise.

    Args:
      client: the client of JAX's coordination service.
      index: the index of this process.
      count: the number of processes.
      mine: `facts` of this process.

    Raises:
      UserError: which processes differ and in what; or which did not answer in time.
    """
    milliseconds = TIMEOUT_SECONDS * 1000
    try:
        if index == 0:
            client.key_value_set(f"{_PLACE}/first", json.dumps(dict(mine)))
        first = json.loads(client.blocking_key_value_get(f"{_PLACE}/first", milliseconds))
        client.key_value_set(f"{_PLACE}/answers/{index}", differences(mine, first) or _EQUAL)
        client.wait_at_barrier(f"{_PLACE}/answered", milliseconds)
    except jax.errors.JaxRuntimeError as error:
        answered = {_last(key) for key, _ in client.key_value_dir_get(f"{_PLACE}/answers/")}
        silent = ", ".join(str(i) for i in range(count) if i not in answered) or "one"
        raise UserError(
            f"waited {TIMEOUT_SECONDS} s for the configuration of process {silent} of {count}: "
            "look at its log."
        ) from error
    answers = {_last(k): text for k, text in client.key_value_dir_get(f"{_PLACE}/answers/")}
    different = {i: text for i, text in sorted(answers.items()) if text != _EQUAL}
    if different:
        shown = "; ".join(f"in process {i} {text}" for i, text in list(different.items())[:3])
        more = f"; and {len(different) - 3} more processes" if len(different) > 3 else ""
        raise UserError(f"the processes of this run are set up differently: {shown}{more}.")


def _last(key: str) -> int:
    return int(key.rpartition("/")[2])
