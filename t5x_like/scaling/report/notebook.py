"""A sweep's conclusion in a notebook: the sentence, its figure, and the warnings."""

from pathlib import Path

from t5x_like.scaling.report import figures
from t5x_like.scaling.report.analysis import Analysis, analyse
from t5x_like.scaling.report.conclusion import conclusion
from t5x_like.scaling.report.sweep_runs import read_sweep_runs


def show_conclusion(sweep_dir: str | Path, *, bootstrap: int = 500, seed: int = 0) -> Analysis:
    """Displays what stands at the top of a sweep's report, and gives what it is made from.

    Args:
      sweep_dir: of `t5x-like sweep`, finished or not.
      bootstrap: resamples behind the intervals.
      seed: of the resamples.

    Raises:
      UserError: it is not a sweep's directory, or no run is planned yet.
    """
    from IPython.display import Markdown, display

    analysis = analyse(read_sweep_runs(sweep_dir), bootstrap=bootstrap, seed=seed)
    said = conclusion(analysis)
    display(Markdown(f"**{analysis.sweep.name}.** {said.sentence}"))
    if said.figure:
        display(figures.drawn(analysis, said.figure))
    doubts = [note for note in analysis.notes if note.warning]
    lines = [f"- `{note.name}` {note.about}: {note.message}" for note in doubts]
    display(Markdown("\n".join(["Warnings:", "", *lines] if lines else ["No warnings."])))
    return analysis
