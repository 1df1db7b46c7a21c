"""Lists of texts to ids: the words of a text, or texts that have nothing to do with one another."""

from collections.abc import Callable, Sequence

WORDS = "words"


def encode_each(
    texts: Sequence[str], kind: str, encode: Callable[[str], Sequence[int]]
) -> tuple[list[int], list[int]]:
    """The ids of all texts, one after the other, and how many each has.

    Words are written as in a text. Most vocabularies leave out the space between two, or have it
    with the second as they have it at a text's beginning; where a token of its own, or another one,
    stands for it (bytes, GPT-2's byte-level BPE), the first token of each word but the first is it.

    Args:
      texts: in their order.
      kind: "words" of one text, or "texts".
      encode: a text's ids, of one vocabulary.
    """
    spaced = kind == WORDS and list(encode("a b")) != [*encode("a"), *encode("b")]
    found = [encode(f" {text}" if spaced and i else text) for i, text in enumerate(texts)]
    return [token for ids in found for token in ids], [len(ids) for ids in found]
