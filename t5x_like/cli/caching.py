"""The commands about tokenized data, `cache` and `vocab`, and the caches that `train` builds.

Each function takes the parsed command line and the `config` module after its gin files were read.
"""

import json
import os
import time
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Mapping
from typing import Any

from t5x_like.cli import child_process
from t5x_like.errors import UserError

_NAME = "MIXTURE_OR_TASK_NAME"

# Of `vocab`: by the ending of --out, who reads the file, and which model types and settings it has.
_SENTENCEPIECE, _TOKENIZERS, _WORDS = ".model", ".json", ".txt"
_WRITTEN = {
    _SENTENCEPIECE: ("unigram", "bpe"),
    _TOKENIZERS: ("wordpiece", "bpe", "word_bpe", "character"),
    _WORDS: ("words",),
}
_MODEL_TYPES = ("unigram", "bpe", "wordpiece", "word_bpe", "character", "words")
_WRITTEN_AS = {
    _SENTENCEPIECE: "NAME.model (SentencePiece)",
    _TOKENIZERS: "DIRECTORY/tokenizer.json (WordPiece, BPE of bytes or words, characters)",
    _WORDS: "NAME.txt (words with their counts)",
}
_SETTINGS = {
    _SENTENCEPIECE: ("byte_fallback", "split_digits", "character_coverage"),
    _TOKENIZERS: ("cased", "max_characters", "ties"),
    _WORDS: ("min_count", "lower_case", "pattern"),
}
# Which model types of a tokenizer.json have a setting.
_HAVE = {
    "cased": ("wordpiece",),
    "max_characters": ("wordpiece", "character"),
    "ties": ("word_bpe",),
}
_VOCAB_SIZE = 32_000  # but of words, all that are frequent enough


def add_arguments(cache: ArgumentParser, vocab: ArgumentParser) -> None:
    """Adds the arguments of both commands to their parsers."""
    cache.add_argument("task", nargs="*", help="names; MIXTURE_OR_TASK_NAME when there is none")
    cache.add_argument("--splits", help="comma-separated; all that the source has by default")
    cache.add_argument("--num_shards", type=int, help="files for each split; 8")
    cache.add_argument(
        "--num_workers", type=int, help="processes; by default one for each core, of small files 1"
    )
    cache.add_argument("--list", action="store_true", help="show the caches in CACHE_DIR")
    cache.add_argument(
        "--prune", action="store_true", help="remove caches, by their names in --list"
    )
    cache.add_argument(
        "--unused_days",
        type=float,
        metavar="N",
        help="with --prune: those that no run has opened for N days",
    )
    # What `train` asks of it, in a process of its own.
    cache.add_argument("--declare", action="store_true", help=SUPPRESS)
    cache.add_argument("--parent", type=int, help=SUPPRESS)
    cache.set_defaults(
        kept="shards that were finished are kept; the same command resumes with the others."
    )
    vocab.add_argument("task", nargs="?", help="name; MIXTURE_OR_TASK_NAME by default")
    vocab.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help="NAME.model, for SentencePiece's unigram and bpe, DIRECTORY/tokenizer.json, for "
        "wordpiece, byte-level bpe, word_bpe and character, or NAME.txt, for words",
    )
    vocab.add_argument("--vocab_size", type=int, help="32000; of words all that are frequent")
    vocab.add_argument("--model_type", choices=_MODEL_TYPES, default="unigram")
    vocab.add_argument("--byte_fallback", action="store_true", help="unknown characters as bytes")
    vocab.add_argument("--split_digits", action="store_true", help="a token for each digit")
    vocab.add_argument("--character_coverage", type=float, help="SentencePiece's; 0.9995")
    vocab.add_argument("--cased", action="store_true", help="wordpiece: keep capitals and accents")
    vocab.add_argument(
        "--max_characters",
        type=int,
        help="wordpiece, character: characters that get a piece; 1000",
    )
    vocab.add_argument(
        "--ties",
        choices=("greatest", "first", "earliest"),
        help="word_bpe: which of equally frequent pairs is merged; greatest, as subword-nmt",
    )
    vocab.add_argument("--min_count", type=int, help="words: rarer ones are left out; 5")
    vocab.add_argument("--lower_case", action="store_true", help="words: make capitals small")
    vocab.add_argument("--pattern", help="words: what they match, '\\w+'; parted by white space")
    vocab.add_argument("--split", default="train", help="of the task")
    vocab.add_argument("--max_examples", type=int, help="of each task's split; all by default")


def cache(options: Namespace, config: Any) -> None:
    """Tokenizes tasks; or lists or removes caches.

    Raises:
      UserError: no task has such a name, or a file is missing; and what `cache_task` raises.
    """
    from t5x_like.data import cache_task
    from t5x_like.data.cache.pool import workers_for

    directory = config.macro("CACHE_DIR")
    if options.list or options.prune:
        _list_or_prune(options, directory)
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's greetings
    chosen = tasks_of(options, config)
    splits = options.splits.split(",") if options.splits else None
    todo = [] if options.declare else chosen
    for task in todo:  # of all, before the first is tokenized
        if hasattr(task, "check_files"):
            task.check_files()
    for task in todo:
        if options.dry_run:
            print(f"{task.name} would be cached in {directory}")
            continue
        counts = cache_task(
            task,
            directory,
            splits,
            num_shards=options.num_shards,
            num_workers=workers_for(task) if options.num_workers is None else options.num_workers,
        )
        for split, examples in counts.examples.items():
            tokens = sum(counts.tokens[split].values())
            print(f"{task.name} {split}: {examples:,} examples, {tokens:,} tokens")
            for line in dropped_lines(counts.dropped[split]):
                print(f"{task.name} {split}: {line}")
        print(f"{task.name}: {counts.path} in {counts.seconds:.1f} s")
    if not options.task and not options.dry_run:
        _write_declaration(config.macro("TASK"), directory)


def dropped_lines(counts: Mapping[str, int]) -> list[str]:
    """What filters dropped, a line for documents and one for lines, the commonest reasons first."""
    said = []
    for kind in ("document", "line"):
        reasons = {
            reason.removeprefix(f"{kind}: "): count
            for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
            if reason.startswith(f"{kind}: ")
        }
        if reasons:
            why = ", ".join(f"{reason} {count:,}" for reason, count in reasons.items())
            said.append(f"{sum(reasons.values()):,} {kind}s dropped: {why}")
    return said


def _list_or_prune(options: Namespace, directory: str) -> None:
    from t5x_like.data.cache import listing
    from t5x_like.host import files

    if files.is_remote(directory):
        raise UserError(f"CACHE_DIR {directory} is remote: list and remove with `gcloud storage`.")
    found = listing.caches(directory)
    if options.prune:
        for one in listing.chosen(found, options.task, options.unused_days):
            kept = "--dry_run" if options.dry_run else listing.prune(one)
            done = f"is kept: {kept}" if kept else f"removed, {one.size / 1e6:,.1f} MB"
            print(f"{one.name} {done}")
        return
    for one in found:
        day = time.strftime("%Y-%m-%d", time.localtime(one.last_used))
        splits = ", ".join(one.splits) if one.finished else "not finished"
        print(f"{one.name}  {one.size / 1e6:,.1f} MB  last used {day}  {splits}")
    total = sum(one.size for one in found)
    print(f"{len(found)} caches in {directory}, {total / 1e6:,.1f} MB")


def vocab(options: Namespace, config: Any) -> None:
    """Trains a vocabulary on text of a task or mixture: SentencePiece, WordPiece, BPE and others.

    Raises:
      UserError: the file's name and the settings do not go together, or there is no such task.
    """
    from tasks import sources, vocabularies

    kind = options.model_type
    ending = _ending(options)
    vocab_size = _VOCAB_SIZE if options.vocab_size is None else options.vocab_size
    if options.max_examples is not None and options.max_examples < 1:
        raise UserError(f"--max_examples={options.max_examples}: give a whole number of 1 or more.")
    task = named(options.task, config) if options.task else config.macro("TASK")
    members = [member for member, _ in task.tasks]
    for member in members:
        if hasattr(member, "source"):  # else seqio alone knows it
            sources.check_files(member.source, [options.split])
    texts = vocabularies.TaskText(task, options.split, options.max_examples)
    told = {name: getattr(options, name) for name in _SETTINGS[ending] if _given(options, name)}
    source = f"{task.name} {options.split}"
    if len(members) > 1:
        source += f" ({', '.join(member.name for member in members)})"
    if options.dry_run:
        print(f"{options.out} would be trained on {source}")
        return
    few = ""
    if ending == _WORDS:
        size = vocabularies.train_words(
            texts, options.out, vocab_size=options.vocab_size, **told
        ).vocab_size
    elif ending == _SENTENCEPIECE:
        size = vocabularies.train_sentencepiece(
            texts, options.out, vocab_size=vocab_size, model_type=kind, **told
        ).vocab_size
    else:
        told["lower_case"] = not told.pop("cased", False)  # read of WordPiece alone
        size = vocabularies.train_tokenizer(
            texts, options.out, vocab_size=vocab_size, model_type=kind, **told
        )
        if size < vocab_size:
            few = f", not {vocab_size}: " + (
                "there are no more"
                if kind == "character"
                else "no other pair of tokens occurs twice"
            )
    print(f"{options.out}: {size} tokens from {source}{few}")


def _ending(options: Namespace) -> str:
    """What `--out` ends with, which says who reads the file.

    Raises:
      UserError: that is no vocabulary's, or not one of what `--model_type` is written as; or a
        setting is of another.
    """
    out, kind = str(options.out), options.model_type
    endings = {ending for ending, kinds in _WRITTEN.items() if kind in kinds}
    written = next((ending for ending in _WRITTEN if out.endswith(ending)), None)
    if written not in endings:
        forms = " or ".join(_WRITTEN_AS[ending] for ending in sorted(endings, reverse=True))
        raise UserError(f"--out={out}: --model_type={kind} is written to {forms}.")
    for ending, names in _SETTINGS.items():
        for name in names:
            if ending != written and _given(options, name):
                raise UserError(f"--{name} is not for {out}: it belongs to {_WRITTEN_AS[ending]}.")
    for name, kinds in _HAVE.items():
        if kind not in kinds and _given(options, name):
            raise UserError(f"--{name} is for --model_type={' and '.join(kinds)}, not {kind}.")
    return written


def _given(options: Namespace, name: str) -> bool:
    return getattr(options, name) is not None and getattr(options, name) is not False


def tasks_of(options: Namespace, config: Any) -> list[Any]:
    """The tasks that the command names, or those of the configured task or mixture.

    Where none is named, those that a run is evaluated on while it trains, EVALUATIONS, follow.

    Raises:
      UserError: no task has such a name.
    """
    chosen = [named(name, config) for name in options.task]
    if not chosen:
        chosen = [config.macro("TASK"), *_evaluated(config)]
    members = [member for task in chosen for member, _ in task.tasks]
    return [one for i, one in enumerate(members) if one not in members[:i]]


def named(name: str, config: Any) -> Any:
    """A registered task or mixture, or one that the gin files build.

    Raises:
      UserError: there is no task of this name.
    """
    import tasks
    from t5x_like.config.gin_files import packaged_gin_configs

    if not config.has_macro("SUITE"):  # which measures a task of a name, however a run learned it
        if config.has_macro(_NAME) and config.macro(_NAME) == name:
            return config.macro("TASK")
        for evaluated in _evaluated(config):
            if evaluated.name == name:
                return evaluated
    macros = {
        "tfds_data_dir": "TFDS_DATA_DIR", "vocabulary": "VOCABULARY", "files_dir": "FILES_DIR"
    }  # fmt: skip
    bound = {name: macro for name, macro in macros.items() if config.has_macro(macro)}
    try:
        return tasks.get_mixture_or_task(
            name, **{setting: config.macro(macro) for setting, macro in bound.items()}
        )
    except ValueError:
        gin_file = packaged_gin_configs() / "tasks" / f"{name}.gin"
        if name not in tasks.names() and gin_file.is_file():
            raise UserError(
                f"the task '{name}' is built by a gin file: give --gin_file=tasks/{name}.gin, and "
                "what that file requires."
            ) from None
        raise


def _evaluated(config: Any) -> list[Any]:
    """The tasks and mixtures that a run is evaluated on while it trains."""
    if not config.has_macro("EVALUATIONS"):
        return []
    return [evaluation.dataset.task for evaluation in config.macro("EVALUATIONS")]


def verifies_source(config: Any) -> bool:
    """Whether a cache of another source is refused, as `data.DatasetConfig.verify_source` says."""
    return not config.is_bound_to("DatasetConfig", "verify_source", False)


def build_missing(options: Namespace, config: Any) -> None:
    """Runs `t5x-like cache`, in a process of its own, for what is not ready to be read.

    Tokenizing imports TensorFlow, which this process must not.

    Raises:
      UserError: a file of a source is missing, and there is no cache that would do without it.
    """
    from t5x_like import data

    options.task = []
    directory = config.macro("CACHE_DIR")
    in_parts = config.has_macro("SHARD_STORE") and config.macro("SHARD_STORE") is not None
    look = data.status_of_description if in_parts else data.cache_status
    verify = verifies_source(config)
    for task in tasks_of(options, config):
        report = look(task, directory, verify_source=verify)
        if report.status is data.CacheStatus.READY or not task.source_is_local:
            continue
        if report.remedy:  # which building it is not
            data.refuse_unless_ready(report)
        print(f"{report.reason}: building it.", flush=True)
        child_process.run("cache", options)
        return  # one call builds every task of a mixture


def declaration_path(name: str, cache_dir: str) -> Any:
    """Where what training must know of a user's seqio task is kept.

    Raises:
      UserError: the name would lead to another folder.
    """
    from t5x_like.data.cache import layout
    from t5x_like.host import files

    directory = files.location(os.path.expanduser(cache_dir))
    layout.cache_path(directory, name)
    return directory / "declared" / f"{name.replace(':', '.')}.json"


def _write_declaration(task: Any, cache_dir: str) -> None:
    """Keeps what training must know of a user's seqio task beside its cache."""
    from tasks import manifest

    path = declaration_path(task.name, cache_dir)
    declaration = manifest.to_json(task)
    if declaration is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(declaration, indent=2))
