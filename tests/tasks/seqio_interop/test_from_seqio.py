"""What a user's own module registers with seqio, found and declared to training."""

import functools
import json

import pytest
import seqio
import tensorflow as tf

import tasks
from tasks import manifest, metrics, objectives, vocabularies
from tasks.errors import TaskError
from tasks.seqio_interop.preprocessors import ApplyObjective
from tasks.seqio_interop.vocabularies import from_seqio
from tasks.tokenizer_json import TokenizerVocabulary

BYTES = seqio.ByteVocabulary(extra_ids=10)


BART = objectives.Denoising((objectives.SentencePermutation(), objectives.TextInfilling()))


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
    with pytest.raises(TaskError, match="name it with --module_import"):
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
    assert mixture.seqio() is seqio.get_mixture_or_task("user_mixture")
    known = manifest.from_json(json.loads(json.dumps(manifest.to_json(mixture))))
    assert [(task.name, rate) for task, rate in known.tasks] == [("user_a", 3.0), ("user_b", 1.5)]


def test_a_users_name_is_not_taken_away(texts_task):
    add_user_task("user_taken", seqio.preprocessors.tokenize)
    with pytest.raises(TaskError, match="'user_taken' is registered with seqio by a module"):
        texts_task("user_taken", ["one"]).seqio()


def test_what_a_preprocessor_is_given_is_in_the_fingerprint():
    def fingerprint(name, key_map):
        rekeyed = functools.partial(seqio.preprocessors.rekey, key_map=key_map)
        seqio.TaskRegistry.remove(name)
        return add_user_task(name, rekeyed, seqio.preprocessors.tokenize).fingerprint()

    one_way = {"inputs": "inputs", "targets": "targets"}
    other_way = {"inputs": "targets", "targets": "inputs"}
    assert fingerprint("user_rekeyed", one_way) == fingerprint("user_rekeyed", dict(one_way))
    assert fingerprint("user_rekeyed", one_way) != fingerprint("user_rekeyed", other_way)


def test_an_object_as_preprocessor_is_its_class_and_fields():
    class Most:
        def __init__(self, most):
            self.most, self.then = most, functools.partial(min, most)

        def __call__(self, dataset):
            return dataset.take(self.most)

    def fingerprint(most):
        seqio.TaskRegistry.remove("user_most")
        return add_user_task("user_most", Most(most), seqio.preprocessors.tokenize).fingerprint()

    assert fingerprint(1) == fingerprint(1) != fingerprint(2)


def test_options_of_sentencepiece_are_kept(tmp_path):
    """A file and a number of sentinels are not all that ids depend on."""
    import sentencepiece

    text, prefix = tmp_path / "text.txt", tmp_path / "small"
    text.write_text("alpha beta gamma\n" * 50, encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(prefix), vocab_size=30, hard_vocab_limit=False,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
    )  # fmt: skip
    path = f"{prefix}.model"
    plain = seqio.SentencePieceVocabulary(path, extra_ids=10)
    upwards = seqio.SentencePieceVocabulary(path, extra_ids=10, reverse_extra_ids=False)
    ours = [from_seqio(one) for one in (plain, upwards)]
    assert type(ours[0]) is vocabularies.SentencePieceVocabulary
    for vocabulary, own in zip((plain, upwards), ours, strict=True):
        for written in ("<extra_id_0>", "alpha beta"):
            assert own.encode(written) == vocabulary.encode(written)
    assert ours[0].encode("<extra_id_0>") != ours[1].encode("<extra_id_0>")
    assert ours[0].spec() != ours[1].spec()
