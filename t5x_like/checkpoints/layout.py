"""Where checkpoints are below a MODEL_DIR, and which of them are complete."""

from etils import epath

from t5x_like.errors import UserError

DIRECTORY = "checkpoints"
_UNFINISHED = ".orbax-checkpoint-tmp"
_DAMAGED = ".damaged"


class Damaged(UserError):
    """A checkpoint cannot be read, or differs from what was written."""


def unfinished(directory: epath.Path) -> list[str]:
    """Lists checkpoints whose writing was interrupted; they are never read.

    Args:
      directory: the `checkpoints` of a MODEL_DIR.
    """
    if not directory.is_dir():
        return []
    return sorted(path.name for path in directory.iterdir() if _UNFINISHED in path.name)


def set_aside(directory: epath.Path) -> epath.Path:
    """Renames a damaged checkpoint, so that it is not found any more; returns its new path."""
    target = directory.with_name(directory.name + _DAMAGED)
    number = 1
    while target.exists():
        number += 1
        target = directory.with_name(f"{directory.name}{_DAMAGED}-{number}")
    directory.rename(target)
    return target
