"""Records of a cache in TFRecord and in ArrayRecord: size, opening many shards, reading at random.

    python -m benchmarks.record_formats [--documents 20000] [--shards 1000]

Documents are the standard library's modules in bytes as token ids, cut after 1,000 tokens, each a
`tf.train.Example` as caches have them. ArrayRecord is written as grain wants it, a record for
each chunk (`group_size:1`), and compressed as it is by default. Processor time of all threads is
given, the least of three runs, which other jobs on the machine change little.
"""

import argparse
import resource
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python import array_record_data_source, array_record_module

from t5x_like.data.cache.example_proto import encode_example
from t5x_like.data.cache.tfrecord import RecordFile, write_records

TOKENS = 1000
OPTIONS = {"TFRecord": None, "ArrayRecord": "group_size:1"}  # of their writers


def documents(count: int) -> list[bytes]:
    """So many records; the text is gone through again where it ends."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    text = np.frombuffer(b"".join(path.read_bytes() for path in files), np.uint8).astype(np.int32)
    begins = np.arange(count) * TOKENS % (text.size - TOKENS)
    return [encode_example({"targets": text[begin : begin + TOKENS] + 3}) for begin in begins]


def seconds(work: Callable[[], Any]) -> float:
    """Processor time of this process, the least of three runs."""
    found = []
    for _ in range(3):
        began = resource.getrusage(resource.RUSAGE_SELF)
        work()
        ended = resource.getrusage(resource.RUSAGE_SELF)
        found.append(ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime)
    return min(found)


def write(path: Path, records: Sequence[bytes], options: str | None) -> None:
    """Writes a shard, as TFRecord where there are no options."""
    if options is None:
        write_records(path, records)
        return
    writer = array_record_module.ArrayRecordWriter(str(path), options)
    for record in records:
        writer.write(record)
    writer.close()


def opened(paths: Sequence[Path], options: str | None) -> Any:
    """All shards, ready to be read at random."""
    if options is None:
        return [RecordFile(path, path.with_suffix(".index")) for path in paths]
    return array_record_data_source.ArrayRecordDataSource([str(path) for path in paths])


def main() -> None:
    """Prints one line for each format."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--shards", type=int, default=1000)
    options = parser.parse_args()
    records = documents(options.documents)
    order = np.random.default_rng(0).permutation(len(records)).tolist()
    print(f"{len(records):,} records, {sum(map(len, records)) / 1e6:.1f} MB")
    for name, how in OPTIONS.items():
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder, "whole")
            writing = seconds(lambda whole=whole, how=how: write(whole, records, how))
            paths = [Path(folder, str(shard)) for shard in range(options.shards)]
            for shard, path in enumerate(paths):
                write(path, records[shard :: options.shards][:20], how)
            if how is None:
                opened(paths, how)  # indexed, once
            opening = seconds(lambda paths=paths, how=how: len(opened(paths, how)))
            source = opened([whole], how)
            source = source[0] if how is None else source
            assert source[order[0]] == records[order[0]]
            reading = seconds(lambda source=source: [source[i] for i in order])
            print(
                f"{name}: {whole.stat().st_size / 1e6:.1f} MB, writing {writing:.2f} s, opening "
                f"{options.shards:,} shards {opening:.2f} s, reading "
                f"{reading / len(order) * 1e6:.1f} us a record"
            )


if __name__ == "__main__":
    main()
