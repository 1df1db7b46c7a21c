"""seqio's side: equal ids, its own datasets of our tasks, its caches, and its users' tasks.

Everything that imports TensorFlow is here, because that takes eight seconds.
"""

import functools
import json

import numpy as np
import pytest

seqio = pytest.importorskip("seqio")
import tensorflow as tf  # noqa: E402
import tensorflow_datasets as tfds  # noqa: E402

import tasks  # noqa: E402
from t5x_like import data  # noqa: E402
from tasks import (  # noqa: E402
    forms,
    from_seqio,
    manifest,
    metrics,
    objectives,
    sources,
    vocabularies,
)
from tasks.errors import TaskError  # noqa: E402
from tasks.seqio_pipeline import ApplyObjective  # noqa: E402
from tasks.tokenizer_json import TokenizerVocabulary  # noqa: E402

TEXTS = ["def f(x):\n    return x", "Größe <extra_id_0> und 12.5 €", "", "tab\tand  spaces  "]
LENGTHS = {"inputs": 64, "targets": 32}


def texts_task(tmp_path, name, documents, **options):
    path = tmp_path / "documents.txt"
    path.write_text("\n\n\n".join(documents), encoding="utf-8")
    source = sources.TextFiles(files={"train": str(path)}, separator="\n\n\n")
    return tasks.unsupervised(name, source, **options)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "small.model"
    lines = [f"def f{i}(x): return x + {i * 7}  # Größe" for i in range(300)]
    vocabularies.train_sentencepiece(lines, str(path), vocab_size=100)
    return str(path)


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece", "own sentinels"])
def test_ids_are_seqios(kind, model_file, tmp_path):
    if kind == "bytes":
        ours = vocabularies.ByteVocabulary(extra_ids=100)
        theirs = seqio.ByteVocabulary(extra_ids=100)
    elif kind == "sentencepiece":
        ours = vocabularies.SentencePieceVocabulary(model_file)
        theirs = seqio.SentencePieceVocabulary(model_file, extra_ids=100)
    else:
        path = tmp_path / "own.model"
        added = vocabularies.SentencePieceVocabulary(model_file, extra_ids=9)
        path.write_bytes(added._processor.serialized_model_proto())
        ours = vocabularies.SentencePieceVocabulary(str(path), extra_ids=9)
        theirs = seqio.SentencePieceVocabulary(str(path), extra_ids=0)
    assert (ours.vocab_size, ours.eos_id, ours.unk_id) == (
        theirs.vocab_size,
        theirs.eos_id,
        theirs.unk_id,
    )
    for text in TEXTS:
        ids = ours.encode(text)
        assert ids == list(theirs.encode(text))
        assert ids == theirs.encode_tf(tf.constant(text)).numpy().tolist()
        assert ids == list(ours.seqio().encode(text))
        assert ours.decode([*ids, 1, 40]) == theirs.decode([*ids, 1, 40])
    assert ours.seqio() == theirs
    assert from_seqio.vocabulary_from_seqio(theirs) == ours
    rng = np.random.default_rng(0)
    for _ in range(20):
        ids = rng.integers(2, ours.vocab_size, 12).tolist()
        assert ours.decode(ids) == theirs.decode(ids)


def test_a_text_task_gives_seqio_documents_with_eos(tmp_path):
    task = texts_task(tmp_path, "seqio_documents", ["one", "two!"])
    task.seqio()
    dataset = seqio.get_mixture_or_task("seqio_documents").get_dataset(
        {"targets": 4}, split="train", shuffle=False
    )
    # b"o" is 111 + 3. Trimmed to three bytes, then EOS.
    assert [e["targets"].tolist() for e in dataset.as_numpy_iterator()] == [
        [114, 113, 104, 1],
        [119, 122, 114, 1],
    ]


def test_causal_lm_is_one_stream_with_eos_between_documents(tmp_path):
    task = texts_task(tmp_path, "seqio_lm", ["one", "two!"], objective=objectives.CausalLM())
    dataset = task.seqio().get_dataset({"targets": 5}, split="train", shuffle=False)
    vocabulary = vocabularies.ByteVocabulary()
    stream = [*vocabulary.encode("one"), 1, *vocabulary.encode("two!"), 1]
    assert [e["targets"].tolist() for e in dataset.as_numpy_iterator()] == [stream[:5], stream[5:]]


def test_span_corruption_through_seqio_fills_its_lengths_and_follows_the_seed(tmp_path):
    documents = ["".join(chr(97 + i % 26) for i in range(50 + n)) for n in range(40)]
    task = texts_task(tmp_path, "seqio_spans", documents, objective=objectives.SpanCorruption())
    seqio_task = task.seqio()

    def draw(seed):
        dataset = seqio_task.get_dataset(LENGTHS, split="train", shuffle=False, seed=seed)
        return [(e["inputs"].tolist(), e["targets"].tolist()) for e in dataset.as_numpy_iterator()]

    first, again, other = draw(1), draw(1), draw(2)
    assert first == again != other
    bound = task.objective({"targets": vocabularies.ByteVocabulary().spec()})
    raw = bound.chunk_length(LENGTHS)
    assert len(first) == -(-sum(map(len, documents)) // raw)
    for inputs, targets in first[:-1]:
        assert len(inputs) == 64 and inputs[-1] == 1 and inputs.count(383) == 1
        assert len(targets) == bound.result_lengths(raw)[1] and targets[0] == 383
    assert first[0] != first[1]


BART = objectives.Denoising((objectives.SentencePermutation(), objectives.TextInfilling()))


@pytest.mark.parametrize(
    ("objective", "lengths"),
    [
        (objectives.IIDSpanCorruption(), {"inputs": 64, "targets": 40}),
        (objectives.DropTokens(), {"inputs": 64, "targets": 12}),
        (objectives.MASS(), {"inputs": 64, "targets": 33}),
        (objectives.Denoising(), {"inputs": 64, "targets": 64}),
        (BART, {"inputs": 64, "targets": 80}),
    ],
)
def test_every_objective_gives_rows_through_seqio(tmp_path, objective, lengths):
    documents = [f"A sentence of {n} words. And one of {n + 1}. And so on." for n in range(40)]
    task = texts_task(tmp_path, "seqio_objective", documents, objective=objective)
    made = task.seqio()
    dataset = made.get_dataset(lengths, split="train", shuffle=False, seed=3)
    rows = list(dataset.as_numpy_iterator())
    bound = task.objective({"targets": vocabularies.ByteVocabulary().spec()})
    raw = bound.chunk_length(lengths)
    assert len(rows) == -(-sum(map(len, documents)) // raw)
    for row in rows:
        assert row["inputs"][-1] == row["targets"][-1] == 1
        assert len(row["inputs"]) <= lengths["inputs"]
        assert len(row["targets"]) <= lengths["targets"]
    model_rows = seqio.EncDecFeatureConverter(pack=False)(dataset, lengths)
    assert next(model_rows.as_numpy_iterator())["encoder_input_tokens"].shape == (64,)
    # The positions of MASS are there for whoever reads them, without that of the EOS.
    assert ("targets_positions" in rows[0]) == isinstance(objective, objectives.MASS)
    if "targets_positions" in rows[0]:
        places = rows[0]["targets_positions"]
        assert len(places) + 1 == len(rows[0]["targets"]) and (np.diff(places) == 1).all()


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
    made.train_from_iterator(TEXTS, trainer)
    made.add_special_tokens(["<|endoftext|>"])
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    made.save(str(path))
    return str(path)


def test_a_tokenizer_json_is_a_seqio_vocabulary(gpt2_file):
    ours = TokenizerVocabulary(gpt2_file, extra_ids=4)
    theirs = ours.seqio()
    size = ours.vocab_size
    assert isinstance(theirs, seqio.Vocabulary)
    assert theirs == TokenizerVocabulary(gpt2_file, extra_ids=4).seqio()
    assert (theirs.vocab_size, theirs.extra_ids, theirs.eos_id) == (size, 4, size - 5)
    assert from_seqio.vocabulary_from_seqio(theirs) == ours
    for text in [*TEXTS, "Oh!"]:
        ids = ours.encode(text)
        assert theirs.encode(text) == ids
        assert theirs.encode_tf(tf.constant(text)).numpy().tolist() == ids
        if "<extra" not in text:
            rows = np.array([[*ids, size - 5, 7], [*ids, size - 5, 0]], np.int32)
            texts = theirs.decode_tf(tf.constant(rows)).numpy()
            assert [t.decode() for t in texts] == [theirs.decode(row) for row in rows] == [text] * 2


@pytest.mark.parametrize(
    "objective", [None, BART, objectives.MASS(mask_share=0.0, random_share=0.0)]
)
def test_an_exclamation_mark_survives_from_text_to_batch_and_back(tmp_path, gpt2_file, objective):
    vocabulary = TokenizerVocabulary(gpt2_file, extra_ids=4)
    text = "!Oh! no!! Wait!"
    task = texts_task(tmp_path, "seqio_exclaiming", [text], objective=objective)
    task = task.with_vocabulary(vocabulary)
    cache = data.cache_task(task, tmp_path / "cache", num_shards=1, num_workers=1, progress=False)
    ids = vocabulary.encode(text)
    assert 0 in ids and vocabulary.decode(ids) == text
    assert cache.tokens["train"] == {"targets": len(ids)}
    batch_format = "prefix_language_model" if objective is None else "encoder_decoder"
    config = data.DatasetConfig(
        task, {name: 40 for name in task.output_features}, tmp_path / "cache", batch_size=1
    )
    (found,) = data.open_evaluation(config, batch_format=batch_format)
    batch = {name: rows[0] for name, rows in found.batch.items()}
    *targets, end = batch["decoder_target_tokens"][batch["decoder_loss_weights"] == 1].tolist()
    assert end == vocabulary.eos_id
    if isinstance(objective, objectives.MASS):
        # Nothing is masked here, so the encoder reads the text.
        *inputs, end = batch["encoder_input_tokens"][batch["encoder_segment_ids"] == 1].tolist()
        assert end == vocabulary.eos_id and vocabulary.decode(inputs) == text
        assert targets == [inputs[i] for i in batch["decoder_positions"][: len(targets)]]
    else:
        assert vocabulary.decode(targets) == text


def write_cache(task, root):
    """What seqio's tool writes for one split, in one shard."""
    made = task.seqio()
    folder = root / seqio.get_task_dir_from_name(task.cache_name)
    folder.mkdir(parents=True)
    dataset = made.preprocess_precache(made.source.get_dataset("train", shuffle=False))
    examples = list(dataset.as_numpy_iterator())
    with tf.io.TFRecordWriter(str(folder / "train.tfrecord-00000-of-00001")) as writer:
        for example in examples:
            writer.write(seqio.dict_to_tfexample(example).SerializeToString())
    features = {
        name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}
        for name, spec in dataset.element_spec.items()
    }
    info = {"num_shards": 1, "features": features, "seqio_version": "0.0.20"}
    (folder / "info.train.json").write_text(json.dumps(info))
    (folder / "stats.train.json").write_text(json.dumps({"examples": len(examples)}))
    (folder / "COMPLETED").write_text("")


def test_tasks_that_share_a_cache_read_it_through_seqio(tmp_path):
    plain = texts_task(tmp_path, "seqio_shared_text", ["one", "two!"])
    lm = tasks.unsupervised(
        "seqio_shared_lm",
        plain.source,
        objective=objectives.CausalLM(),
        cache_name="seqio_shared_text",
    )
    assert lm.fingerprint() == plain.fingerprint()
    write_cache(plain, tmp_path / "cache")
    (tmp_path / "documents.txt").unlink()
    with seqio.test_utils.mock.patch.object(
        seqio.utils, "_GLOBAL_CACHE_DIRECTORIES", [str(tmp_path / "cache")]
    ):
        dataset = lm.seqio().get_dataset(
            {"targets": 5}, split="train", shuffle=False, use_cached=True
        )
        rows = [e["targets"].tolist() for e in dataset.as_numpy_iterator()]
    assert [token for row in rows for token in row].count(1) == 2
    assert len(rows[0]) == 5


def test_text_to_text_keeps_its_text_and_answers_beside_the_ids(tmp_path):
    with tfds.testing.mock_data(num_examples=3):
        dataset = (
            tasks.get_mixture_or_task("squad")
            .seqio()
            .get_dataset(
                {"inputs": 1000, "targets": 1000},
                split="validation",
                shuffle=False,
                try_in_mem_cache=False,
            )
        )
        example = next(dataset.as_numpy_iterator())
    text = example["inputs_pretokenized"].decode()
    assert text.startswith("question: ") and " context: " in text
    assert example["inputs"].tolist() == [*vocabularies.ByteVocabulary().encode(text), 1]
    assert example["answers"].ndim == 1


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("glue_cola", "cola sentence: "),
        ("glue_sst2", "sst2 sentence: "),
        ("glue_mnli", "mnli hypothesis: "),
        ("glue_stsb", "stsb sentence1: "),
        ("wmt_t2t_ende", "translate English to German: "),
        ("wmt16_enro", "translate English to Romanian: "),
        ("cnn_dailymail", "summarize: "),
    ],
)
def test_declared_tfds_tasks_run_on_mock_data(name, begins):
    task = tasks.get_mixture_or_task(name)
    with tfds.testing.mock_data(num_examples=4):
        rows = list(task.examples("validation"))
        made = task.seqio()
        dataset = made.get_dataset(
            LENGTHS, split="validation", shuffle=False, try_in_mem_cache=False
        )
        examples = list(dataset.as_numpy_iterator())
    assert len(rows) == len(examples) == 4
    for row, example in zip(rows, examples, strict=True):
        assert row["inputs"].startswith(begins)
        assert example["inputs_pretokenized"].decode() == row["inputs"]
        assert example["targets_pretokenized"].decode() == row["targets"]
        assert example["inputs"][-1] == 1 and len(example["inputs"]) <= 64
    labels = getattr(task.postprocessor, "labels", None)
    if labels:
        assert {row["targets"] for row in rows} <= {*labels, "<unk>"}
        assert made.postprocess_fn(labels[1], example={}, is_target=False) == 1
    assert made.metric_fns == list(task.metric_fns)


def test_the_glue_mixture_is_a_seqio_mixture():
    mixture = tasks.get_mixture_or_task("glue")
    made = mixture.seqio()
    assert made.get_rate(seqio.get_mixture_or_task("glue_cola")) == 8551
    assert "glue_wnli" not in {task.name for task in made.tasks}


# -- What a user's own module registers with seqio ------------------------------------------

BYTES = seqio.ByteVocabulary(extra_ids=10)


def add_user_task(name, *preprocessors, features=("inputs", "targets"), vocabulary=BYTES):
    def rows(split, shuffle_files, seed=None):
        rows = {"inputs": ["reverse ab", "reverse xyz"], "targets": ["ba", "zyx"]}
        return tf.data.Dataset.from_tensor_slices({key: rows[key] for key in features})

    seqio.TaskRegistry.add(
        name,
        source=seqio.FunctionDataSource(rows, splits=["train"]),
        output_features={key: seqio.Feature(vocabulary) for key in ("inputs", "targets")},
        preprocessors=list(preprocessors),
        metric_fns=[metrics.exact_match],
    )
    return tasks.get_mixture_or_task(name)


def test_a_users_seqio_task_is_found_and_wrapped():
    task = add_user_task(
        "user_task",
        seqio.preprocessors.tokenize,
        seqio.CacheDatasetPlaceholder(),
        functools.partial(seqio.preprocessors.append_eos_after_trim),
    )
    assert task.output_features["inputs"].vocabulary == vocabularies.ByteVocabulary(10)
    assert task.output_features["targets"].add_eos
    assert task.objective({}) is None and not task.source_is_local
    assert list(task.examples("train"))[1] == {"inputs": "reverse xyz", "targets": "zyx"}
    assert task.metric_fns[0](["a"], ["a"]) == {"exact_match": 100}
    assert task.fingerprint() == tasks.get_mixture_or_task("user_task").fingerprint()


def test_a_users_task_may_use_our_objective():
    task = add_user_task(
        "user_spans",
        functools.partial(seqio.preprocessors.tokenize, copy_pretokenized=False),
        seqio.CacheDatasetPlaceholder(),
        ApplyObjective(objectives.SpanCorruption()),
        seqio.preprocessors.append_eos_after_trim,
        features=("targets",),
    )
    specs = {name: f.vocabulary.spec() for name, f in task.output_features.items()}
    assert task.objective(specs).first_sentinel == 268
    assert task.cached_features == ("targets",)


def test_a_declaration_says_what_training_needs_without_the_module():
    task = add_user_task(
        "user_declared",
        functools.partial(seqio.preprocessors.tokenize, copy_pretokenized=False),
        seqio.CacheDatasetPlaceholder(),
        ApplyObjective(objectives.SpanCorruption(0.3, 5.0)),
        seqio.preprocessors.append_eos_after_trim,
        features=("targets",),
    )
    known = manifest.from_json(json.loads(json.dumps(manifest.to_json(task))))
    assert known.name == known.cache_name == "user_declared"
    assert dict(known.output_features) == dict(task.output_features)
    assert known.fingerprint() == task.fingerprint()
    assert known.learned == objectives.SpanCorruption(0.3, 5.0)
    assert manifest.to_json(tasks.get_mixture_or_task("stdlib_lm")) is None
    with pytest.raises(TaskError, match="name it by --module_import"):
        known.seqio()


@pytest.mark.parametrize(
    "objective", [BART, objectives.MASS(span_share=0.4), objectives.CausalLM()]
)
def test_a_declaration_keeps_what_an_objective_is_made_of(objective):
    name = f"user_{type(objective).__name__}"
    task = add_user_task(
        name,
        functools.partial(seqio.preprocessors.tokenize, copy_pretokenized=False),
        seqio.CacheDatasetPlaceholder(),
        ApplyObjective(objective),
        seqio.preprocessors.append_eos_after_trim,
        features=("targets",),
    )
    known = manifest.from_json(json.loads(json.dumps(manifest.to_json(task))))
    assert known.learned == objective
    assert known.positioned == task.positioned == getattr(objective, "positioned", ())


def test_a_declaration_keeps_a_tokenizer_json(gpt2_file):
    vocabulary = TokenizerVocabulary(gpt2_file, extra_ids=4, mask_token="e")
    task = add_user_task(
        "user_tokenizer",
        functools.partial(seqio.preprocessors.tokenize, copy_pretokenized=False),
        seqio.CacheDatasetPlaceholder(),
        ApplyObjective(BART),
        seqio.preprocessors.append_eos_after_trim,
        features=("targets",),
        vocabulary=vocabulary.seqio(),
    )
    assert task.output_features["targets"].vocabulary == vocabulary
    known = manifest.from_json(json.loads(json.dumps(manifest.to_json(task))))
    assert known.output_features["targets"].vocabulary == vocabulary


def test_a_task_without_placeholder_is_cached_whole_but_for_eos():
    task = add_user_task(
        "user_whole", seqio.preprocessors.tokenize, seqio.preprocessors.append_eos_after_trim
    )
    made = task.seqio()
    dataset = made.preprocess_precache(made.source.get_dataset("train", shuffle=False))
    assert next(dataset.as_numpy_iterator())["targets"].tolist() == [101, 100]
    assert task.output_features["targets"].add_eos


def test_eos_of_its_own_is_not_added_twice():
    task = add_user_task("user_eos", seqio.preprocessors.tokenize_and_append_eos)
    assert not task.output_features["targets"].add_eos


def test_a_step_after_the_cache_that_needs_tensorflow_is_named():
    with pytest.raises(TaskError, match="'truncate_inputs_left' follows CacheDatasetPlaceholder"):
        add_user_task(
            "user_other",
            seqio.preprocessors.tokenize,
            seqio.CacheDatasetPlaceholder(),
            seqio.preprocessors.truncate_inputs_left,
        )


def test_a_users_mixture_keeps_its_rates():
    for name in ("user_a", "user_b"):
        add_user_task(name, seqio.preprocessors.tokenize, seqio.CacheDatasetPlaceholder())
    seqio.MixtureRegistry.add("user_mixture", [("user_a", 3), ("user_b", 1.5)])
    mixture = tasks.get_mixture_or_task("user_mixture")
    assert [(task.name, rate) for task, rate in mixture.tasks] == [("user_a", 3.0), ("user_b", 1.5)]


def test_a_users_name_is_not_taken_away(tmp_path):
    add_user_task("user_taken", seqio.preprocessors.tokenize)
    with pytest.raises(TaskError, match="registered its own 'user_taken'"):
        texts_task(tmp_path, "user_taken", ["one"]).seqio()


def test_every_declared_task_can_be_registered():
    from tasks import seqio_tasks

    seqio_tasks.register_all()
    assert set(tasks.names()) <= {*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()}


def test_a_template_error_reaches_the_user_of_a_dataset(tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_text("a\t2\n")
    source = sources.TabSeparated(files={"train": str(path)}, columns=("text", "label"))
    form = forms.Template("{text}", "{label}", words={"label": {"0": "no", "1": "yes"}})
    task = tasks.text_to_text("seqio_bad_label", source, form)
    dataset = task.seqio().get_dataset(None, split="train", shuffle=False)
    with pytest.raises(Exception, match="column 'label' is '2', which has no word"):
        next(dataset.as_numpy_iterator())
