"""What each benchmark asks, word for word, of rows made by hand."""

import json

import numpy as np
import pytest

import tasks
from tasks.benchmarks import arithmetic, common_sense, completion, knowledge, reading, super_glue
from tasks.errors import SourceUnavailable, TaskError

# As files of JSON lines have them; the keys are the names of TFDS's features.
HELLASWAG = {
    "activity_label": "Baking a pie", "label": "1", "endings": ["eats [step] it.", "bakes it.",
    "sings.", "goes."], "context": "[header] How to bake [title] Roll it. Then  the cook",
}  # fmt: skip
SCHEMA = {
    "text": "Ann told Eve that her dog ran away.", "option1_normalized": "Ann",
    "option2_normalized": "Eve", "pronoun_start": 18, "pronoun_end": 21, "pronoun_text": "her",
    "label": 0,
}  # fmt: skip
ARC = {"question": "Which rusts?", "choices": {"text": ["gold", "iron", "tin"],
       "label": ["A", "B", "C"]}, "answerKey": "B"}  # fmt: skip
OBQA = {"question": {"stem": "Frost needs", "choice_A": "cold", "choice_B": "heat",
        "choice_C": "salt", "choice_D": "light"}, "answerKey": 0}  # fmt: skip
MMLU = {"question": " 1 + 1? ", "subject": "abstract_algebra", "choices": ["1", "2", "3", "4"],
        "answer": 1}  # fmt: skip
RACE = {
    "article": "Tom ran.", "questions": ["Who ran?", "He is  _  .", "Tom  _  ."],
    "options": [["Tom", "Ann", "Bob", "Eve"], ["ill", "fast", "old", "sad"], ["ran", "sat", "ate",
    "fell"]], "answers": ["A", "B", "D"],
}  # fmt: skip
CBT = {"sentences": ["It was dark.", "They went."], "question": "The XXXXX slept .",
       "answer": "dog", "options": ["cat", "dog"]}  # fmt: skip
SQUAD2 = {"title": "Rust", "context": "Iron rusts.", "question": "What rusts?",
          "answers": {"text": ["Iron", "iron", "Iron"]}}  # fmt: skip
QUAC = {"title": "Ann", "section_title": "Life", "background": "A poet.", "question": "Where?",
        "context": "She lived in Rome. CANNOTANSWER",
        "answers": {"text": ["in Rome", "Rome", "Rome"]}}  # fmt: skip
DROP = {"passage": "Two won.", "question": "How many?", "answer": "2",
        "validated_answers": ["2", "two"]}  # fmt: skip
TRIVIA = {"question": "Who wrote Emma?", "answer": {"value": "Austen", "aliases":
          ["Jane Austen", "Austen"]}}  # fmt: skip
GSM8K = {"question": "Six eggs,\nhalf eaten?", "answer": "Half of 6 is 6/2=<<6/2=3>>3\nSo 3 are "
         "left.\n#### 1,003"}  # fmt: skip

# Of a task: a row, the context or contexts, the options or what follows, and the label.
RANKED = {
    "hellaswag": (HELLASWAG, "Baking a pie: How to bake. Roll it. Then the cook",
                  [" eats it.", " bakes it.", " sings.", " goes."], 1),
    "piqa": ({"goal": "boil", "sol1": "heat", "sol2": "ask", "label": 1},
             "Question: boil\nAnswer:", [" heat", " ask"], 1),
    "siqa": ({"context": "Ann fell.", "question": "Why?", "answerA": "a", "answerB": "b",
              "answerC": "c", "label": "3"}, "Q: Ann fell. Why?\nA:", [" a", " b", " c"], 2),
    "winogrande": ({"sentence": "Ann beat Eve as _ was fast.", "option1": "Ann", "option2": "Eve",
                    "label": 0}, ["Ann beat Eve as Ann", "Ann beat Eve as Eve"], [" was fast."], 0),
    "winograd": (SCHEMA, ["Ann told Eve that Ann's", "Ann told Eve that Eve's"],
                 [" dog ran away."], 0),
    "story_cloze": ({"context": "One. Two. Three. Four.", "endings": ["Five.", "Six."],
                     "label": 0}, "One. Two. Three. Four.", [" Five.", " Six."], 0),
    "arc_easy": (ARC, "Question: Which rusts?\nAnswer:", [" gold", " iron", " tin"], 1),
    "arc_challenge": ({**ARC, "choices": {"text": ["x", "y"], "label": ["1", "2"]},
                       "answerKey": "2"}, "Question: Which rusts?\nAnswer:", [" x", " y"], 1),
    "openbookqa": (OBQA, "Frost needs", [" cold", " heat", " salt", " light"], 0),
    "mmlu": (MMLU, "1 + 1?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:", [" A", " B", " C", " D"], 1),
    "race_high_options": (
        RACE, "Article: Tom ran.\n\nQuestion: Who ran?\nAnswer: Tom\nHe is fast\nTom  _  .",
        [" ran", " sat", " ate", " fell"], 3),
    "boolq_options": ({"passage": "Iron rusts.", "question": "does iron rust", "label": True},
                      "Iron rusts.\nQuestion: does iron rust?\nAnswer:", [" no", " yes"], 1),
    "rte_options": ({"premise": "Iron rusts.", "hypothesis": "Gold rusts.",
                     "label": "not_entailment"},
                    "Iron rusts.\nQuestion: Gold rusts. True or False?\nAnswer:",
                    [" True", " False"], 1),
    "cb_options": ({"premise": "Ann says it rusts.", "hypothesis": "it rusts", "label": "neutral"},
                   "Ann says it rusts.\nQuestion: it rusts. True, False, or Neither?\nAnswer:",
                   [" True", " False", " Neither"], 2),
    "copa_options": ({"premise": "It rained.", "question": "effect", "choice1": "Ann got wet.",
                      "choice2": "The sun shone.", "label": "choice1"}, "It rained therefore",
                     [" ann got wet.", " the sun shone."], 0),
    "wic_options": ({"sentence1": "A bank.", "sentence2": "The bank.", "word": "bank",
                     "label": True},
                    "Sentence 1: A bank.\nSentence 2: The bank.\nQuestion: Is the word 'bank' used "
                    "in the same way in the two sentences above?\nAnswer:", [" no", " yes"], 1),
    "wsc_options": ({"text": "Bob asked Tom if he slept.", "span2_text": "he", "span2_index": 4,
                     "span1_text": "Tom", "label": False},
                    "Passage: Bob asked Tom if *he* slept.\nQuestion: In the passage above, does "
                    'the pronoun "*he*" refer to "*Tom*"?\nAnswer:', [" no", " yes"], 0),
    "multirc_options": ({"paragraph": "<b>Iron</b> rusts.", "question": "What rusts?",
                         "answer": "Gold", "label": 0, "idx": {"question": 7}},
                        "Iron rusts.\nQuestion: What rusts?\nAnswer:",
                        [f" Gold\nIs the answer correct? {word}" for word in ("no", "yes")], 0),
    "record_options": ({"passage": "Tom fed Ann's dog.\n@highlight\nTom is kind",
                        "query": "A dog of @placeholder ate", "entities": ["Tom", "Ann", "Tom"],
                        "answers": ["Ann"]}, "Tom fed Ann's dog.\n\n  - Tom is kind.\n",
                       ["   - A dog of Ann ate", "   - A dog of Tom ate"], 0),
    "anli_r1": ({"context": "Iron rusts.", "hypothesis": "Gold rusts.", "label": "c"},
                "Iron rusts.\nQuestion: Gold rusts. True, False, or Neither?\nAnswer:",
                [" True", " Neither", " False"], 2),
    "cbt_cn": (CBT, "It was dark. They went. The", [" cat slept .", " dog slept ."], 1),
}  # fmt: skip

# Of a task: a row, what is asked, what stands in examples, and what is accepted.
ANSWERED = {
    "lambada": ({"passage": "He looked at the sea \n"}, "He looked at the", "sea", None),
    "lambada_cloze": ({"passage": "at the sea"}, "at the ____. →", "sea", None),
    "trivia_qa": (TRIVIA, "Q: Who wrote Emma?\nA:", "Austen", ["Austen", "Jane Austen"]),
    "natural_questions": ({"question": "who wrote emma", "answer": ["Austen"]},
                          "Q: who wrote emma?\nA:", "Austen", ["Austen"]),
    "web_questions": ({"question": "where is rome?", "answers": ["Italy", "Europe"]},
                      "Q: where is rome?\nA:", "Italy", ["Italy", "Europe"]),
    "drop": (DROP, "Passage: Two won.\nQuestion: How many?\nAnswer:", "2", ["2", "two"]),
    "squad2": (SQUAD2, "Title: Rust\n\nBackground: Iron rusts.\n\nQuestion: What rusts?\n\nAnswer:",
               "Iron", ["Iron", "iron"]),
    "quac": (QUAC, "TITLE: Ann - Life\nA poet.\nPARAGRAPH: She lived in Rome.\n\nQ: Where?\n\nA:",
             "in Rome", ["in Rome", "Rome", "Rome"]),
    "gpt3_two_digit_addition": ({"context": "Q: What is 48 plus 76?\n\nA:", "completion": " 124"},
                                "Q: What is 48 plus 76?\n\nA:", "124", None),
    "gsm8k": (GSM8K, "Q: Six eggs, half eaten?\nA:",
              "Half of 6 is 6/2=3. So 3 are left. The answer is 1,003.", None),
}  # fmt: skip


def written(tmp_path, name, *rows, split="validation"):
    """The task with these rows in the user's own files."""
    folder = tmp_path / {"lambada_cloze": "lambada"}.get(name, name)
    folder.mkdir(exist_ok=True)
    (folder / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return tasks.get_mixture_or_task(name, files_dir=str(tmp_path))


@pytest.mark.parametrize("name", RANKED)
def test_a_row_becomes_a_context_and_options(name, tmp_path):
    row, context, options, label = RANKED[name]
    task = written(tmp_path, name, row)
    assert task.source_is_local and task.splits == ("validation",)
    (made,) = task.examples("validation")
    assert made["contexts"] == ([context] if isinstance(context, str) else context)
    assert (made["continuations"], made["label"]) == (options, label)
    right = made["contexts"][label if len(made["contexts"]) > 1 else 0]
    assert made["inputs"] == right
    assert made["targets"] == options[label if len(options) > 1 else 0].strip()


@pytest.mark.parametrize("name", ANSWERED)
def test_a_row_becomes_a_question_and_answers(name, tmp_path):
    row, asked, shown, accepted = ANSWERED[name]
    (made,) = written(tmp_path, name, row).examples("validation")
    assert (made["inputs"], made["targets"]) == (asked, shown)
    assert made.get("answers") == accepted


def test_coqa_asks_each_question_after_those_before_it(tmp_path):
    row = {"story": "Ann ran.", "questions": ["Who?", "Where?"],
           "answers": {"input_text": ["Ann", "home"]}}  # fmt: skip
    first, second = written(tmp_path, "coqa", row).examples("validation")
    assert first["inputs"] == "Ann ran.\n\nQ: Who?\n\nA:" and first["answers"] == ["Ann"]
    assert second["inputs"] == "Ann ran.\n\nQ: Who?\n\nA: Ann\n\nQ: Where?\n\nA:"


def test_mmlu_keeps_the_subject_and_squad_what_has_no_answer(tmp_path):
    (made,) = written(tmp_path, "mmlu", MMLU).examples("validation")
    assert made["group"] == "abstract_algebra"
    (made,) = written(tmp_path, "squad2", {**SQUAD2, "answers": {"text": []}}).examples(
        "validation"
    )
    assert (made["targets"], made["answers"]) == ("unanswerable", [])


def test_a_part_of_a_sentence_goes_on_with_a_capital():
    """`ctx_a Ctx_b`: TFDS has the two as one text, the second after the last full stop."""
    row = {**HELLASWAG, "context": "A man sits. he"}
    assert common_sense.HellaSwag()(row)["inputs"] == "Baking a pie: A man sits. He"
    # Of WikiHow's pages every part is whole.
    row = {**HELLASWAG, "context": "[header] How to bake e.g. pies [title] Roll it. [step] Do."}
    whole = "Baking a pie: How to bake e.g. pies. Roll it. Do."
    assert common_sense.HellaSwag()(row)["inputs"] == whole


def test_rows_of_tfds_are_read_alike():
    """Arrays, bytes and numbers of classes in place of lists, texts and names."""
    row = {
        "article": b"Tom ran.", "questions": np.array([b"Who ran?", b"Where?"], object),
        "options": np.array([[b"a", b"b", b"c", b"d"], [b"e", b"f", b"g", b"h"]], object),
        "answers": np.array([b"A", b"B"], object),
    }  # fmt: skip
    made = reading.Race()(row)
    assert made["inputs"] == "Article: Tom ran.\n\nQuestion: Who ran?\nAnswer: a\nWhere?"
    assert (made["continuations"], made["label"]) == ([" e", " f", " g", " h"], 1)
    arc = {"question": b"q", "choices/text": np.array([b"x", b"y"], object),
           "choices/label": np.array([0, 1]), "answerKey": np.int64(1)}  # fmt: skip
    assert knowledge.Arc()(arc)["label"] == 1
    anli = {"context": b"c", "hypothesis": b"h", "label": np.int64(1)}
    assert reading.Anli()(anli)["targets"] == "Neither"
    assert common_sense.HellaSwag()({**HELLASWAG, "label": np.int32(-1)})["label"] == -1


@pytest.mark.parametrize(
    ("form", "row", "said"),
    [
        (reading.BoolQ(), {"passage": "p", "question": "q", "label": 2},
         "column 'label' is '2', which is no label: they are false, true, or their numbers from 0"),
        (common_sense.HellaSwag(), {**HELLASWAG, "label": 4}, "column 'label' is '4'"),
        (common_sense.HellaSwag(), {**HELLASWAG, "endings": ["a", "[x]", "c", "d"]},
         "option 2 of 4 has no text"),
        (common_sense.Winograd(), {**SCHEMA, "option2_normalized": ""},
         "option 2 of 2 has no text"),
        (knowledge.Arc(), {"question": "q", "choices/text": '["a", "b"]', "answerKey": "E",
                           "choices/label": '["A", "B"]'},
         "column 'answerKey' is 'E', but the choices are A, B"),
        (knowledge.Mmlu(), {**MMLU, "choices": ["1", ""]}, "are not two to five texts"),
        (reading.Race(), {**RACE, "options": json.dumps(RACE["options"]), "answers": ["A", "E"]},
         "3 questions, and the answers A, E: A, B, C or D of each"),
        (super_glue.RecordOptions(), {**RANKED["record_options"][0], "answers": ["Eve"]},
         "column 'answers' has 'Eve', which is none of the entities"),
        (super_glue.RecordOptions(), {**RANKED["record_options"][0], "query": "A dog ate"},
         "column 'query' has no @placeholder, which an entity fills"),
        (completion.ChildrensBookTest(), {**CBT, "answer": "cow"},
         "column 'answer' is 'cow', which is none of the options"),
        (completion.ChildrensBookTest(), {**CBT, "question": "The dog slept ."},
         "has no XXXXX, where a word is missing"),
        (completion.Lambada(), {"passage": "sea"}, "has no word before its last"),
        (arithmetic.Gsm8k(), {"question": "q", "answer": "It is 18."},
         "ends 'It is 18.': '#### 18'"),
    ],
)  # fmt: skip
def test_rows_that_are_no_question_are_refused_in_one_line(form, row, said):
    with pytest.raises(TaskError, match=said) as raised:
        form(row)
    assert "\n" not in str(raised.value)


def test_a_benchmark_without_rows_says_what_it_needs(tmp_path):
    task = tasks.get_mixture_or_task("mmlu", files_dir=str(tmp_path))
    assert not task.source_is_local and task.source.splits == ()
    with pytest.raises(SourceUnavailable, match=(
        r"' has no mmlu/SPLIT\.jsonl; 'mmlu' is not in TFDS: give FILES_DIR, a folder in which "
        r"mmlu/SPLIT\.jsonl has question, subject, choices, answer"
    )):  # fmt: skip
        task.fingerprint()
    # Of files and TFDS, neither is there: both are said.
    for place, said in ((tmp_path, r"has no piqa/SPLIT\.jsonl"), (tmp_path / "a", "is no folder")):
        options = {"files_dir": str(place), "tfds_data_dir": str(tmp_path)}
        with pytest.raises(SourceUnavailable, match=f"^FILES_DIR '.*' {said}; TFDS dataset 'piqa"):
            tasks.get_mixture_or_task("piqa", **options).fingerprint()
    task = written(tmp_path, "mmlu", {"question": "q"}, split="dev")
    with pytest.raises(TaskError, match="line 1 has no key 'subject'"):
        list(task.examples("dev"))


def test_other_rows_other_forms_and_other_blanks_have_other_caches(tmp_path):
    first = written(tmp_path, "lambada", {"passage": "at the sea"}).fingerprint()
    cloze = tasks.get_mixture_or_task("lambada_cloze", files_dir=str(tmp_path)).fingerprint()
    other = written(tmp_path, "lambada", {"passage": "at the lake"}).fingerprint()
    assert len({first, cloze, other}) == 3


def test_the_eight_solutions_end_in_the_numbers_that_they_compute():
    """Each of the last sums of a chain gives the answer that is named after it."""
    task = tasks.get_mixture_or_task("gsm8k_cot")
    assert len(task.few_shot.examples) == 8
    for text in task.few_shot.examples:
        assert text.startswith("Q: ") and text.count("\nA: ") == 1 and "\n\n" not in text
        number = task.postprocess(text, {}, False)
        sums = [part for part in text.split() if part.rstrip(".").isdigit()]
        assert number and f"= {number}" in text and sums
