"""What someone sees of long work: on a terminal, in a file, and after an interrupt."""

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from t5x_like.data.cache import writer
from t5x_like.host import progress
from t5x_like.host.progress import Display, ProgressBar, duration
from t5x_like.scaling.sweeps.progress import SweepProgress
from t5x_like.training.progress import Progress

ROOT = Path(__file__).parents[3]
RECORD = {"loss": 2.3456, "tokens_per_second": 12_345.6, "step_seconds": 0.0815, "mfu": 0.412}
HIDE_CURSOR = "\x1b[?25l"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """The seconds that progress believes to have passed."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def columns(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")


# -- The line of a terminal --------------------------------------------------------------------


def bar(total, **options):
    return ProgressBar(total, stream=io.StringIO(), **options)


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (90, "━━━━━━━━━╌╌╌╌╌╌╌╌╌  5/10 steps  loss 2.5  99 tokens/s  MFU 41.2%  1 h 00 min left"),
        (70, "━━━━━━╌╌╌╌╌╌  5/10 steps  loss 2.5  99 tokens/s  1 h 00 min left"),
        (50, "━━━━━━━━╌╌╌╌╌╌╌╌  5/10 steps  loss 2.5  1 h 00 min left"),
        (40, "━━━━━╌╌╌╌  5/10 steps  1 h 00 min left"),
        (30, "5/10 steps  1 h 00 min left"),
    ],
)  # fmt: skip
def test_a_narrow_terminal_loses_the_least_important_first(clock, width, line):
    shown = bar(10, unit="steps", estimate=False)
    shown.update(5, ["loss 2.5", "99 tokens/s", "MFU 41.2%"], seconds_each=720.0)
    found = shown.line(width)
    assert len(found) <= width
    assert found.replace("━", "").replace("╌", "") == line.replace("━", "").replace("╌", "")
    # The bar fills the width, half of it for half of the work.
    assert len(found) == width or "━" not in line
    assert abs(found.count("━") - found.count("╌")) <= 1


def test_the_time_left_follows_from_the_mean_rate(clock):
    shown = bar(100, done=40, label="train")
    clock[0] += 20.0  # 10 in 20 seconds: 50 more in 100
    shown.add(10)
    assert shown.line(20) == "train  50/100  1 min 40 s left"
    assert "  50/100  0.5/s  1 min 40 s left" in shown.line(60)


def test_the_time_left_runs_down_between_two_updates(clock):
    shown = bar(100, estimate=False)
    clock[0] += 5.0
    assert shown.line(1) == "0/100  5 s"  # nothing is known but what has passed
    shown.update(50, seconds_each=2.0)
    clock[0] += 30.0
    assert shown.line(1) == "50/100  1 min 10 s left"


def test_where_nobody_knows_the_total_there_is_no_bar(clock):
    shown = bar(None, label="prompts")
    clock[0] += 2.0
    shown.add(8)
    assert shown.line(60) == "prompts  8  4.0/s  2 s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(11.6, "12 s"), (59.7, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations_have_two_units_at_most(seconds, text):
    assert duration(seconds) == text


# -- On a terminal -----------------------------------------------------------------------------


def test_what_is_said_stands_above_the_bar_and_the_cursor_is_never_hidden(monkeypatch):
    columns(monkeypatch, 60)
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    run = Progress(total=1000, start=100)
    assert sys.stdout is not out  # what others print goes above the bar too
    run.say("first step after 3 s")
    print("a warning of a library")
    run.record(200, RECORD)
    run.close()
    assert sys.stdout is out
    text = out.getvalue()
    assert "compiling" in text
    assert text.index("first step after 3 s\n") < text.index("a warning") < text.index("200/1000")
    last = text.rstrip("\n").rpartition("\x1b[2K")[2]
    assert "200/1000" in last and "loss 2.3456" in last and "1 min 05 s left" in last
    assert "MFU" not in last
    assert text.endswith("\n") and HIDE_CURSOR not in text


def test_an_error_takes_the_bar_down_without_a_last_word(monkeypatch):
    columns(monkeypatch, 60)
    for out in (Terminal(), io.StringIO()):
        with pytest.raises(KeyboardInterrupt), ProgressBar(9, label="wmt", stream=out) as shown:
            shown.add(3)
            raise KeyboardInterrupt
        assert "of 9" not in out.getvalue()
        assert out.getvalue().endswith("\n") or not out.isatty()


def test_a_sweep_is_a_table_on_a_terminal(monkeypatch):
    columns(monkeypatch, 100)
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    sweep = SweepProgress("isoflop", {"a": 1.0, "b": 1.0})
    sweep.update([row("a", "done", step=10, loss=3.25), row("b", "running", step=5)])
    sweep.close()
    text = out.getvalue()
    assert "isoflop: 1 of 2 runs done" in text and "3.2500" in text and "5/10" in text
    assert text.endswith("\n") and HIDE_CURSOR not in text


def test_caching_counts_shards_and_examples(monkeypatch):
    columns(monkeypatch, 80)
    out = Terminal()
    with writer._bar("wmt", 8, True, out) as update:
        update(0, 1234)
        update(1, 0)
    assert "caching wmt" in out.getvalue() and "1/8 shards  1,234 examples" in out.getvalue()
    quiet = io.StringIO()
    with writer._bar("wmt", 8, True, quiet) as update:
        update(8, 1234)
    assert quiet.getvalue() == ""


def test_a_terminal_that_cannot_redraw_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    out = Terminal()
    display = Display(out)
    display.draw("never")
    display.say("a line")
    display.close()
    assert out.getvalue() == "a line\n"


INTERRUPTED = """
import os, signal, time
from t5x_like.distributed import preemption
from t5x_like.training.progress import Progress
preemption.ONE_SIGNAL_SECONDS = 0.1
with preemption.stop_on_signal():
    run = Progress(1000)
    run.record(10, {"loss": 1.0})
    run.say("drawn")
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
    time.sleep(60)
"""


def test_a_second_interrupt_leaves_a_cursor_to_type_at():
    """It ends the process at once, which cleans up nothing: so nothing may need cleaning up."""
    parent, child = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "60"}
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], stdout=child, stderr=child, env=environment
    ) as process:
        os.close(child)
        said = b""
        while True:
            try:
                said += os.read(parent, 4096)
            except OSError:  # the other end is closed
                break
        assert process.wait() == 130
    os.close(parent)
    assert b"10/1000" in said and HIDE_CURSOR.encode() not in said


# -- Elsewhere ---------------------------------------------------------------------------------


def test_a_file_gets_a_line_for_each_record(capsys):
    run = Progress(total=1000, start=100)
    run.advance(101)
    run.say("first step after 3 s")
    run.record(200, RECORD)
    run.record(1000, {"loss": 2.0})
    run.close()
    assert capsys.readouterr().out.splitlines() == [
        "first step after 3 s",
        "step 200/1000  loss 2.3456  12,346 tokens/s  82 ms/step  MFU 41.2%  1 min 05 s left",
        "step 1000/1000  loss 2.0000",
    ]


def test_one_of_several_runs_puts_its_name_before_each_line(capsys, monkeypatch):
    run = Progress(total=10, label="lr=0.1")
    run.say("one\ntwo")
    run.record(5, {"loss": 1.0})
    Progress(total=10, shown=False).say("of another process")
    assert capsys.readouterr().out.splitlines() == [
        "lr=0.1  one", "lr=0.1  two", "lr=0.1  step 5/10  loss 1.0000",
    ]  # fmt: skip


def test_generation_is_one_line_at_the_end_on_standard_error(clock, capsys):
    with ProgressBar(50, done=10, label="prompts", stream=sys.stderr) as shown:
        clock[0] += 4.0
        shown.add(16)
        shown.add(16)
    assert capsys.readouterr() == ("", "prompts: 42 of 50, 8.0/s\n")


def test_what_takes_long_says_how_far_it_is_in_a_file_too_ever_more_seldom(clock, capsys):
    with ProgressBar(1000, label="wmt test", unit="rows", stream=sys.stderr) as shown:
        for _ in range(100):
            clock[0] += 8.0
            shown.add(10)
    *lines, last = capsys.readouterr().err.splitlines()
    assert lines[0] == "wmt test: 20 of 1000 rows, 1.2/s, 13 min 04 s left"
    assert [line.split()[2] for line in lines] == ["20", "50", "100", "200", "400", "780"]
    assert last == "wmt test: 1000 of 1000 rows, 1.2/s"


def test_what_is_part_of_other_work_says_how_far_it_is_only_where_it_takes_long(clock, monkeypatch):
    columns(monkeypatch, 80)
    out = Terminal()
    with progress.hidden(), ProgressBar(100, label="wmt test", stream=out) as shown:
        clock[0] += 5.0
        shown.add(40)
        assert out.getvalue() == ""  # what it is a part of has drawn its own bar there
        clock[0] += 5.0
        shown.add(40)
    assert out.getvalue() == "wmt test: 80 of 100, 8.0/s, 2 s left\n"


def test_caching_that_takes_long_says_how_far_it_is(clock):
    out = io.StringIO()
    with writer._bar("wmt", 8, True, out) as update:
        clock[0] += 20.0
        update(1, 1234)
    assert out.getvalue() == "caching wmt: 1 of 8 shards, 1,234 examples, 20 s\n"


def row(name, status, step=0, loss=float("nan")):
    return {
        "name": name, "status": status, "step": step, "steps": 10, "loss": loss,
        "train_loss": float("nan"), "parameters": 1000, "tokens": 20_000, "tokens_per_second": 0.0,
    }  # fmt: skip


def test_a_sweep_says_what_has_changed(clock, capsys):
    sweep = SweepProgress("isoflop", {"a": 3.0, "b": 3.0})
    sweep.update([row("a", "running"), row("b", "waiting")])
    sweep.update([row("a", "running", step=5), row("b", "waiting")])
    clock[0] += 60.0  # for half of the FLOPs
    sweep.update([row("a", "done", step=10, loss=3.25), row("b", "waiting")])
    sweep.close()
    assert capsys.readouterr().out.splitlines() == [
        "a  running", "a  loss 3.2500  (1/2, 1 min 00 s left)",
    ]  # fmt: skip


def test_what_a_sweep_had_done_before_it_resumed_is_no_speed_of_this_one(clock, capsys):
    sweep = SweepProgress("isoflop", {"a": 3.0, "b": 3.0})
    sweep.update([row("a", "running", step=8), row("b", "waiting")])
    clock[0] += 60.0  # for a fifth of a run, of which one is left
    sweep.update([row("a", "done", step=10, loss=3.25), row("b", "waiting")])
    assert "(1/2, 5 min 00 s left)" in capsys.readouterr().out
