"""`t5x-like report`: tables, figures and a page of a sweep, finished or not."""

import json
import os
from argparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("sweep_dir", metavar="SWEEP_DIR", help="of `t5x-like sweep`")
    parser.add_argument("--out", metavar="DIR", help="to write; SWEEP_DIR/report by default")
    parser.add_argument(
        "--baseline", metavar="VARIANT", help="to compare with; the sweep's own by default"
    )
    parser.add_argument(
        "--bootstrap", type=int, default=1000, metavar="R", help="resamples; %(default)s"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(options: Namespace) -> None:
    """Writes the report, and says where it is and what to mind."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # a report computes nothing on a device
    from t5x_like.scaling.report.text import report_text
    from t5x_like.scaling.report.write import report

    found = report(
        options.sweep_dir, options.out, baseline=options.baseline, bootstrap=options.bootstrap
    )
    print(json.dumps(found) if options.json else report_text(found))
