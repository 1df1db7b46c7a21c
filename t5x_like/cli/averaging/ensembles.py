"""`t5x-like ensemble`: a run whose predictions are the mean of several runs'."""

import argparse
import json
from collections.abc import Sequence
from typing import Any

from t5x_like.errors import UserError
from t5x_like.protocols import Vocabulary, vocabulary_differences


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "members", nargs="+", metavar="MODEL_DIR", help="of a run, or one checkpoint below it"
    )
    parser.add_argument("--out", required=True, metavar="MODEL_DIR", help="to make")
    parser.add_argument(
        "--mean",
        choices=("probabilities", "log_probabilities"),
        default="probabilities",
        help="of what, for language models; %(default)s",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(options: argparse.Namespace) -> None:
    """Writes a MODEL_DIR with one checkpoint of all members' parameters.

    Raises:
      UserError: a member is no run, or they read other tokens or batches.
    """
    import jax

    from models import ensemble
    from t5x_like.checkpoints import host_params, load_metadata
    from t5x_like.cli import hf_conversion
    from t5x_like.cli.imported_gin import config_elsewhere, members_text
    from t5x_like.runs import model_of, vocabulary_of

    directories = [run_directory(place) for place in options.members]
    check_vocabularies(directories, [vocabulary_of(directory) for directory in directories])
    models: list[Any] = [model_of(directory) for directory in directories]
    made = ensemble.ensemble_of(models, options.mean)
    own = config_elsewhere(directories[0], options.out, with_model=False)
    text = own + members_text(made)
    found = [
        host_params.read_params(place, model)
        for place, model in zip(options.members, models, strict=True)
    ]
    known = [load_metadata(place) for place in options.members]
    metadata = {
        "parameters": made.parameter_count(),
        "tokens": sum(one.get("tokens", 0) for one in known),
        "seconds": sum(one.get("seconds", 0.0) for one in known),
        "jax": jax.__version__,
    }
    steps = [step for _, step in found]
    params = {f"member_{number}": own for number, (own, _) in enumerate(found)}
    with hf_conversion.whole_directory(options.out) as directory:
        (directory / "config.gin").write_text(text, "utf-8")
        host_params.write_params(str(directory), params, max(steps), metadata)
    report = {"out": options.out, "members": options.members, "steps": steps}
    line = f"{options.out}: an ensemble of {', '.join(options.members)}"
    print(json.dumps(report) if options.json else line)


def run_directory(place: str) -> str:
    """The MODEL_DIR of a run, or of one of its checkpoints."""
    from t5x_like.checkpoints import DIRECTORY
    from t5x_like.host import files

    path = files.location(place)
    is_checkpoint = (path / "params").is_dir() and path.parent.name == DIRECTORY
    return str(path.parent.parent if is_checkpoint else path)


def check_vocabularies(
    directories: Sequence[str], vocabularies: Sequence[Vocabulary | None]
) -> None:
    """Refuses runs that read other tokens than the first, which sizes alone do not say."""
    first = vocabularies[0]
    for directory, own in zip(directories, vocabularies, strict=True):
        if first is None or own is None or not (differing := vocabulary_differences(first, own)):
            continue
        raise UserError(
            f"'{directory}' has another vocabulary than '{directories[0]}' "
            f"({'; '.join(differing[:2])}), and an ensemble reads the same "
            "tokens: give runs of one vocabulary."
        )
