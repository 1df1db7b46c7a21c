"""Checkpoints of other projects in and out: `import-hf`, `export-hf` and `import-t5x`.

Each imports what it needs when it runs.
"""

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from t5x_like.errors import UserError


def add(command: Callable[..., ArgumentParser]) -> None:
    """Adds the commands to the command line.

    Args:
      command: makes a subparser from a name, the function to run, and a line of help.
    """
    hf_in = command("import-hf", import_hf, "Make a MODEL_DIR of a Hugging Face directory.")
    hf_in.add_argument("directory", help="with config.json and safetensors")
    hf_in.add_argument("--out", required=True, metavar="MODEL_DIR", help="to make")
    hf_in.add_argument(
        "--texts", type=int, choices=(1, 2), help="what a head labels: texts, or pairs of texts"
    )
    hf_in.add_argument(
        "--base",
        metavar="MODEL_DIR",
        help="the directory has low-rank factors of peft, for the model of this run",
    )
    hf_out = command("export-hf", export_hf, "Write a Hugging Face directory of a MODEL_DIR.")
    hf_out.add_argument("model_dir", metavar="MODEL_DIR", help="a run's")
    hf_out.add_argument("--out", required=True, metavar="DIR", help="the directory to make")
    hf_out.add_argument("--step", type=int, help="the checkpoint; the newest by default")
    hf_out.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    hf_out.add_argument("--part", help="which network, of a model that has several")
    hf_out.add_argument(
        "--adapters", action="store_true", help="low-rank factors alone, in the format of peft"
    )
    t5x_in = command("import-t5x", import_t5x, "Make a MODEL_DIR of a checkpoint of T5X.")
    t5x_in.add_argument("directory", help="checkpoint_N, or the run's directory that holds it")
    t5x_in.add_argument("--out", required=True, metavar="MODEL_DIR", help="to make")
    t5x_in.add_argument("--step", type=int, help="which of several; the newest by default")
    t5x_in.add_argument("--vocabulary", metavar="FILE", help="its SentencePiece model")
    for parser in (hf_in, hf_out, t5x_in):
        parser.add_argument(
            "--json", action="store_true", help="one JSON object on standard output"
        )


def import_hf(options: Namespace) -> None:
    """Makes a MODEL_DIR of a Hugging Face directory."""
    if options.base is not None:
        _import_factors(options)
        return
    from models import hf
    from t5x_like.cli import generation_options, hf_conversion
    from tasks import tokenizer_files

    load: Any = hf.load_hf
    find: Any = tokenizer_files.vocabulary_in
    report = hf_conversion.import_model(
        options.directory,
        options.out,
        load=load,
        find_vocabulary=find,
        read_generation=hf.generation.generation_options,
        texts=options.texts,
    )
    _print(options, report)
    if report["generation_left_out"]:
        left_out = generation_options.shown(report["generation_left_out"])
        line = f"warning: text is generated here without what {options.directory} asks for: "
        print(f"{line}{left_out}.", file=sys.stderr)
    ends = tokenizer_files.ends_left_out(Path(options.directory))
    if ends:
        print(
            f"warning: {options.directory} ends a text with {', '.join(map(str, ends))} too "
            "(eos_token_id), which its tokenizer does not have: it is left out.",
            file=sys.stderr,
        )
    if report["texts"] and options.texts is None and not options.json:
        print("it labels single texts; with --texts=2 it labels pairs, which no file says")


def _import_factors(options: Namespace) -> None:
    from models.hf import peft
    from t5x_like.cli.hugging_face import factors

    if options.texts is not None:
        raise UserError("--texts is for a whole model: with --base leave it out.")
    load: Any = peft.load_peft
    report = factors.import_factors(options.directory, options.out, base=options.base, load=load)
    _print(options, report)


def export_hf(options: Namespace) -> None:
    """Writes a Hugging Face directory of a MODEL_DIR."""
    from models import hf
    from models.hf import peft
    from t5x_like.cli import hf_conversion
    from t5x_like.cli.hugging_face import factors

    save: Any = hf.save_hf
    if options.adapters:
        save = factors.saves_factors(peft.save_peft)
    report = hf_conversion.export_model(
        options.model_dir,
        options.out,
        save=save,
        read_generation=hf.generation.generation_options,
        step=options.step,
        dtype=options.dtype,
        part=options.part,
        bindings=options.bindings,
    )
    if options.adapters:
        report |= {"vocabulary": None}
    _print(options, report)


def import_t5x(options: Namespace) -> None:
    """Makes a MODEL_DIR of a checkpoint of T5X; the optimizer's state is left out, and said so.

    Raises:
      UserError: the checkpoint is remote; what reading it and its vocabulary raises.
    """
    from models import t5x
    from t5x_like.cli import hf_conversion

    if "://" in options.directory:
        raise UserError(
            f"'{options.directory}' is remote: copy it first, whole, as by "
            f"`gcloud storage cp -r {options.directory} DIR`, and give DIR."
        )
    checkpoint: Any = t5x.load_t5x(options.directory, options.step)
    report = hf_conversion.import_model(
        str(checkpoint.directory),
        options.out,
        load=lambda _: (checkpoint.model, checkpoint.params),
        find_vocabulary=lambda _: _vocabulary(options.vocabulary),
    )
    unused = {"texts", "generation_left_out"}  # of heads and configurations, which T5X has not
    report = {name: value for name, value in report.items() if name not in unused}
    report |= {"step": checkpoint.step, "optimizer_left_out": checkpoint.left_out}
    _print(options, report)
    if options.json:
        return
    step = f"step {checkpoint.step:,} of T5X is step 0 here"
    print(f"{step}; the optimizer's state is left out: training begins with a fresh one")
    if checkpoint.supposed:
        print(f"supposed: {checkpoint.supposed}")


def _vocabulary(path: str | None) -> Any:
    """The vocabulary of a SentencePiece file; None without one."""
    from tasks.vocabularies import SentencePieceVocabulary

    if path is None:
        return None
    if not Path(path).is_file():
        raise UserError(f"there is no file '{path}': --vocabulary is a local SentencePiece model.")
    return SentencePieceVocabulary(path)


def _print(options: Namespace, report: Any) -> None:
    tokenizer = report["vocabulary"] or "no tokenizer"
    line = f"{options.out}: {report['model']}, {report['parameters']:,} parameters, {tokenizer}"
    print(json.dumps(report) if options.json else line)
