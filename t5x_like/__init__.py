"""The engine: programs, training, data plumbing, partitioning, checkpoints."""

import os

from t5x_like.host import accelerators, own_packages

# No annotations and no `typing`: a Python that is too old must get as far as `__main__`, which
# says so. Type checkers know this name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from t5x_like.runs import Run, load_run

# Where TensorFlow is installed, etils.epath imports it to read `gs://`, which a training process
# must not; told otherwise, it takes gcsfs. It asks the environment alone, at the first remote
# path, so this stands where both the command line and a notebook pass first.
os.environ.setdefault("EPATH_USE_TF", "false")

# A user's own folder `models` or `tasks` is not taken for ours from here on.
own_packages.find_first()
accelerators.pass_over_absent_tpu()

__all__ = ["Run", "load_run"]


def __getattr__(name):
    # Lazily, so that importing a part of the engine does not import all of it.
    if name in __all__:
        from t5x_like import runs

        return getattr(runs, name)
    raise AttributeError("module '" + __name__ + "' has no attribute '" + name + "'")
