"""Where a text begins and ends: the token ids of `config.json` and `generation_config.json`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.errors import ModelError

GENERATION = "generation_config.json"
_CONFIG = "config.json"
EOS = "eos_token_id"
# Ids of texts' beginnings, ends and padding; generation reads the second file first.
TOKEN_IDS = (
    "bos_token_id", EOS, "pad_token_id", "decoder_start_token_id", "forced_bos_token_id",
    "forced_eos_token_id",
)  # fmt: skip

Ids = int | list[int]


def options_of(directory: str | Path, name: str) -> dict[str, Any]:
    """The object of a JSON file, empty where there is no such file.

    Raises:
      ModelError: it cannot be read, or holds no object.
    """
    path = Path(directory) / name
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON: {error}.") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds no object of options.")
    return found


def token_ids(directory: str | Path) -> dict[str, Ids]:
    """The ids of `TOKEN_IDS` that a Hugging Face directory names.

    Raises:
      ModelError: a file is not JSON, or an id is neither a whole number nor a list of some.
    """
    found: dict[str, Ids] = {}
    for name in (_CONFIG, GENERATION):
        for key, value in options_of(directory, name).items():
            if key not in TOKEN_IDS or value is None:
                continue
            listed = value if isinstance(value, list) else [value]
            if not all(type(one) is int for one in listed) or not listed:
                raise ModelError(
                    f"{Path(directory) / name}: {key} {value!r} is neither a token's id nor a list "
                    "of ids."
                )
            found[key] = value
    return found


def joined(first: Ids | None, second: Ids | None) -> Ids | None:
    """The ids of both, each once and in this order; one alone is no list."""
    found: list[int] = []
    for ids in (first, second):
        found += [one for one in _listed(ids) if one not in found]
    return None if not found else found[0] if len(found) == 1 else found


def _listed(ids: Ids | None) -> list[int]:
    return [] if ids is None else [ids] if isinstance(ids, int) else ids


def generation_config(config: Mapping[str, Any], like: str | Path | None) -> dict[str, Any]:
    """`generation_config.json` beside a `config.json` that is written.

    Args:
      config: what is written, with its token ids.
      like: a directory whose other options of generation go along.
    """
    kept = {} if like is None else options_of(like, GENERATION)
    named = {key: config[key] for key in TOKEN_IDS if config.get(key) is not None}
    return {**kept, **named}
