"""Tasks whose rows are a text with several choices: RACE, COPA, and those of users' own files."""

from collections.abc import Mapping, Sequence
from typing import Literal

from tasks.forms import Choices
from tasks.metrics import accuracy
from tasks.objectives import Choices as ChoiceRows
from tasks.registry import add_mixture, add_task, features_of
from tasks.sources import Source, Tfds
from tasks.task import Metric, Task
from tasks.vocabularies import Vocabulary

# Questions of the training splits, the rates of RACE's two parts (Lai et al. 2017, table 1).
_RACE = {"middle": 25_421, "high": 62_445}
_RACE_SPLITS = {"train": "train", "validation": "dev", "test": "test"}
# As COPA's own files ask (Roemmele et al. 2011).
_COPA_QUESTIONS = {
    "cause": "What was the CAUSE of this?",
    "effect": "What happened as a RESULT?",
}


def multiple_choice(
    name: str,
    source: Source,
    context: str,
    options: Sequence[str],
    *,
    question: str = "",
    label: str = "label",
    labels: Sequence[str] = ("0", "1", "2", "3"),
    words: Mapping[str, Mapping[str, str]] | None = None,
    blank: str | None = None,
    unlabelled: str | None = None,
    separators: int | None = None,
    extract: bool = False,
    vocabulary: Vocabulary | None = None,
    metrics: Sequence[Metric] = (),
    cache_name: str = "",
    special_tokens: Literal["text", "ids"] | None = None,
) -> Task:
    """A task whose rows are a text with several choices, of which one is right.

    Args:
      name: of the task.
      source: has the columns that are named.
      context: template of the text, with columns in braces.
      options: columns, each of an option or of a list of them.
      question: template of what stands before each option.
      label: column of the label.
      labels: what it may be, in the order of the options.
      words: texts that stand for values of columns, see `forms.Choices`.
      blank: what stands in a question where the option belongs.
      unlabelled: what the column of the label holds where a row has none.
      separators: how many [SEP] stand between text and choice, see `objectives.Choices`.
      extract: whether rows end as GPT-1's do, see `objectives.LabelledSegments`.
      vocabulary: None takes bytes.
      metrics: functions of the choices' numbers, such as `metrics.accuracy`.
      cache_name: "" takes the name.
      special_tokens: of the text, where it spells them out; see `Task`.
    """
    objective = ChoiceRows(separators, extract)
    text, choices = objective.output_features
    features = features_of([text], vocabulary, add_eos=False, rank=2)
    return Task(
        name=name,
        source=source,
        form=Choices(context, options, question, label, labels, words or {}, blank, unlabelled),
        output_features={**features, **features_of([choices], vocabulary, add_eos=False)},
        learned=objective,
        metric_fns=tuple(metrics),
        cache_name=cache_name,
        special_tokens=special_tokens,
    )


def declare() -> None:
    """Registers `race_middle`, `race_high`, the mixture `race` of both, and `copa`."""
    for part in _RACE:
        race = ("article", "questions", "options", "answers")
        add_task(
            multiple_choice(
                f"race_{part}",
                Tfds(f"race/{part}:2.0.0", race, split_names=_RACE_SPLITS, each=race[1:]),
                "{article}",
                ["options"],
                question="{questions}",
                label="answers",
                labels=("A", "B", "C", "D"),
                # Of a sentence that is to be completed.
                blank="_",
                metrics=[accuracy],
            )
        )
    add_mixture("race", {f"race_{part}": float(count) for part, count in _RACE.items()})
    columns = ("premise", "question", "choice1", "choice2", "label")
    add_task(
        multiple_choice(
            "copa",
            Tfds("super_glue/copa:1.0.2", columns),
            "{premise}",
            ["choice1", "choice2"],
            question="{question}",
            labels=["0", "1"],
            words={"question": _COPA_QUESTIONS},
            unlabelled="-1",
            metrics=[accuracy],
        )
    )
