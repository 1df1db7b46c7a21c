"""Classifiers of Hugging Face from their directory to labels, to a fine-tuned one, and back."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from models.heads import Classification
from t5x_like import cli, config, load_run
from t5x_like.evaluation.prediction import TextReader

FIXTURES = Path(__file__).parents[2] / "models" / "hf" / "fixtures"
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *"abcdefgh"]
CLS, SEP, A, B = (PIECES.index(piece) for piece in ("[CLS]", "[SEP]", "a", "b"))


def bert(directory, name):
    """A fixture with a vocabulary of letters."""
    shutil.copytree(FIXTURES / name, directory, ignore=shutil.ignore_patterns("*.npz"))
    (directory / "vocab.txt").write_text("\n".join(PIECES))
    return directory


def roberta(directory, processor):
    tokenizers = pytest.importorskip("tokenizers")
    shutil.copytree(
        FIXTURES / "roberta_classification", directory, ignore=shutil.ignore_patterns("*.npz")
    )
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "a", "b"]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(pieces[:4])
    tokenizer.post_processor = processor(tokenizers.processors)
    tokenizer.save(str(directory / "tokenizer.json"))
    return directory


def imported(directory, *flags):
    out = directory.parent / "run"
    assert cli.main(["import-hf", str(directory), f"--out={out}", *flags]) == 0
    (out.parent / "train.jsonl").write_text("")
    return load_run(str(out))


def row(run, *texts):
    """The ids that the model reads of these texts."""
    reader = TextReader.for_task(run.task, run.model, run.task_feature_lengths)
    batch = reader.batch([texts])
    return batch["encoder_input_tokens"][batch["encoder_segment_ids"] != 0].tolist()


@pytest.mark.slow
def test_whether_a_classifier_is_of_texts_or_of_pairs_is_said_at_import(tmp_path, capsys):
    directory = bert(tmp_path / "bert", "bert_classification")
    run = imported(directory)
    assert "it labels single texts; with --texts=2 it labels pairs" in capsys.readouterr().out
    assert row(run, "a b") == [CLS, A, B, SEP]
    shutil.rmtree(tmp_path / "run")
    run = imported(directory, "--texts=2")
    assert "single texts" not in capsys.readouterr().out
    assert row(run, "a", "b") == [CLS, A, SEP, B, SEP]
    assert set(run.predict([("a", "b"), "b\ta"])["label"]) <= set(run.model.head.labels)


def test_texts_are_of_models_that_label_something(tmp_path, capsys):
    directory, out = bert(tmp_path / "bert", "bert_masked_lm"), tmp_path / "run"
    assert cli.main(["import-hf", str(directory), f"--out={out}", "--texts=2"]) == 2
    assert "--texts=2 is for models that label texts or pairs" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("processor", "between"),
    [
        (lambda p: p.RobertaProcessing(("</s>", 2), ("<s>", 0)), 2),
        (lambda p: p.BertProcessing(("</s>", 2), ("<s>", 0)), 1),
        (
            lambda p: p.Sequence(
                [
                    p.ByteLevel(),
                    p.TemplateProcessing(
                        single="<s> $A </s>",
                        pair="<s> $A </s> </s> $B:1 </s>:1",
                        special_tokens=[("<s>", 0), ("</s>", 2)],
                    ),
                ]
            ),
            2,
        ),
    ],
)
def test_a_pair_has_the_separators_of_its_tokenizer(tmp_path, processor, between):
    """RoBERTa's are `<s> A </s> </s> B </s>`; nothing is bound for it."""
    run = imported(roberta(tmp_path / "roberta", processor), "--texts=2")
    assert row(run, "a", "b") == [0, 4, *[2] * between, 5, 2]


@pytest.mark.slow
def test_a_tagger_and_a_chooser_can_be_asked_at_once(tmp_path):
    (tmp_path / "tags").mkdir()
    run = imported(bert(tmp_path / "tags" / "bert", "bert_tagging"))
    found = run.predict(["a b", "c"])["tags"]
    assert found.shape == (2, 2) and set(found[0]) <= set(run.model.head.labels)
    assert found[1, 1] == ""
    # Its tags are those of entities.
    assert "entity_f1" in [metric.__name__ for metric in run.task.metric_fns]
    run = imported(bert(tmp_path / "bert", "bert_choice"))
    found = run.predict([("a", "b", "c"), "b\ta\tb\tc"])
    assert found["choice"].shape == (2,) and found["probabilities"].shape == (2, 4)
    np.testing.assert_array_equal(found["probabilities"][0, 2:], 0)


def test_tags_without_names_are_of_no_scheme(tmp_path):
    directory = bert(tmp_path / "bert", "bert_tagging")
    options = json.loads((directory / "config.json").read_text())
    options["id2label"] = {str(i): f"LABEL_{i}" for i in range(5)}
    (directory / "config.json").write_text(json.dumps(options))
    run = imported(directory)
    assert [metric.__name__ for metric in run.task.metric_fns] == ["word_accuracy"]
    assert run.predict(["a"])["tags"][0, 0].startswith("LABEL_")


def test_model_gin_leaves_the_head_to_the_file_of_the_task(tmp_path):
    """The imported head has three labels, and the task two of its own."""
    run = imported(bert(tmp_path / "bert", "bert_classification"))
    assert len(run.model.head.labels) == 3
    files = ("tasks/classification_jsonl.gin", str(tmp_path / "run/model.gin"))
    with config.isolated():
        config.parse(files, [("LABELS", "['0', '1']"), ("LABEL_NAMES", "['no', 'yes']")])
        model = config.macro("MODEL")
    assert model.head == Classification(("no", "yes"))


def test_how_a_pooler_that_is_not_there_starts_fresh_is_said(tmp_path, capsys):
    """A directory of hidden tokens alone has none, and the head of a task reads it."""
    out = tmp_path / "run"
    directory = bert(tmp_path / "bert", "bert_masked_lm")
    assert cli.main(["import-hf", str(directory), f"--out={out}"]) == 0
    (tmp_path / "rows.tsv").write_text("a\t0\nb\t1\n")
    train = [
        "train",
        "--dry_run",
        "--gin_file=tasks/classification_tsv.gin",
        f"--gin_file={out}/model.gin",
        "--gin_file=runs/finetune_head.gin",
        f"--gin.TRAIN_FILES={tmp_path}/rows.tsv",
        f"--gin.VALIDATION_FILES={tmp_path}/rows.tsv",
        "--gin.COLUMNS=['text', 'label']",
        "--gin.TEXTS=['text']",
        "--gin.LABELS=['0', '1']",
        "--gin.TASK_FEATURE_LENGTHS={'inputs': 16}",
        f"--gin.INITIAL_CHECKPOINT_PATH={out}",
        "--gin.TRAIN_STEPS=1",
        f"--gin.MODEL_DIR={tmp_path}/tuned",
    ]
    assert cli.main(train) == 2
    include = "--gin.checkpoints.InitialCheckpoint.include=\"['^(?!(output_head|pooler)/)']\""
    assert include in capsys.readouterr().err
    flag = include.replace('"', "")
    assert cli.main([*train, flag]) == 0


# -- From transformers and back ---------------------------------------------------------------

LENGTH = 16


def made_by_transformers(directory, kind, **options):
    transformers = pytest.importorskip("transformers")
    settings = transformers.BertConfig(
        vocab_size=len(PIECES), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=LENGTH, initializer_range=0.3, **options,
    )  # fmt: skip
    getattr(transformers, kind)(settings).save_pretrained(directory)
    (directory / "vocab.txt").write_text("\n".join(PIECES))
    (directory / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    return directory


def fine_tuned(tmp_path, directory, *flags):
    """The run, after 20 steps on pairs of letters that are the same or not."""
    out, run = tmp_path / "imported", tmp_path / "run"
    assert cli.main(["import-hf", str(directory), f"--out={out}"]) == 0
    pairs = [(a, b) for a in "abcdef" for b in "abcdef"]
    rows = [f"{a} {b}\t{a if same else 'h'}\t{int(same)}\n" for a, b in pairs for same in (0, 1)]
    (tmp_path / "rows.tsv").write_text("".join(rows))
    task = [
        "--gin_file=tasks/classification_tsv.gin",
        f"--gin_file={out}/model.gin",
        f"--gin.TRAIN_FILES={tmp_path}/rows.tsv",
        f"--gin.VALIDATION_FILES={tmp_path}/rows.tsv",
        "--gin.COLUMNS=['first', 'second', 'label']",
        "--gin.TEXTS=['first', 'second']",
        "--gin.LABELS=['0', '1']",
        "--gin.LABEL_NAMES=['different', 'same']",
        f"--gin.TASK_FEATURE_LENGTHS={{'inputs': {LENGTH}}}",
        f"--gin.CACHE_DIR={tmp_path}/cache",
    ]
    assert cli.main(["cache", *task, "--num_shards=1", "--num_workers=1"]) == 0
    train = [
        "--gin_file=optimizers/bert.gin",
        "--gin_file=runs/finetune_head.gin",
        f"--gin.INITIAL_CHECKPOINT_PATH={out}",
        f"--gin.MODEL_DIR={run}",
        "--gin.LEARNING_RATE=1e-3",
        "--gin.WARMUP_STEPS=2",
        "--gin.TRAIN_STEPS=20",
        "--gin.BATCH_SIZE=8",
        "--gin.train.train.tensorboard=False",
        *flags,
    ]
    assert cli.main(["train", *task, *train]) == 0
    gins = [f"--gin_file={run}/config.gin", "--gin_file=runs/eval.gin"]
    assert cli.main(["eval", *gins, f"--gin.CACHE_DIR={tmp_path}/cache"]) == 0
    return run


@pytest.mark.slow
@pytest.mark.interop
@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        # Three labels, of which the new task knows nothing.
        ("BertForSequenceClassification", ()),
        # Without a pooler, which starts fresh with the head.
        (
            "BertForMaskedLM",
            ("--gin.checkpoints.InitialCheckpoint.include=['^(?!output_head/|pooler/)']",),
        ),
    ],
)
def test_a_directory_is_fine_tuned_measured_asked_and_exported(kind, flags, tmp_path):
    transformers = pytest.importorskip("transformers")
    import torch

    labels = {"num_labels": 3} if kind.endswith("Classification") else {}
    directory = made_by_transformers(tmp_path / "hub", kind, **labels)
    run_dir = fine_tuned(tmp_path, directory, *flags)
    record = json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])
    assert record["rows"] == 72 and 0 <= record["accuracy"] <= 100
    run = load_run(str(run_dir))
    pairs = [("a b c", "b"), ("d", "h g")]
    found = run.predict(pairs)
    assert set(found["label"]) <= {"different", "same"}
    assert cli.main(["export-hf", str(run_dir), f"--out={tmp_path}/out"]) == 0
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert theirs.config.id2label == {0: "different", 1: "same"}
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    given = tokenizer(*map(list, zip(*pairs, strict=True)), padding=True, return_tensors="pt")
    with torch.no_grad():
        probabilities = theirs.eval()(**given).logits.softmax(-1).numpy()
    np.testing.assert_allclose(found["probabilities"], probabilities, atol=1e-5)
