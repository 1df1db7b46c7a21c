"""Tasks and vocabularies as seqio's own: equal ids, datasets, caches."""

import functools
import json

import numpy as np
import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

import tasks
from t5x_like import data
from tasks import forms, objectives, sources, vocabularies
from tasks.errors import TaskError
from tasks.seqio_interop.vocabularies import from_seqio as from_seqio_vocabulary
from tasks.tokenizer_json import TokenizerVocabulary

TEXTS = ["def f(x):\n    return x", "Größe <extra_id_0> und 12.5 €", "", "tab\tand  spaces  "]
LENGTHS = {"inputs": 64, "targets": 32}


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
    assert from_seqio_vocabulary(theirs) == ours
    rng = np.random.default_rng(0)
    for _ in range(20):
        ids = rng.integers(2, ours.vocab_size, 12).tolist()
        assert ours.decode(ids) == theirs.decode(ids)


@pytest.mark.slow
def test_a_text_task_gives_seqio_documents_with_eos(texts_task):
    task = texts_task("seqio_documents", ["one", "two!"])
    task.seqio()
    dataset = seqio.get_mixture_or_task("seqio_documents").get_dataset(
        {"targets": 4}, split="train", shuffle=False
    )
    # b"o" is 111 + 3. Trimmed to three bytes, then EOS.
    assert [e["targets"].tolist() for e in dataset.as_numpy_iterator()] == [
        [114, 113, 104, 1],
        [119, 122, 114, 1],
    ]


def test_seqio_keeps_the_end_of_what_says_there_what_is_asked(tmp_path):
    rated = {"context": "What's up?", "response": "fine.", "ratings": {"SAFE": 1}}
    (tmp_path / "rated.jsonl").write_text(json.dumps(rated))
    lines = sources.JsonLines(
        files={"train": str(tmp_path / "rated.jsonl")}, columns=("context", "response", "ratings")
    )
    task = tasks.rated_responses("seqio_rated", sources.RatedResponses(lines))
    lengths = {"inputs": 12, "targets": 4}
    rows = task.seqio().get_dataset(lengths, split="train", shuffle=False).as_numpy_iterator()
    decode = vocabularies.ByteVocabulary().decode
    assert [(decode(row["inputs"].tolist()), row["targets"].tolist()) for row in rows] == [
        ("up? RESPONSE", [35, 105, 108, 1]),
        ("E fine. SAFE", [35, 52, 1]),
    ]


def test_causal_lm_is_one_stream_with_eos_between_documents(texts_task):
    task = texts_task("seqio_lm", ["one", "two!"], objective=objectives.CausalLM())
    dataset = task.seqio().get_dataset({"targets": 5}, split="train", shuffle=False)
    vocabulary = vocabularies.ByteVocabulary()
    stream = [*vocabulary.encode("one"), 1, *vocabulary.encode("two!"), 1]
    assert [e["targets"].tolist() for e in dataset.as_numpy_iterator()] == [stream[:5], stream[5:]]


def test_span_corruption_through_seqio_fills_its_lengths_and_follows_the_seed(texts_task):
    documents = ["".join(chr(97 + i % 26) for i in range(50 + n)) for n in range(40)]
    task = texts_task("seqio_spans", documents, objective=objectives.SpanCorruption())
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


@pytest.mark.slow
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
def test_every_objective_gives_rows_through_seqio(texts_task, objective, lengths):
    documents = [f"A sentence of {n} words. And one of {n + 1}. And so on." for n in range(40)]
    task = texts_task("seqio_objective", documents, objective=objective)
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


def test_rows_with_hidden_tokens_go_through_seqio_and_pairs_are_refused(texts_task):
    """Documents end with EOS inside a row; none follows the row's own [SEP]."""
    documents = [f"Sentence {n}." for n in range(40)]
    task = texts_task("seqio_hidden", documents, objective=objectives.MaskedLM())
    dataset = task.seqio().get_dataset({"targets": 64}, split="train", shuffle=False, seed=3)
    rows = list(dataset.as_numpy_iterator())
    assert len(rows) == -(-sum(len(d) + 1 for d in documents) // 62)
    for row in rows:
        assert row["targets"][0] == 382 and row["targets"][-1] == 381 and 1 in row["targets"]
        assert row["loss_weights"].sum() == max(1, round(0.15 * row["inputs"].size))
    task = texts_task("seqio_pairs", documents, objective=objectives.SentencePairs())
    with pytest.raises(TaskError, match=r"SentencePairs compares .* use `t5x-like train`"):
        task.seqio().get_dataset({"targets": 64}, split="train", shuffle=False, seed=3)
    task = texts_task("seqio_counted", documents, objective=objectives.Cooccurrences())
    with pytest.raises(TaskError, match=r"Cooccurrences counts .* use `t5x-like train`"):
        task.seqio().get_dataset({"targets": 64}, split="train", shuffle=False, seed=3)


def test_a_tokenizer_json_is_a_seqio_vocabulary(gpt2_file):
    ours = TokenizerVocabulary(gpt2_file, extra_ids=4)
    theirs = ours.seqio()
    size = ours.vocab_size
    assert isinstance(theirs, seqio.Vocabulary)
    assert theirs == TokenizerVocabulary(gpt2_file, extra_ids=4).seqio()
    assert (theirs.vocab_size, theirs.extra_ids, theirs.eos_id) == (size, 4, size - 5)
    assert from_seqio_vocabulary(theirs) == ours
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
def test_an_exclamation_mark_survives_from_text_to_batch_and_back(
    texts_task, tmp_path, gpt2_file, objective
):
    vocabulary = TokenizerVocabulary(gpt2_file, extra_ids=4)
    text = "!Oh! no!! Wait!"
    task = texts_task("seqio_exclaiming", [text], objective=objective)
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


def test_tasks_that_share_a_cache_read_it_through_seqio(texts_task, tmp_path):
    plain = texts_task("seqio_shared_text", ["one", "two!"])
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


@pytest.mark.parametrize(
    ("name", "pair", "labels"),
    [
        ("cola", False, 2),
        ("sst2", False, 2),
        ("mrpc", True, 2),
        ("qqp", True, 2),
        ("mnli", True, 3),
        ("mnli_mismatched", True, 3),
        ("qnli", True, 2),
        ("rte", True, 2),
        ("wnli", True, 2),
        ("stsb", True, 0),
    ],
)
def test_glue_for_heads_runs_on_mock_data(name, pair, labels):
    task = tasks.get_mixture_or_task(f"glue_{name}_labels")
    with tfds.testing.mock_data(num_examples=4):
        dataset = task.seqio().get_dataset(
            {"inputs": 32}, split="validation", shuffle=False, try_in_mem_cache=False
        )
        examples = list(dataset.as_numpy_iterator())
    assert len(examples) == 4 and len(task.label_names) == labels
    for example in examples:
        # Bytes have sentinels 382 and 381 for [CLS] and [SEP].
        row = example["inputs"].tolist()
        assert row[0] == 382 and row[-1] == 381 and row.count(381) == 1 + pair and len(row) <= 32
        assert example["token_types"].tolist() == [0] * (row.index(381) + 1) + [1] * (
            len(row) - row.index(381) - 1
        )
        assert example["label"].shape == ()
        assert example["label"].dtype == (np.int32 if labels else np.float32)
        assert not labels or -1 <= example["label"] < labels


def test_qnlis_ranking_reads_the_candidates_of_a_question_wherever_they_stand():
    rows = {
        "question": ["Who?", "When?", "Who?", "When?"],
        "sentence": ["Ann.", "Then.", "Here.", "So."],
        "label": [0, 1, 1, 1],
    }
    slices = lambda *_, **__: tf.data.Dataset.from_tensor_slices(rows)  # noqa: E731
    task = tasks.get_mixture_or_task("glue_qnli_ranking")
    with tfds.testing.mock_data(as_dataset_fn=slices):
        dataset = task.seqio().get_dataset(
            {"inputs": 32}, split="validation", shuffle=False, try_in_mem_cache=False
        )
        (example,) = dataset.as_numpy_iterator()
    # [CLS] Who? [SEP] and the candidate, in either order.
    decode = vocabularies.ByteVocabulary().decode
    texts = [decode(example[name][6:-1]) for name in ("inputs", "further_inputs")]
    assert sorted(texts) == ["Ann.", "Here."] and texts[example["label"]] == "Ann."
    assert example["further_sizes"].tolist() == [example["further_inputs"].size]


def rows_of(task, lengths, examples):
    """What a task makes of examples in the place of its dataset's, as bytes."""

    def tensors(builder, example):
        encoded = builder.info.features.encode_example(example)
        lists = {name for name, value in example.items() if isinstance(value, list)}
        return {
            name: tf.ragged.constant(example[name]) if name in lists else tf.constant(value)
            for name, value in encoded.items()
        }

    def dataset(builder, *_, **__):
        parts = [tf.data.Dataset.from_tensors(tensors(builder, one)) for one in examples]
        return functools.reduce(tf.data.Dataset.concatenate, parts)

    with tfds.testing.mock_data(as_dataset_fn=dataset):
        made = task.seqio().get_dataset(
            lengths, split="validation", shuffle=False, try_in_mem_cache=False
        )
        return list(made.as_numpy_iterator())


def spelled(row):
    """[CLS] and [SEP] are the sentinels 382 and 381, and 0 pads."""
    names = {382: "[", 381: "|", 0: ""}
    return "".join(names[i] if i in names else chr(i - 3) for i in row.tolist())


def test_copa_for_heads_asks_for_cause_or_result():
    example = {"premise": "It rained.", "choice1": "Wet.", "choice2": "Dry.", "idx": 0}
    task = tasks.get_mixture_or_task("copa")
    examples = [
        {**example, "question": "effect", "label": "choice1"},
        {**example, "question": "cause", "label": -1},
    ]
    first, second = rows_of(task, {"inputs": 64, "choices": 2}, examples)
    assert list(map(spelled, first["inputs"])) == [
        "[It rained.|What happened as a RESULT? Wet.|",
        "[It rained.|What happened as a RESULT? Dry.|",
    ]
    assert first["label"] == 0 and second["label"] == -1
    assert spelled(second["inputs"][1]) == "[It rained.|What was the CAUSE of this? Dry.|"


def test_a_question_of_race_is_a_row_of_its_own_with_its_article():
    article = {
        "article": "Ann slept.",
        "example_id": "high1.txt",
        "questions": ["Who slept?", "Ann _ well."],
        "options": [["Ann", "Bob", "Eve", "Tom"], ["ate", "slept", "sang", "ran"]],
        "answers": ["A", "B"],
    }
    task = tasks.get_mixture_or_task("race_high")
    first, second = rows_of(task, {"inputs": 32, "choices": 4}, [article])
    assert list(map(spelled, first["inputs"])) == [
        f"[Ann slept.|Who slept? {name}|" for name in ("Ann", "Bob", "Eve", "Tom")
    ]
    assert [spelled(row) for row in second["inputs"]][1] == "[Ann slept.|Ann slept well.|"
    assert (first["label"], second["label"]) == (0, 1)
    assert first["choices"].tolist() == [27] * 4 and first["token_types"].shape == (4, 27)


def test_the_race_mixture_has_both_parts_in_proportion_to_their_questions():
    assert {task.name: rate for task, rate in tasks.get_mixture_or_task("race").tasks} == {
        "race_middle": 25_421,
        "race_high": 62_445,
    }


def test_words_are_tokenized_one_by_one_and_keep_their_tags(tmp_path):
    (tmp_path / "x.conll").write_text("New B-x\nYork I-x\nis O\n\nbig O\n")
    files = {"validation": str(tmp_path / "x.conll")}
    task = tasks.tagged(
        "seqio_tags", sources.ConllColumns(files=files), tasks.bio_labels(["x"]), lists=True
    )
    dataset = task.seqio().get_dataset({"inputs": 8}, split="validation", shuffle=False)
    first, second = dataset.as_numpy_iterator()
    assert spelled(first["inputs"]) == "[New Yo|" and first["tags"].tolist() == [1, 2, 0]
    # The space before a word is the first of its bytes.
    assert first["word_places"].tolist() == [1, 4, -1]
    assert spelled(second["inputs"]) == "[big|" and second["tags"].tolist() == [0]


def test_the_glue_mixture_is_a_seqio_mixture():
    mixture = tasks.get_mixture_or_task("glue")
    made = mixture.seqio()
    assert made is mixture.seqio() is seqio.get_mixture_or_task("glue")
    assert made.get_rate(seqio.get_mixture_or_task("glue_cola")) == 8551
    assert "glue_wnli" not in {task.name for task in made.tasks}


def test_the_same_name_may_come_to_mean_another_task_or_mixture(texts_task):
    first = texts_task("seqio_renewed", ["one"])
    assert first.seqio() is first.seqio()
    other = texts_task("seqio_renewed", ["one"], objective=objectives.PrefixLM())
    assert set(other.seqio().output_features) == {"inputs", "targets"}
    for rate in (1.0, 3.0):
        made = tasks.Mixture("seqio_renewed_mixture", ((other, rate),)).seqio()
        assert made.get_rate(seqio.get_mixture_or_task("seqio_renewed")) == rate


def test_every_declared_task_can_be_registered():
    from tasks.seqio_interop import register_all

    register_all.register_all()
    there = {*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()}
    # Benchmarks that TFDS does not have are read from a user's files alone.
    text = {"wikitext2", "wikitext103", "ptb", "text8", "enwik8", "pg19"}
    text |= {"wikitext2_tokenized", "wikitext103_tokenized", "ptb_detokenized"}
    assert set(tasks.names()) - there == {"siqa", "mmlu", "cbt_cn", "cbt_ne", *text}


def test_a_template_error_reaches_the_user_of_a_dataset(tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_text("a\t2\n")
    source = sources.TabSeparated(files={"train": str(path)}, columns=("text", "label"))
    form = forms.Template("{text}", "{label}", words={"label": {"0": "no", "1": "yes"}})
    task = tasks.text_to_text("seqio_bad_label", source, form)
    dataset = task.seqio().get_dataset(None, split="train", shuffle=False)
    with pytest.raises(Exception, match="column 'label' is '2', which has no word"):
        next(dataset.as_numpy_iterator())


@pytest.mark.parametrize("special_tokens", [None, "text", "ids"])
def test_spelled_out_special_tokens_are_counted_and_stay_text_in_a_users_files(
    tmp_path, special_tokens, caplog
):
    lines = ["  if one:\n    return <extra_id_0>", "two <extra_id_1> three <extra_id_2>", "four"]
    path = tmp_path / "own.txt"
    path.write_text("\n\n".join(lines * 9))
    vocabularies.train_sentencepiece(lines * 9, str(tmp_path / "own.model"), vocab_size=28)
    vocabulary = vocabularies.SentencePieceVocabulary(str(tmp_path / "own.model"), extra_ids=10)
    task = tasks.unsupervised(
        f"own_{special_tokens}",
        sources.TextFiles(files={"train": str(path)}, separator="\n\n"),
        vocabulary=vocabulary,
        special_tokens=special_tokens,
    )
    made = task.seqio()
    rows = made.source.get_dataset("train", shuffle=False)
    with caplog.at_level("WARNING"):
        examples = list(made.preprocess_precache(rows).take(3).as_numpy_iterator())
    assert [int(e["targets_spelled_special"]) for e in examples] == [1, 2, 0]
    wanted = vocabulary.encode if special_tokens == "ids" else vocabulary.encode_as_text
    assert [e["targets"].tolist() for e in examples] == [wanted(line) for line in lines]
    assert [max(e["targets"]) >= 28 for e in examples[1:2]] == [special_tokens == "ids"]
    # Said once: this vocabulary has no piece for a line end.
    assert caplog.text.count("loses line ends and indentation") == 1
    assert "t5x-like vocab --byte_fallback" in caplog.text


def test_published_corpora_keep_seqios_reading_of_special_tokens():
    corpus = tasks.get_mixture_or_task("stdlib_text")
    own = tasks.unsupervised("own", sources.TextFiles(files={"train": "x.txt"}))
    held = tasks.unsupervised("held", sources.HoldOut(own.source))
    assert corpus.spelled_special_tokens == "ids"
    assert own.spelled_special_tokens == held.spelled_special_tokens == "text"
    with pytest.raises(TaskError, match="special_tokens 'tokens': 'text', 'ids' or None"):
        tasks.unsupervised("own", own.source, special_tokens="tokens")
