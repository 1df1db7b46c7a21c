"""`t5x-like eval` of a suite, and `t5x-like report` of what suites found of a run."""

import json
from argparse import Namespace
from typing import Any

from t5x_like.cli import caching, child_process


def build_missing(options: Namespace, config: Any) -> None:
    """Runs `t5x-like cache`, in a process of its own, for the suite's tasks whose data are here.

    For `--dry_run` nothing is run.

    Raises:
      UserError: a file of a source is missing, and there is no cache that would do without it.
    """
    from t5x_like.data import CacheStatus, cache_status, check_source

    directory, missing = config.macro("CACHE_DIR"), []
    for row in config.macro("SUITE").rows:
        for member, _ in caching.named(row.task, config).tasks:
            check_source(member, directory)
            if options.dry_run or not member.source_is_local:
                continue
            if cache_status(member, directory, row.split).status is not CacheStatus.READY:
                missing.append(member.name)
    if missing:
        names = list(dict.fromkeys(missing))
        print(f"caching {', '.join(names)}", flush=True)
        child_process.run("cache", options, *names)


def report(options: Namespace) -> None:
    """Prints the table of each suite that was measured of a run."""
    from t5x_like.suites.tables import read_results, table

    found = read_results(options.directories[0])
    if options.json:
        print(json.dumps({results["suite"]: results for results in found}))
        return
    print("\n\n".join(map(table, found)))
