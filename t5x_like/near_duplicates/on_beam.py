"""Keys that are made and compared by Apache Beam, on as many machines as its runner has.

The pipeline reads the shards, gathers the places that have a key in common, and leaves of each
shard a file with links: a place of the shard, and the first place with the same key. Links are few
beside the documents; this machine reads them, and follows them from one to another.
"""

import contextlib
import importlib.util
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from t5x_like.errors import DataFault, UserError
from t5x_like.host import files
from t5x_like.near_duplicates import shard_keys
from t5x_like.near_duplicates.minhash import Array
from t5x_like.near_duplicates.shard_keys import Shard, Work

_PLACES = 1 << 40  # more than a shard has; a place's number counts on through all shards
# Runners that ask a server of theirs which options there are besides Beam's.
_OF_SERVERS = ("portable", "flink", "spark")


def found(
    work: Work, shards: Sequence[Shard], pipeline_options: Sequence[str]
) -> tuple[list[dict[str, int]], list[Array], dict[str, int]]:
    """Runs the pipeline, and reads what it leaves.

    Keys of shards that are there already are not made again.

    Args:
      work: what is read, and where the files go.
      shards: of the source.
      pipeline_options: `--runner=DirectRunner` and so on, as Beam has them.

    Returns:
      What is counted of each shard, the places that are dropped of each, and further numbers of
      all, for the first line of the list.

    Raises:
      UserError: Beam is not installed, has no such option or runner; a shard cannot be read.
      DataFault: the pipeline failed.
    """
    options = _options(pipeline_options)
    folder = files.location(work.folder)
    for left in folder.glob("*.fault"):
        left.unlink()
    _run(_pipeline(work, shards, options))
    for fault in sorted(folder.glob("*.fault")):
        raise UserError(fault.read_text())
    kept = [shard_keys.read_arrays(shard.file(folder, "links.npz")) for shard in shards]
    counts = [
        {name: int(count) for name, count in each.items() if name != "links"} for each in kept
    ]
    links_l2 = np.concatenate([each["links"] for each in kept])
    numbers, further = work.rule.dropped_of_links(links_l2)
    begins = np.searchsorted(numbers, np.arange(1, len(shards)) * _PLACES)
    places = [part % _PLACES for part in np.split(numbers, begins)]
    return counts, places, further


def _options(flags: Sequence[str]) -> Any:
    """Beam's options.

    Raises:
      UserError: there is no such option, which Beam would pass over.
    """
    if importlib.util.find_spec("apache_beam") is None:
        raise UserError(
            "--pipeline_options needs `pip install 't5x-like[beam]'`: apache_beam is not installed."
        )
    from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

    options = PipelineOptions(list(flags))
    logger = logging.getLogger("apache_beam.options.pipeline_options")
    logger.addFilter(_is_no_discarding)
    try:
        given = options.get_all_options(drop_default=True, retain_unknown_options=True)
        known = options.get_all_options()
    except SystemExit:
        raise UserError(f"--pipeline_options={','.join(flags)}: see the line above.") from None
    finally:
        logger.removeFilter(_is_no_discarding)
    runner = str(options.view_as(StandardOptions).runner or "").lower()
    unknown = sorted(given.keys() - known.keys())
    if unknown and not runner.startswith(_OF_SERVERS):
        raise UserError(f"--pipeline_options: Beam has no option --{unknown[0]}.")
    return options


def _is_no_discarding(record: logging.LogRecord) -> bool:
    return "Discarding" not in record.msg


def _pipeline(work: Work, shards: Sequence[Shard], options: Any) -> Any:
    import apache_beam as beam

    try:
        pipeline = beam.Pipeline(options=options)
    except (ValueError, ImportError) as error:  # no such runner, or without its packages
        raise UserError(f"--pipeline_options: {str(error).splitlines()[0]}") from None
    read = (
        pipeline
        | "shards" >> beam.Create(list(enumerate(shards)))
        | "spread" >> beam.Reshuffle()
        | "keys" >> beam.FlatMap(_keyed, work).with_outputs("counts", main="keyed")
    )
    links = (
        read.keyed
        | "typed" >> beam.Map(lambda pair: pair).with_output_types(tuple[bytes, int])
        | "same keys" >> beam.GroupByKey()
        | "links" >> beam.FlatMapTuple(_links)
    )
    _ = (
        {"counts": read.counts, "links": links}
        | "by shard" >> beam.CoGroupByKey()
        | "files" >> beam.Map(_write, work, list(shards))
    )
    return pipeline


def _run(pipeline: Any) -> None:
    """Waits until a pipeline is done.

    Raises:
      DataFault: it failed.
    """
    from apache_beam.runners.runner import PipelineState

    result = pipeline.run()
    try:
        state = result.wait_until_finish()
    except BaseException:
        with contextlib.suppress(Exception):  # not every runner can
            result.cancel()
        raise
    if state != PipelineState.DONE:
        raise DataFault(f"the pipeline ended as {state}: its runner says why.")


# -- On the machines of the pipeline ---------------------------------------------------------


def _keyed(numbered: tuple[int, Shard], work: Work) -> Iterator[Any]:
    """Keys with numbers of places; and beside them, of the shard, what is counted."""
    from apache_beam import pvalue

    number, shard = numbered
    try:
        if not work.path(shard).exists():
            shard_keys.write(work, shard, lambda count: None)
    except Exception as error:
        if getattr(error, "exit_code", None) != 2:
            raise
        # What the user has to mend is not mended by trying again, as a runner would.
        path = shard.file(files.location(work.folder), "fault")
        files.write_whole(path, str(error))
        return
    arrays = shard_keys.read(work, shard)
    yield pvalue.TaggedOutput("counts", (number, work.rule.counts(arrays)))
    for key, place in work.rule.keyed(arrays):
        yield key, number * _PLACES + place


def _links(key: bytes, numbers: Iterable[int]) -> Iterator[tuple[int, tuple[int, int]]]:
    """Each place but the first of a key, by its shard, with the first one."""
    first = min(numbers)  # read twice: a frequent line's may not fit the memory
    for number in numbers:
        if number != first:
            yield number // _PLACES, (first, number)


def _write(
    of_shard: tuple[int, Mapping[str, Iterable[Any]]], work: Work, shards: Sequence[Shard]
) -> None:
    """Writes the links of a shard, each once, and its counts."""
    number, found = of_shard
    links_l2 = np.array(list(found["links"]), np.int64).reshape(-1, 2)
    counts = {name: np.int64(count) for each in found["counts"] for name, count in each.items()}
    path = shards[number].file(files.location(work.folder), "links.npz")
    shard_keys.write_arrays(path, {"links": np.unique(links_l2, axis=0), **counts})
