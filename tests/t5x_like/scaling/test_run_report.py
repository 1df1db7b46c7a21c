"""`report RUN`: a page with the curves of one run or several, and the same as a figure."""

import json
import re

import pytest

from t5x_like import cli
from t5x_like.errors import UserError
from t5x_like.scaling import run_report
from t5x_like.training.metrics_log import append_record, json_line
from tests.t5x_like.scaling.report.test_report_page import (  # noqa: F401 (a fixture)
    DESKTOP,
    PHONE,
    PLOTS,
    browser,
)


def run(directory, losses, **more):
    """A run that has recorded these losses, validated, and been evaluated on a task."""
    directory.mkdir(parents=True)
    records = [
        {"step": 20 * i, "split": "train", "loss": loss, "tokens": 640 * i, "goodput": 0.5,
         "seconds_steps": 10.0, "seconds_compiling": 10.0, **more}
        for i, loss in enumerate(losses, 1)
    ]  # fmt: skip
    last = records[-1]["step"]
    records += [
        {"step": last, "split": "validation", "loss": 1.5},
        {"step": last, "split": "test", "task": "wmt", "loss": 1.2, "bleu": 25.4, "rows": 8},
    ]
    (directory / "metrics.jsonl").write_text("".join(map(json_line, records)))
    (directory / "config.gin").write_text("TRAIN_STEPS = 40  # </script>\n")
    folder = directory / "eval" / "wmt" / "test"
    folder.mkdir(parents=True)
    for step, text in ((20, "Gut"), (40, "Das ist <b>gut</b>")):
        row = {"inputs": "That is good.", "targets": "Das ist gut.", "predictions": text}
        (folder / f"{step}.jsonl").write_text(f"{json.dumps(row)}\n")
    return str(directory)


def plots(page):
    """The plots of a page, by name, with what each of their lines is called."""
    found = re.search(r'id="plots"[^>]*>(.*?)</script>', page, re.DOTALL)[1]
    return {plot["name"]: [line["name"] for line in plot["data"]] for plot in json.loads(found)}


def test_a_page_has_a_run_s_curves_evaluations_and_newest_samples(tmp_path, capsys):
    directory = run(tmp_path / "demo", [3.0, float("nan")], learning_rate=0.01)
    assert cli.main(["report", directory]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "demo: step 40, 1,280 tokens, validation loss 1.5000",
        "goodput 50.0%: compiling 50.0%",
        f"page: {directory}/report/index.html",
    ]
    page = (tmp_path / "demo" / "report" / "index.html").read_text()
    assert plots(page) == {
        "loss": ["demo"], "validation-loss": ["validation"], "learning-rate": ["demo"],
        "goodput": ["demo"], "evaluation-0": ["demo"],
    }  # fmt: skip
    assert "wmt test: bleu" in page
    assert "Das ist &lt;b&gt;gut&lt;/b&gt;" in page and ">Gut<" not in page
    assert "TRAIN_STEPS = 40" in page and "# </script>" not in page


def test_evaluations_after_other_numbers_of_examples_have_plots_of_their_own(tmp_path):
    directory = run(tmp_path / "demo", [3.0])
    for after, bleu in (("1_shots", 27.0), ("5_shots", 30.0)):
        record = {"step": 20, "split": "test", "task": "wmt", "bleu": bleu, "asked_after": after}
        append_record(directory, record)
    figure = run_report.curves(directory)
    titles = [note.text for note in figure.layout.annotations]
    found = {title: list(line.y) for title, line in zip(titles, figure.data, strict=True)}
    assert {title: y for title, y in found.items() if title.startswith("wmt")} == {
        "wmt test: bleu": [25.4],
        "wmt, 1 shots test: bleu": [27.0],
        "wmt, 5 shots test: bleu": [30.0],
    }


def test_several_runs_have_a_line_each_in_every_plot(tmp_path, capsys):
    first, second = run(tmp_path / "a" / "demo", [3.0]), run(tmp_path / "b" / "demo", [2.0, 1.0])
    out = str(tmp_path / "compared")
    assert cli.main(["report", first, second, f"--out={out}", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    # By as much of the path as tells them apart.
    assert {name: last["loss"] for name, last in report["runs"].items()} == {
        "a/demo": 3.0, "b/demo": 1.0,
    }  # fmt: skip
    found = plots((tmp_path / "compared" / "index.html").read_text())
    assert found["loss"] == ["a/demo", "b/demo"]
    assert found["validation-loss"] == ["a/demo, validation", "b/demo, validation"]


def test_the_curves_are_one_figure_for_a_notebook(tmp_path):
    figure = run_report.curves(run(tmp_path / "demo", [3.0, 2.0]))
    titles = [note.text for note in figure.layout.annotations]
    assert titles == ["Training loss", "Validation loss", "Goodput", "wmt test: bleu"]
    assert list(figure.data[0].y) == [3.0, 2.0]


def test_a_run_that_has_recorded_nothing_has_a_page(tmp_path, capsys):
    (tmp_path / "metrics.jsonl").write_text("")
    assert cli.main(["report", str(tmp_path)]) == 0
    assert "no step is recorded yet" in capsys.readouterr().out


def test_what_is_no_run_is_refused(tmp_path):
    directory = run(tmp_path / "demo", [3.0])
    with pytest.raises(UserError, match=r"none' has no metrics\.jsonl: give the MODEL_DIR"):
        run_report.read([directory, str(tmp_path / "none")])
    with pytest.raises(UserError, match="a run is given twice"):
        run_report.read([directory, directory + "/"])


@pytest.mark.slow
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_browser_draws_every_plot_within_the_window_and_asks_nobody(
    tmp_path,
    browser,  # noqa: F811 (the fixture)
    size,
):
    first, second = run(tmp_path / "a", [3.0, 2.0]), run(tmp_path / "b", [2.0, 1.0])
    page = run_report.write([first, second])
    browser.look(size, "light")
    browser.open(page)
    drawn = {plot["id"]: plot["lines"] for plot in browser.run(PLOTS)}
    # Each run's, and its part of the legend.
    assert drawn == dict.fromkeys(("loss", "validation-loss", "goodput", "evaluation-0"), 4)
    assert browser.run("return document.documentElement.scrollWidth") <= size[0]
    assert browser.complaints() == []
    assert browser.requests() == [page.as_uri()]
