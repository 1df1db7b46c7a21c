"""What `make reliability` counted, as text and as the table of docs/reliability.md.

python tests/reliability/table.py TALLY [--write docs/reliability.md]
"""

import argparse
import collections
import json
import platform
import sys
from datetime import date
from pathlib import Path

KINDS = {
    "kills": "kills survived: the run resumed bit for bit",
    "faults": "faults injected and survived, or answered with one line",
    "bad inputs": "bad inputs answered with one line and exit code 2",
    "fuzzed": "random inputs without a traceback or a hang",
}
BEGIN, END = "<!-- table -->", "<!-- end of table -->"


def counts(tally: Path) -> dict[str, int]:
    """The sum of each kind in a file of records.

    Raises:
      ValueError: a record is of no kind of `KINDS`.
    """
    found: collections.Counter[str] = collections.Counter()
    for line in tally.read_text().splitlines():
        record = json.loads(line)
        if record["kind"] not in KINDS:
            raise ValueError(f"{record['what']} counts '{record['kind']}', which is no kind")
        found[record["kind"]] += record["times"]
    return {kind: found[kind] for kind in KINDS}


def text(found: dict[str, int]) -> str:
    """A line for each kind, the counts below one another."""
    return "\n".join(f"{number:>7,}  {KINDS[kind]}" for kind, number in found.items())


def table(found: dict[str, int]) -> str:
    """A Markdown table, and where and when it was made."""
    rows = "\n".join(f"| {KINDS[kind]} | {number:,} |" for kind, number in found.items())
    machine = f"{platform.machine().replace('_', '-')}, Python {platform.python_version()}"
    return f"| shown | times |\n|---|---|\n{rows}\n\n`make reliability`, {date.today()}, {machine}."


def main(arguments: list[str]) -> None:
    """Prints the counts, and writes them into a document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tally", type=Path)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args(arguments)
    found = counts(options.tally)
    print(text(found))
    if options.write:
        before, _, rest = options.write.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        options.write.write_text(f"{before}{BEGIN}\n{table(found)}\n{END}{after}")


if __name__ == "__main__":
    main(sys.argv[1:])
