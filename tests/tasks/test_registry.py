"""Tasks and mixtures: names, vocabularies, caches and what `import tasks` costs."""

import dataclasses
import pickle
import subprocess
import sys

import pytest

import tasks
from tasks import forms, objectives, sources, vocabularies
from tasks.errors import SourceUnavailable, TaskError

SMALL = vocabularies.ByteVocabulary(extra_ids=7)


def test_importing_tasks_brings_neither_tensorflow_nor_seqio_and_is_quick():
    code = (
        "import numpy, time; start = time.process_time(); import tasks, sys;"
        "from tasks import metrics, objectives, sources, vocabularies;"
        "seconds = time.process_time() - start;"
        "heavy = {'tensorflow', 'seqio', 'sentencepiece', 'pyarrow', 'jax', 'gin'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules);"
        "tasks.get_mixture_or_task('stdlib_span_corruption').fingerprint();"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules);"
        "print(seconds)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.0  # of processor time; it takes 0.1


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(TaskError, match="'stdlib_span'; nearest names: stdlib_lm") as raised:
        tasks.get_mixture_or_task("stdlib_span")
    assert raised.value.exit_code == 2
    assert "\n" not in str(raised.value)


def test_tasks_that_differ_in_the_objective_share_a_cache():
    members = [
        tasks.get_mixture_or_task(f"stdlib_{suffix}")
        for suffix in ("text", "lm", "prefix_lm", "span_corruption")
    ]
    assert {task.cache_name for task in members} == {"stdlib_text"}
    assert len({task.fingerprint() for task in members}) == 1
    assert members[0].source_is_local
    assert set(members[3].output_features) == {"inputs", "targets"}
    assert set(members[1].output_features) == {"targets"}
    assert all(task.cached_features == ("targets",) for task in members)


def test_another_vocabulary_has_another_cache_and_fingerprint():
    plain = tasks.get_mixture_or_task("stdlib_lm")
    other = tasks.get_mixture_or_task("stdlib_lm", vocabulary=SMALL)
    assert other.output_features["targets"].vocabulary == SMALL
    assert other.cache_name == "stdlib_text.bytes-7"
    assert other.fingerprint() != plain.fingerprint()
    assert tasks.get_mixture_or_task("stdlib_lm", vocabularies.ByteVocabulary()) == plain
    mixture = tasks.get_mixture_or_task("glue", vocabulary=SMALL)
    assert {task.output_features["inputs"].vocabulary for task, _ in mixture.tasks} == {SMALL}


def test_the_objective_is_bound_by_specs_alone():
    task = tasks.get_mixture_or_task("stdlib_span_corruption")
    bound = task.objective({"targets": SMALL.spec()})
    assert bound.first_sentinel == 259 + 7 - 1
    assert tasks.get_mixture_or_task("stdlib_docstring").objective({}) is None


def test_a_tasks_cache_follows_source_form_and_vocabulary(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text("a\tb\n")
    source = sources.TabSeparated(files={"train": str(path)}, columns=("x", "y"))
    task = tasks.text_to_text("one", source, forms.Template("{x}", "{y}"))
    same = tasks.text_to_text("two", source, forms.Template("{x}", "{y}"))
    assert task.fingerprint() == same.fingerprint()
    assert list(task.examples("train")) == [{"inputs": "a", "targets": "b"}]
    other_form = dataclasses.replace(task, form=forms.Template("{y}", "{x}"))
    changed = {task.fingerprint(), other_form.fingerprint()}
    changed.add(task.with_vocabulary(SMALL).fingerprint())
    path.write_text("a\tc\n")
    changed.add(task.fingerprint())
    assert len(changed) == 4


def test_a_source_that_is_elsewhere_is_told_apart(tmp_path):
    source = sources.TextFiles(files={"train": str(tmp_path / "none.txt")})
    with pytest.raises(SourceUnavailable):
        tasks.unsupervised("elsewhere", source).fingerprint()
    with pytest.raises(OSError, match=r"none\.txt"):
        tasks.unsupervised("elsewhere", source).fingerprint()


def test_a_tfds_task_is_local_once_prepared(tmp_path):
    task = tasks.get_mixture_or_task("c4_lm", tfds_data_dir=str(tmp_path))
    assert not task.source_is_local
    with pytest.raises(SourceUnavailable, match=r"not prepared in .* give --tfds_data_dir"):
        task.fingerprint()
    info = tmp_path / "c4" / "en" / "3.1.0" / "dataset_info.json"
    info.parent.mkdir(parents=True)
    info.write_text("{}")
    assert task.source_is_local and task.fingerprint()
    mixture = tasks.get_mixture_or_task("glue", tfds_data_dir=str(tmp_path))
    assert all(member.source.data_dir == str(tmp_path) for member, _ in mixture.tasks)


def test_a_task_lists_itself_as_a_mixture_lists_its_tasks():
    task = tasks.get_mixture_or_task("stdlib_lm")
    assert list(task.tasks) == [(task, 1.0)]
    mixture = tasks.Mixture("one", ((task, 2.0),))
    assert list(mixture.tasks) == [(task, 2.0)]


def test_mixing_rates_are_t5s():
    # Raffel et al. 2020, section 3.5.2: min(e, K) to the power 1/T.
    rates = tasks.proportional_rates({"a": 100, "b": 10_000}, limit=400, temperature=2.0)
    assert rates == {"a": 10.0, "b": 20.0}
    tasks.add_mixture("test_mixture", {"stdlib_lm": 3, "c4_lm": 1})
    mixture = tasks.get_mixture_or_task("test_mixture")
    assert [(task.name, rate) for task, rate in mixture.tasks] == [("stdlib_lm", 3), ("c4_lm", 1)]


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"stdlib_lm": 0}, "'stdlib_lm' at rate 0"),
        ({"nothing_like_it": 1}, "no task or mixture is called"),
        ({"glue": 1}, "contains the mixture 'glue'"),
        ({}, "has no tasks"),
    ],
)
def test_a_mixture_that_cannot_be_is_refused(rates, message):
    with pytest.raises(TaskError, match=message):
        tasks.add_mixture("bad", rates)


def test_declarations_that_cannot_work_are_refused():
    source = sources.StandardLibraryModules()
    with pytest.raises(TaskError, match="uses the column 'body': its source has path, text"):
        tasks.unsupervised("x", source, column="body")
    with pytest.raises(TaskError, match="task name 'a b'"):
        tasks.unsupervised("a b", source)


def test_every_declared_task_can_be_pickled_and_learned_from():
    for name in tasks.names():
        found = tasks.get_mixture_or_task(name)
        assert pickle.loads(pickle.dumps(found)) == found
        for task, _ in found.tasks:
            specs = {n: f.vocabulary.spec() for n, f in task.output_features.items()}
            objective = task.objective(specs)
            written = task.cached_features if objective is None else objective.writes
            # Types, labels, places of answers and further candidates, which are no features, come
            # with them.
            beside = {"token_types", "label", "span_start", "span_end", "may_begin"}
            beside |= {"char_begins", "char_ends", "no_answer_place"}
            beside |= {name for name in written if name.startswith("further_")}
            assert set(written) - beside == set(task.output_features)


def test_a_users_objective_is_one_more_dataclass(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("abc")
    source = sources.TextFiles(files={"train": str(path)})
    task = tasks.unsupervised("user_prefix", source, objective=objectives.PrefixLM())
    assert task.fingerprint() == tasks.unsupervised("user_text", source).fingerprint()


def test_a_task_of_pairs_is_given_an_objective_and_another_one_is_not():
    hidden = objectives.HiddenTargets()
    task = tasks.get_mixture_or_task("stdlib_docstring", objective=hidden)
    plain = tasks.get_mixture_or_task("stdlib_docstring")
    assert task.learned == hidden and plain.learned is None
    assert task.fingerprint() == plain.fingerprint() and task.output_features.keys() == {
        "inputs",
        "targets",
    }
    assert task.example_features == hidden.writes
    # Prompts of columns are written as before.
    assert task.inputs_form == plain.inputs_form is not None
    mixture = tasks.get_mixture_or_task("glue", objective=hidden)
    assert all(member.learned == hidden for member, _ in mixture.tasks)
    with pytest.raises(TaskError, match=r"'stdlib_lm' cannot be given the objective HiddenTargets"):
        tasks.get_mixture_or_task("stdlib_lm", objective=hidden)
