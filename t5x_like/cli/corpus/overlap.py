"""`t5x-like overlap`: which examples of test sets are in training text."""

import argparse
import itertools
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from t5x_like.cli import caching
from t5x_like.errors import UserError

_ANY = (
    "Don't  well-known\t3.14 ﬁ \u6f22\u5b57 \U0001f98a\n"  # some vocabulary or other changes each
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("--train", required=True, nargs="+", metavar="TASK", help="training text")
    parser.add_argument("--test", required=True, nargs="+", metavar="TASK", help="tests, cached")
    parser.add_argument("--train_split", default="train", help="%(default)s")
    parser.add_argument("--test_split", default="validation", help="%(default)s")
    parser.add_argument(
        "--out", default="runs/overlap", metavar="DIR", help="of the flags; %(default)s"
    )
    parser.add_argument(
        "--n", type=int, help="of GPT-3's rule; the tests' 5th percentile of words, from 8 to 13"
    )
    parser.add_argument(
        "--max_documents",
        type=int,
        metavar="K",
        help="pass over n-grams in more training documents than this; count all by default",
    )
    parser.add_argument(
        "--num_workers", type=int, help="processes beside the reading one; a core less by default"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(options: argparse.Namespace, config: Any) -> None:
    """Compares, writes the flags, and prints how many examples are dirty."""
    from t5x_like.host.progress import ProgressBar
    from t5x_like.overlap import flags, scan
    from t5x_like.overlap.index import Index
    from t5x_like.overlap.rules import ExampleGrams
    from tasks import sources

    for name, least in (("n", 1), ("max_documents", 1), ("num_workers", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise UserError(f"--{name}={value}: give a whole number of {least} or more.")
    trained = _tasks(options.train, config)
    for task in trained:
        if hasattr(task, "source"):
            sources.check_files(task.source, [options.train_split])
    texts = {
        task.name: _test_texts(task, options.test_split, config)
        for task in _tasks(options.test, config)
    }
    if options.dry_run:
        for name, (known, _) in texts.items():
            print(f"{name} {options.test_split}: {len(known):,} examples would be compared")
        return
    tested = {name: ExampleGrams(whole, options.n) for name, (_, whole) in texts.items()}
    index = Index.of(grams for one in tested.values() for grams in one.grams)
    workers = options.num_workers
    if workers is None:
        workers = max(1, len(os.sched_getaffinity(0)) - 1)
    with ProgressBar(
        None, label="overlap", unit="characters", stream=sys.stderr, summary=False
    ) as bar:
        documents = itertools.chain.from_iterable(
            _train_texts(task, options.train_split) for task in trained
        )
        counts = scan.documents_with(index, documents, num_workers=workers, progress=bar.add)
    settings = {
        "train": [f"{task.name} {options.train_split}" for task in trained],
        "max_documents": options.max_documents,
    }
    report: dict[str, Any] = {}
    for name, one in tested.items():
        found = one.found(index, counts, options.max_documents)
        known, _ = texts[name]
        path = flags.write(options.out, name, options.test_split, known, found, settings)
        report[name] = {
            "split": options.test_split,
            "examples": len(known),
            "n": found.n,
            "gpt3": int(found.gpt3.sum()),
            "gpt2": found.gpt2_of_all,
            "palm": int(found.palm.sum()),
            "file": path,
        }
    print(json.dumps(report) if options.json else report_text(report))


def report_text(report: dict[str, Any]) -> str:
    """What is printed without `--json`."""
    lines = []
    for task, found in report.items():
        examples = found["examples"]

        def of_all(name: str, found: dict[str, Any] = found, examples: int = examples) -> str:
            return f"{found[name]:,} of {examples:,} examples ({found[name] / examples:.1%})"

        lines += [
            f"{task} {found['split']}",
            f"  GPT-3: {of_all('gpt3')} have an n-gram of the training text, n {found['n']}",
            f"  GPT-2: {found['gpt2']:.1%} of the 8-grams are in it",
            f"  PaLM:  {of_all('palm')} have 70% of their 8-grams in it",
            f"  flags: {found['file']}",
        ]
    return "\n".join(lines)


def _tasks(names: Sequence[str], config: Any) -> list[Any]:
    """The tasks of these names, those of mixtures one by one, each once."""
    tasks = [member for name in names for member, _ in caching.named(name, config).tasks]
    return list({task.name: task for task in tasks}.values())


def _train_texts(task: Any, split: str) -> Iterator[str]:
    """The text of each example of a task's source, as it is before it is tokenized.

    A document is all that a model reads of an example: a question with its answer, as in the tests.
    """
    if not hasattr(task, "examples"):
        raise UserError(
            f"the text of task '{task.name}' is read by seqio alone: declare it with `tasks`."
        )
    for example in task.examples(split):
        yield _whole(task, example)


def _whole(task: Any, example: Mapping[str, Any]) -> str:
    texts = [example.get(name, "") for name in sorted(task.cached_features)]
    return "\n".join(text if isinstance(text, str) else " ".join(text) for text in texts)


def _test_texts(task: Any, split: str, config: Any) -> tuple[list[str], list[str]]:
    """The text of each example in a task's cache, and the same as it was before it was tokenized.

    Flags are by the former, which is all that an evaluation has; the latter is compared.

    Raises:
      UserError: there is no such cache, or it has no example; or its ids do not say what the text
        was, and the source is not here or has changed.
    """
    from t5x_like.data import DatasetConfig
    from t5x_like.data.records import open_records
    from t5x_like.evaluation.clean_parts import example_text, keeps_text

    verify, cache_dir = caching.verifies_source(config), config.macro("CACHE_DIR")
    dataset = DatasetConfig(task, {}, cache_dir, split, verify_source=verify)
    records = open_records(dataset, ())
    assert records is not None  # no feature was asked for
    found, kept = [], True
    for record in records:
        found.append(example_text(record, task.output_features))
        kept = kept and keeps_text(record)
    if not found:
        raise UserError(f"task '{task.name}', split '{split}', has no example to compare.")
    if kept:
        return found, found
    of_source = dict(_known_and_whole(task, split))
    if not of_source.keys() >= set(found) and not _give_back(task):
        raise UserError(
            f"the cache of task '{task.name}' has no text, and its vocabulary does not give it "
            f"back: split '{split}' of its source is needed, as it was when it was cached."
        )
    return found, [of_source.get(text, text) for text in found]


def _known_and_whole(task: Any, split: str) -> Iterator[tuple[str, str]]:
    """What ids say of each example of a source, and its text; none where the source is not here."""
    from t5x_like.evaluation.clean_parts import example_text

    try:
        for example in getattr(task, "examples", lambda split: ())(split):
            record: dict[str, Any] = {}
            for name in task.cached_features:
                if name in example:
                    record |= task.tokenized(name, example[name])
            yield example_text(record, task.output_features), _whole(task, example)
    except OSError:  # of which SourceUnavailable is one
        return


def _give_back(task: Any) -> bool:
    """Whether the vocabularies decode any text to what it was, bytes among them."""
    vocabularies = [feature.vocabulary for feature in task.output_features.values()]
    return all(one.decode(list(one.encode(_ANY))) == _ANY for one in vocabularies)
