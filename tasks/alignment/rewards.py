"""Rules that reward answers: functions of prompts and as many answers, as `align` takes them."""

from collections.abc import Sequence

from tasks.sources import Opinions

_PAIRS = {")": "(", "]": "[", "}": "{"}


def balanced_brackets(prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
    """1 where prompt and answer together are brackets that are all closed in their order, or 0.

    Args:
      prompts: brackets that are opened, and maybe closed.
      answers: their continuations; one with anything but brackets is worth 0.
    """
    return [
        float(_is_balanced(prompt + answer))
        for prompt, answer in zip(prompts, answers, strict=True)
    ]


def positive_opinion(prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
    """1 where an answer is a continuation of `sources.Opinions` that is positive, or 0.

    What a reward model that learned from those rows should have learned: beside its rewards, this
    shows what the policy has made of them.

    Args:
      prompts: openings; they play no part.
      answers: their continuations.
    """
    return [float(Opinions.sentiment(answer) == "positive") for answer in answers]


def _is_balanced(text: str) -> bool:
    opened: list[str] = []
    for character in text:
        if character in _PAIRS.values():
            opened.append(character)
        elif not opened or _PAIRS.get(character) != opened.pop():
            return False
    return not opened
