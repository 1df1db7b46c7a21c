"""What the post-processor of a `tokenizer.json` puts around a text, and between the two of a pair.

`encode` of our vocabularies adds nothing: who makes rows of texts asks here.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any

Processor = Mapping[str, Any]


def put_before(processor: Processor) -> str | None:
    """The token that stands before a single text; None for nothing."""
    found = map(_first, _each(processor))
    return next((token for token in found if token is not None), None)


def _first(processor: Processor) -> str | None:
    match processor.get("type"):
        case "TemplateProcessing":
            first: Mapping[str, Any] = next(iter(processor["single"]), {})
            return first.get("SpecialToken", {}).get("id")
        case "BertProcessing" | "RobertaProcessing":
            return str(processor["cls"][0])
    return None


def put_between(processor: Processor) -> int | None:
    """How many tokens stand between the texts of a pair; None where pairs are not provided for."""
    for one in _each(processor):
        match one.get("type"):
            case "TemplateProcessing":
                return _between(one["pair"])
            case "BertProcessing":
                return 1
            case "RobertaProcessing":
                return 2
    return None


def ends_rows(processor: Processor) -> bool:
    """Whether a row ends with its separator and one token more, and begins with the text.

    As XLNet's: its [CLS] is the last token, where BERT's is the first.
    """
    for one in _each(processor):
        if one.get("type") == "TemplateProcessing":
            kinds = ["Sequence" in piece for piece in one["single"]]
            return kinds[:1] == [True] and len(kinds) > 2
    return False


def _each(processor: Processor) -> Iterator[Processor]:
    """The processors that a file's is made of, in their order."""
    if processor.get("type") == "Sequence":
        for one in processor["processors"]:
            yield from _each(one)
    else:
        yield processor


def _between(template: Sequence[Mapping[str, Any]]) -> int | None:
    """Tokens between the first text and the second; None where there are none."""
    texts = [i for i, piece in enumerate(template) if "Sequence" in piece]
    after = template[texts[0] + 1 :] if texts else ()
    return len(list(takewhile(lambda piece: "Sequence" not in piece, after))) or None
