"""Every task file builds its task, from gin alone."""

import dataclasses
import pickle
from pathlib import Path

import gin
import numpy as np
import pytest

import tasks
from tasks import objectives, sources
from tasks.errors import TaskError

GIN_CONFIGS = Path(__file__).parents[2] / "gin_configs"
# Of words, which bytes are not, with the vocabulary of each.
OF_WORDS = {
    "context_windows": "words",
    "cooccurrences": "words",
    "spelled_words": "spelled_words",
}
OBJECTIVES = sorted(
    {p.stem for p in (GIN_CONFIGS / "tasks/objectives").glob("*.gin")} - OF_WORDS.keys()
)
INCLUDED = {"registered", "unsupervised", "text_to_text", "causal_lm", "hidden_targets", "labelled",
            "classification", "regression", "tagging", "multiple_choice", "spans",
            "spans_unanswerable", "options", "benchmark", "defaults", "conversations",
            "comparisons"}  # fmt: skip
FILES = sorted(p.stem for p in (GIN_CONFIGS / "tasks").glob("*.gin") if p.stem not in INCLUDED)

EN, DE = "A house.\nTwo cats.\n", "Ein Haus.\nZwei Katzen.\n"
COLA = "gj04\t1\t\tThey drank the pub dry.\ngj04\t0\t*\tThey drank the pub.\n"
# As the released files are: a number, where the caption is from, the sentence and its endings.
SWAG = (
    ",video-id,fold-ind,startphrase,sent1,sent2,gold-source,ending0,ending1,ending2,ending3,label\n"
    '0,anet_1,7,He sits. He,He sits.,He,gold,eats.,"is, as it were, a chair.",sings.,gets up.,3\n'
)
_OWN_TSV = {"TRAIN_FILES": "cola.tsv", "VALIDATION_FILES": "cola.tsv",
            "COLUMNS": ["source", "label", "mark", "sentence"], "TEXTS": ["sentence"]}  # fmt: skip
_OWN_CSV = {"TRAIN_FILES": "x.csv", "VALIDATION_FILES": "x.csv", "COLUMNS": ["a", "b", "score"],
            "TEXTS": ["a", "b"], "LABEL": "score"}  # fmt: skip
_OWN_JSONL = {"TRAIN_FILES": "l.jsonl", "VALIDATION_FILES": "l.jsonl",
              "COLUMNS": ["text", "label"], "TEXTS": ["text"]}  # fmt: skip
_OWN_TAGS = {"TRAIN_FILES": "t.tsv", "VALIDATION_FILES": "t.tsv", "ENTITIES": ["x", "y"]}
_OWN_CHOICES = {"TRAIN_FILES": "c.tsv", "VALIDATION_FILES": "c.tsv", "CONTEXT": "{text}",
                "COLUMNS": ["text", "a", "b", "label"], "OPTIONS": ["a", "b"]}  # fmt: skip
_OWN_SPANS = {"VALIDATION_FILES": "q.jsonl"}
SQUAD = """{"data": [{"title": "T", "paragraphs": [{"context": "It was me.", "qas": [
  {"id": "7", "question": "Who?", "answers": [{"text": "me", "answer_start": 7}]},
  {"id": "8", "question": "Why?", "answers": [], "is_impossible": true}]}]}]}"""
REQUIRED = {
    **{f"stdlib_{name}": {"VOCABULARY_PATH": "words.txt"} for name in OF_WORDS},
    "classification_tsv": {**_OWN_TSV, "LABELS": ["0", "1"]},
    "classification_csv": {**_OWN_CSV, "LABELS": ["4.5", "1"]},
    "classification_jsonl": {**_OWN_JSONL, "LABELS": ["2"]},
    "regression_tsv": _OWN_TSV,
    "regression_csv": _OWN_CSV,
    "regression_jsonl": _OWN_JSONL,
    "ner_conll": {**_OWN_TAGS, "TRAIN_FILES": "x.conll", "VALIDATION_FILES": "x.conll"},
    "tagging_tsv": {**_OWN_TAGS, "COLUMNS": ["words", "tags"]},
    "tagging_csv": {**_OWN_TAGS, "COLUMNS": ["words", "tags"], "TRAIN_FILES": "t.csv"},
    "tagging_jsonl": {**_OWN_TAGS, "TRAIN_FILES": "t.jsonl"},
    "multiple_choice_tsv": _OWN_CHOICES,
    "multiple_choice_csv": {**_OWN_CHOICES, "TRAIN_FILES": "c.csv"},
    "multiple_choice_jsonl": {
        **_OWN_CHOICES,
        "TRAIN_FILES": "c.jsonl",
        "COLUMNS": ["text", "options", "label"],
        "OPTIONS": ["options"],
    },
    "swag": {"TRAIN_FILES": "swag.csv", "VALIDATION_FILES": "swag.csv"},
    "spans_tsv": {
        **_OWN_SPANS,
        "TRAIN_FILES": "q.tsv",
        "COLUMNS": ["question", "context", "answers"],
    },
    "spans_csv": {
        **_OWN_SPANS,
        "TRAIN_FILES": "q.csv",
        "COLUMNS": ["question", "context", "answers", "start"],
        "ANSWER_STARTS": "start",
    },
    "spans_jsonl": {"TRAIN_FILES": "q.jsonl", "VALIDATION_FILES": "q.jsonl"},
    "spans_squad_json": {"TRAIN_FILES": "q.json", "VALIDATION_FILES": "q.json"},
    "spans_held_out": {"TRAIN_FILES": "q.json"},
    "text_files": {"TRAIN_FILES": "one.txt"},
    "perturbed_sentences": {"TRAIN_FILES": "prose.txt"},
    "cloze_questions": {"TRAIN_FILES": "prose.txt"},
    "jsonl": {"TRAIN_FILES": "x.jsonl", "VALIDATION_FILES": "x.jsonl"},
    "prompts_jsonl": {"TRAIN_FILES": "prompts.jsonl", "VALIDATION_FILES": "prompts.jsonl"},
    "parquet": {"TRAIN_FILES": "x.parquet", "VALIDATION_FILES": "x.parquet"},
    "tfds": {"TFDS_NAME": "c4/en:3.1.0"},
    "tsv": {
        "TRAIN_FILES": "cola.tsv",
        "VALIDATION_FILES": ["cola.tsv"],
        "COLUMNS": ["a", "b", "c", "d"],
        "INPUTS": "say {d}",
        "TARGETS": "{b}",
    },
    "options_jsonl": {
        "TRAIN_FILES": "o.jsonl",
        "VALIDATION_FILES": "o.jsonl",
        "COLUMNS": ["goal", "endings", "label"],
        "CONTEXT": "Question: {goal}\nAnswer:",
        "OPTIONS": "endings",
    },
    "chat_jsonl": {"TRAIN_FILES": "chat.jsonl", "VALIDATION_FILES": "chat.jsonl"},
    "comparisons_jsonl": {"TRAIN_FILES": "ranked.jsonl", "VALIDATION_FILES": "ranked.jsonl"},
    "comparisons_dialogues": {"TRAIN_FILES": "pairs.jsonl"},
    "chat_dialogues": {"TRAIN_FILES": "hh.jsonl"},
    "rated_responses_jsonl": {"TRAIN_FILES": "rated.jsonl", "VALIDATION_FILES": "rated.jsonl"},
    "jsonl_text_to_text": {
        "TRAIN_FILES": "x.jsonl",
        "VALIDATION_FILES": "x.jsonl",
        "COLUMNS": ["text"],
        "INPUTS": "say {text}",
        "TARGETS": "{text}",
    },
    "parquet_text_to_text": {
        "TRAIN_FILES": "x.parquet",
        "VALIDATION_FILES": "x.parquet",
        "COLUMNS": ["text"],
        "INPUTS": "say {text}",
        "TARGETS": "{text}",
    },
    "parallel_text": {
        "TRAIN_SOURCE": "x.en",
        "TRAIN_TARGET": "x.de",
        "VALIDATION_SOURCE": "x.en",
        "VALIDATION_TARGET": "x.de",
    },
    "cola_tsv": {"TRAIN_FILES": "cola.tsv", "VALIDATION_FILES": "cola.tsv"},
    "sst2_tsv": {"TRAIN_FILES": "sst2.tsv", "VALIDATION_FILES": "sst2.tsv"},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    contents = {
        "one.txt": "\n\n".join(f"paragraph {i}" for i in range(500)),
        "prose.txt": "\n\n".join(f"The dog number {i} ran to Rome." for i in range(500)),
        "x.jsonl": '{"text": "a"}\n{"text": "b"}\n',
        "x.en": EN,
        "x.de": DE,
        "cola.tsv": COLA,
        "x.csv": '"One, two.","She said ""three"".",4.5\n\nfour,five,1\n',
        "l.jsonl": '{"text": "a", "label": 2}\n',
        "o.jsonl": '{"goal": "To boil an egg", "endings": ["heat it", "ask it"], "label": 0}\n',
        "sst2.tsv": "a fine film\t1\n",
        "x.conll": "New NNP B-x\nYork NNP I-x\n\nis VBZ O\n",
        "t.tsv": "New York\tB-x I-x\n",
        "t.csv": '"New York, too",B-x I-x O\n',
        "t.jsonl": '{"words": ["New", "York"], "tags": ["B-x", "I-x"]}\n',
        "c.tsv": "two\t2\t3\t0\n",
        "c.csv": '"two, or so",2,3,1\n',
        "c.jsonl": '{"text": "two", "options": ["1", "2", "3"], "label": 1}\n',
        "swag.csv": SWAG,
        "q.jsonl": '{"question": "Who?", "context": "It was me.", "answers": ["me"]}\n',
        "q.tsv": "Who?\tIt was me.\tme\n",
        "q.csv": 'Who?,It was me.,me,7\n"Who, now?","Me, and me.","[""Me"", ""me""]","[0, 8]"\n',
        "q.json": SQUAD,
        "chat.jsonl": '{"messages": [{"role": "user", "content": "a"}]}\n',
        "ranked.jsonl": '{"prompt": "a", "completions": ["b", "c"], "ranks": [0, 1]}\n',
        "pairs.jsonl": '{"chosen": "\\n\\nHuman: a", "rejected": "\\n\\nHuman: b"}\n',
        "hh.jsonl": '{"chosen": "\\n\\nHuman: a\\n\\nAssistant: b"}\n',
        "rated.jsonl": '{"context": "a", "response": "b", "ratings": {"SENSIBLE": 1}}\n',
        "words.txt": "the 50\ncat 20\nsat 10\n",
        "prompts.jsonl": '{"prompt": "a"}\n',
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    gin.clear_config()
    gin.add_config_file_search_path(str(GIN_CONFIGS))
    yield tmp_path
    gin.clear_config()


def build(name, *more, **macros):
    """TASK and TASK_FEATURE_LENGTHS of a file, as runs/defaults.gin and the file bind them."""
    default = "from __gin__ import dynamic_registration\nimport tasks\n"
    gin.parse_config(default + "TASK = @tasks.get_mixture_or_task()\n")
    for file in (name, *more):
        gin.parse_config_file(str(GIN_CONFIGS / "tasks" / f"{file}.gin"))
    for macro, value in {**REQUIRED.get(name, {}), **macros}.items():
        gin.parse_config(f"{macro} = {value!r}")
    return gin.query_parameter("TASK/gin.macro.value").scoped_configurable_fn(), (
        gin.query_parameter("TASK_FEATURE_LENGTHS/gin.macro.value")
    )


@pytest.mark.parametrize("name", FILES)
def test_a_task_file_builds_its_task_and_fits_its_lengths(name, folder):
    opening = (GIN_CONFIGS / "tasks" / f"{name}.gin").read_text(encoding="utf-8")
    assert opening.startswith("# ") and f"--gin_file=tasks/{name}.gin" in opening
    found, lengths = build(name)
    assert found.name == name
    for task, _ in found.tasks:
        assert set(lengths) == set(task.output_features)
        specs = {n: f.vocabulary.spec() for n, f in task.output_features.items()}
        objective = task.objective(specs)
        if objective is not None:
            objective.chunk_length(lengths)


def test_text_files_hold_out_a_validation_split(folder):
    task, _ = build("text_files")
    assert isinstance(task.source, sources.HoldOut) and task.splits == ("train", "validation")
    assert len(list(task.examples("train"))) + len(list(task.examples("validation"))) == 500
    assert isinstance(task.learned, objectives.SpanCorruption)


def test_causal_lm_replaces_span_corruption(folder):
    task, lengths = build("jsonl", "causal_lm")
    assert isinstance(task.learned, objectives.CausalLM)
    assert set(lengths) == set(task.output_features) == {"targets"}
    assert list(task.examples("train")) == [{"targets": "a"}, {"targets": "b"}]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_of_its_own_replaces_span_corruption_of_any_text(name, folder):
    opening = (GIN_CONFIGS / "tasks/objectives" / f"{name}.gin").read_text(encoding="utf-8")
    assert opening.startswith("# ") and f"--gin_file=tasks/objectives/{name}.gin" in opening
    task, lengths = build("text_files", f"objectives/{name}")
    stdlib, same_lengths = build(f"stdlib_{name}")
    of_sentences = hasattr(task.learned, "full_stop_ids")
    own = {"full_stop_ids": (13,)} if of_sentences else {}  # lines of source code
    assert stdlib.learned == dataclasses.replace(task.learned, **own) and lengths == same_lengths
    assert not isinstance(task.learned, objectives.SpanCorruption)
    assert stdlib.cache_name == "stdlib_text"
    bound = task.objective({"targets": task.output_features["targets"].vocabulary.spec()})
    piece = 3 + np.arange(bound.chunk_length(lengths), dtype=np.int32) % 247  # one document
    example = {"targets": piece, "other_targets": piece}
    made = bound(example, np.random.default_rng(0))
    sizes = {
        feature: made[feature].size + task.output_features[feature].add_eos for feature in lengths
    }
    assert all(sizes[feature] <= length for feature, length in lengths.items())
    # Nothing is wasted on inputs but what i.i.d. noise varies by.
    longest = "inputs" if "inputs" in lengths else "targets"
    assert sizes[longest] > 0.96 * lengths[longest]


@pytest.mark.parametrize("name", OF_WORDS)
def test_words_with_their_contexts_replace_span_corruption_of_any_text(name, folder):
    words = f"vocabularies/{OF_WORDS[name]}", {"VOCABULARY_PATH": "words.txt"}
    task, lengths = build("text_files", f"objectives/{name}", words[0], **words[1])
    stdlib, same_lengths = build(f"stdlib_{name}")
    assert stdlib.learned == task.learned and lengths == same_lengths
    assert stdlib.cache_name == "stdlib_text"
    vocabulary = task.output_features["targets"].vocabulary
    assert vocabulary.encode("the cat sat") == [3, 4, 5]
    bound = task.objective({"targets": vocabulary.spec()})
    # Less than a row only by what stands around a text.
    assert bound.chunk_length(lengths) >= lengths["targets"] - 2


def test_parallel_text_is_translation(folder):
    task, _ = build("parallel_text")
    assert list(task.examples("train")) == [
        {"inputs": "translate English to German: A house.", "targets": "Ein Haus."},
        {"inputs": "translate English to German: Two cats.", "targets": "Zwei Katzen."},
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("classification_tsv", [{"inputs": "They drank the pub dry.", "label": 1},
                                {"inputs": "They drank the pub.", "label": 0}]),
        ("regression_csv", [
            {"inputs": "One, two.", "inputs_pair": 'She said "three".', "label": 4.5},
            {"inputs": "four", "inputs_pair": "five", "label": 1.0}]),
        ("regression_jsonl", [{"inputs": "a", "label": 2.0}]),
        ("ner_conll", [{"inputs": ["New", "York"], "tags": [1, 2]},
                       {"inputs": ["is"], "tags": [0]}]),
        ("tagging_tsv", [{"inputs": ["New", "York"], "tags": [1, 2]}]),
        ("tagging_csv", [{"inputs": ["New", "York,", "too"], "tags": [1, 2, 0]}]),
        ("tagging_jsonl", [{"inputs": ["New", "York"], "tags": [1, 2]}]),
        ("multiple_choice_tsv", [{"inputs": "two", "choices": ["2", "3"], "label": 0}]),
        ("multiple_choice_csv", [{"inputs": "two, or so", "choices": ["2", "3"], "label": 1}]),
        ("multiple_choice_jsonl", [{"inputs": "two", "choices": ["1", "2", "3"], "label": 1}]),
        ("swag", [{"inputs": "He sits.", "label": 3, "choices": [
            f"He {end}." for end in ("eats", "is, as it were, a chair", "sings", "gets up")]}]),
        ("options_jsonl", [
            {"inputs": "Question: To boil an egg\nAnswer:", "targets": "heat it", "label": 0,
             "contexts": ["Question: To boil an egg\nAnswer:"],
             "continuations": [" heat it", " ask it"]}]),
    ],
)  # fmt: skip
def test_labels_of_ones_own_files_need_gin_alone(name, expected, folder):
    task, _ = build(name)
    assert list(task.examples("train")) == expected


WHO = {"inputs": "Who?", "inputs_pair": "It was me.", "answers": ["me"], "answer_begins": [7],
       "answer_ends": [9]}  # fmt: skip


def test_questions_about_ones_own_texts_need_gin_alone(folder):
    task, _ = build("spans_jsonl")
    assert list(task.examples("train")) == [WHO]
    assert not task.unanswerable and [m.__name__ for m in task.metric_fns] == ["squad"]
    assert task.learned == objectives.SpanWindows(stride=128, question_length=64)
    assert list(build("spans_tsv")[0].examples("train")) == [WHO]
    two = {"answers": ["Me", "me"], "answer_begins": [0, 8], "answer_ends": [2, 10]}
    assert list(build("spans_csv")[0].examples("train")) == [
        WHO, {"inputs": "Who, now?", "inputs_pair": "Me, and me.", **two}
    ]  # fmt: skip
    with pytest.raises(TaskError, match="'Why\\?' has no answer: UNANSWERABLE = True"):
        list(build("spans_squad_json")[0].examples("train"))


def test_questions_without_an_answer_need_one_more_file(folder):
    for name in ("spans_squad_json", "spans_held_out"):
        task, _ = build(name, "spans_unanswerable", **{"DOC_STRIDE": 32})
        assert task.unanswerable and task.learned.stride == 32
        none = {"inputs": "Why?", "answers": [], "answer_begins": [], "answer_ends": [], "id": "8"}
        found = [example for split in task.splits for example in task.examples(split)][:2]
        assert found == [{**WHO, "id": "7"}, {**WHO, **none}]
        measured = ["squad2", "squad2_best_threshold"]
        assert [m.__name__ for m in task.metric_fns] == measured
    head = gin.query_parameter("heads.Spans.null_threshold").scoped_configurable_fn()
    assert head == 0.0


@pytest.mark.parametrize(
    ("name", "kind", "token_types"),
    [
        ("text_files", "unsupervised", None),
        ("classification_tsv", "labelled", None),
        ("regression_csv", "labelled", None),
        ("ner_conll", "tagged", None),
        ("spans_jsonl", "spans", (1,)),
        ("glue_sst2_labels", "registered", None),
    ],
)
def test_the_sentences_of_any_encoders_task_are_numbered_by_one_more_file(
    name, kind, token_types, folder
):
    objective = ["objectives/masked_lm"] if kind == "unsupervised" else []
    plain, lengths = build(name, *objective)
    numbered, same_lengths = build(name, *objective, f"sentences/{kind}", FULL_STOP_IDS=(13,))
    expected = objectives.NumberedSentences(plain.learned, (13,), token_types)
    assert numbered == dataclasses.replace(plain, learned=expected) and lengths == same_lengths
    if kind != "registered":
        # One cache serves both.
        assert numbered.fingerprint() == plain.fingerprint()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cola_tsv", "the sentences of task 'cola_tsv' cannot be numbered"),
        ("multiple_choice_tsv", "objective is Choices"),
        ("text_files", "objective is SpanCorruption"),
    ],
)
def test_tasks_for_other_models_have_no_sentences(name, said, folder):
    task, _ = build(name)
    with pytest.raises(TaskError, match=said):
        tasks.with_sentences(task)


def test_columns_of_a_tsv_become_a_translation_by_templates(folder):
    (folder / "pairs.tsv").write_text("A house.\tEin Haus.\n")
    task, _ = build(
        "tsv",
        TRAIN_FILES="pairs.tsv",
        COLUMNS=["en", "de"],
        INPUTS="translate English to German: {en}",
        TARGETS="{de}",
    )
    assert list(task.examples("train")) == [
        {"inputs": "translate English to German: A house.", "targets": "Ein Haus."}
    ]


def test_labels_are_mapped_and_scored_by_gin(folder):
    task, _ = build("cola_tsv")
    assert list(task.examples("train")) == [
        {"inputs": "cola sentence: They drank the pub dry.", "targets": "acceptable"},
        {"inputs": "cola sentence: They drank the pub.", "targets": "unacceptable"},
    ]
    # Caches are written by other processes, which the task is sent to.
    assert pickle.loads(pickle.dumps(task)).fingerprint() == task.fingerprint()
    targets = [task.postprocess(text, {}, True) for text in ("acceptable", "unacceptable")]
    outputs = [task.postprocess(text, {}, False) for text in ("acceptable", "hello")]
    assert task.metric_fns[1](targets, outputs) == {"accuracy": 50}


def test_a_sentencepiece_file_replaces_the_bytes(folder):
    from tasks import vocabularies

    vocabularies.train_sentencepiece(["some text to train on"], "small.model", vocab_size=14)
    task, _ = build(
        "stdlib_span_corruption", "vocabularies/sentencepiece", VOCABULARY_PATH="small.model"
    )
    vocabulary = task.output_features["targets"].vocabulary
    assert vocabulary.vocab_size == 114
    assert task.cache_name == f"stdlib_text.{vocabulary.tag}"
    task, _ = build("jsonl", "vocabularies/sentencepiece", VOCABULARY_PATH="small.model")
    assert task.output_features["inputs"].vocabulary == vocabulary


def test_a_tokenizer_file_replaces_the_bytes_and_its_mask_is_barts(folder):
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = tokenizers.trainers.BpeTrainer(
        initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    made.train_from_iterator(["a b"], trainer)
    made.save("tokenizer.json")
    task, _ = build("stdlib_bart", "vocabularies/tokenizer", VOCABULARY_PATH="tokenizer.json")
    vocabulary = task.output_features["inputs"].vocabulary
    assert vocabulary.eos_id == 2 and vocabulary.zero_is_token
    permutation, infilling = task.learned.corruptions
    assert infilling.bind(vocabulary.spec()).mask_id == 4
    assert permutation.bind(vocabulary.spec()).full_stop_ids == tuple(vocabulary.encode("."))
    assert pickle.loads(pickle.dumps(task)) == task
