"""Texts as a task, and a byte-level BPE, for what imports TensorFlow.

Importing it takes eight seconds, so only the tests in this folder do.
"""

import pytest

import tasks
from tasks import sources


@pytest.fixture
def texts_task(tmp_path):
    """Makes a task of documents, which are in `tmp_path / "documents.txt"`."""

    def make(name, documents, **options):
        path = tmp_path / "documents.txt"
        path.write_text("\n\n\n".join(documents), encoding="utf-8")
        source = sources.TextFiles(files={"train": str(path)}, separator="\n\n\n")
        return tasks.unsupervised(name, source, **options)

    return make


@pytest.fixture(scope="module")
def gpt2_file(tmp_path_factory):
    """A byte-level BPE whose ids begin with "!" and end with EOS, as GPT-2's."""
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=280, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(["def f(x):\n    return x", "Größe und 12.5 €"], trainer)
    made.add_special_tokens(["<|endoftext|>"])
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    made.save(str(path))
    return str(path)
