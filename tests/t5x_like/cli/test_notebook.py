"""Commands that are run in a notebook."""

import io
import sys

from t5x_like.cli import notebook


def stream(module):
    """A stream of a class that stands in this module."""
    return type("OutStream", (io.StringIO,), {"__module__": module})()


def printed(monkeypatch, module, arguments):
    """What stands in standard output and error after a command printed to both."""
    out, err = stream(module), stream(module)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with notebook.one_stream(arguments):
        print("a loss")
        print("a warning", file=sys.stderr)
    assert sys.stderr is err
    return out.getvalue(), err.getvalue()


def test_a_notebook_shows_nothing_in_red(monkeypatch):
    both = printed(monkeypatch, "ipykernel.iostream", ["train"])
    assert both == ("a loss\na warning\n", "")


def test_elsewhere_and_beside_json_standard_error_stays(monkeypatch):
    apart = ("a loss\n", "a warning\n")
    assert printed(monkeypatch, "io", ["train"]) == apart
    assert printed(monkeypatch, "ipykernel.iostream", ["eval", "--json"]) == apart
