"""Words one by one make the ids that they have in a text."""

import pytest

import tasks
from tasks import sources
from tasks.vocabularies import (
    ByteVocabulary,
    SentencePieceVocabulary,
    TaskText,
    encode_each,
    train_sentencepiece,
    train_tokenizer,
)

TEXT = "the boy who lived in the house by the sea"


def vocabulary(kind, folder):
    if kind == "bytes":
        return ByteVocabulary()
    if kind == "sentencepiece":
        train_sentencepiece([TEXT] * 3, str(folder / "x.model"), vocab_size=22)
        return SentencePieceVocabulary(str(folder / "x.model"))
    pytest.importorskip("tokenizers")
    from tasks.tokenizer_json import TokenizerVocabulary

    train_tokenizer(
        [TEXT] * 3, str(folder / "tokenizer.json"), model_type=kind, vocab_size=60 + 256
    )
    return TokenizerVocabulary(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece", "wordpiece", "bpe"])
def test_the_words_of_a_text_have_its_ids(kind, tmp_path):
    made = vocabulary(kind, tmp_path)
    ids, sizes = encode_each(TEXT.split(), "words", made.encode)
    assert ids == list(made.encode(TEXT)) and len(sizes) == 10 and all(sizes)
    # Texts are not words of one.
    ids, sizes = encode_each(["by", "the sea"], "texts", made.encode)
    assert ids == [*made.encode("by"), *made.encode("the sea")]
    assert sizes == [len(made.encode("by")), len(made.encode("the sea"))]
    assert encode_each([], "words", made.encode) == ([], [])


def test_a_vocabulary_is_trained_on_all_texts_of_a_task(tmp_path):
    """On words as the text that they are, on both texts of a pair, on each choice."""
    (tmp_path / "x.tsv").write_text("a b\tO O\t0\n")
    columns = sources.TabSeparated(
        files={"train": str(tmp_path / "x.tsv")}, columns=("words", "tags", "label")
    )
    made = (
        tasks.tagged("text_of_tags", columns, ["O"]),
        tasks.labelled("text_of_pairs", columns, ["words", "tags"], labels=["0"]),
        tasks.multiple_choice("text_of_choices", columns, "{words}", ["tags", "label"]),
    )
    assert [list(TaskText(task)) for task in made] == [
        ["a b"], ["a b", "O O"], ["a b", "O O", "0"],
    ]  # fmt: skip
