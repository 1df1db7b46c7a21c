"""The published mixtures as gin files: their shares, and that files of one's own are read."""

import pytest

from t5x_like import config, data

SHARES = {
    # Brown et al. 2020, table 2.2: they sum to 101.
    "gpt3": {"common_crawl": 60, "webtext2": 22, "books1": 8, "books2": 8, "wikipedia": 3},
    # Rae et al. 2021, table 2.
    "massive_text": {
        "massive_web": 48, "books": 27, "c4": 10, "news": 10, "github": 3, "wikipedia": 2
    },
    # Hoffmann et al. 2022, table A1.
    "chinchilla": {
        "massive_web": 45, "books": 30, "c4": 10, "news": 10, "github": 4, "wikipedia": 1
    },
    # Chowdhery et al. 2022, table 2.
    "palm": {
        "social_media": 50, "web_pages": 27, "books": 13, "github": 5, "wikipedia": 4, "news": 1
    },
    # Touvron et al. 2023, table 1.
    "llama": {
        "common_crawl": 67, "c4": 15, "github": 4.5, "wikipedia": 4.5, "books": 4.5, "arxiv": 2.5,
        "stack_exchange": 2,
    },
    # Thoppilan et al. 2022, appendix E.
    "lamda": {
        "forums": 50, "c4": 12.5, "code_documents": 12.5, "wikipedia": 12.5, "english_web": 6.25,
        "other_web": 6.25,
    },
}  # fmt: skip

# Macros are named without digits.
NAMED = {
    "c4": "clean_crawl", "webtext2": "webtext", "books1": "first_books", "books2": "second_books"
}  # fmt: skip


@pytest.mark.parametrize("name", SHARES)
def test_a_published_mixture_is_of_files_of_ones_own(name, tmp_path):
    given = [("HELD_OUT", "0.5")]
    for task in SHARES[name]:
        lines = "".join(f'{{"text": "{task} {i}"}}\n' for i in range(20))
        (tmp_path / f"{task}.jsonl").write_text(lines)
        given.append((f"{NAMED.get(task, task).upper()}_FILES", f"{tmp_path}/{task}.jsonl"))
    with config.isolated():
        config.parse([f"tasks/mixtures/{name}.gin"], bindings=given)
        mixture = config.macro("TASK")
    assert mixture.name == name
    rates = {task.name: 100 * rate for task, rate in mixture.tasks}
    assert rates == pytest.approx(SHARES[name])
    assert sum(rates.values()) == pytest.approx(101 if name == "gpt3" else 100)
    for task, _ in mixture.tasks:
        rows = [row["text"] for split in task.source.splits for row in task.source.rows(split)]
        assert sorted(rows) == sorted(f"{task.name} {i}" for i in range(20))
        assert task.source.validation == 0.5


def test_a_published_mixture_ends_on_other_rates(tmp_path):
    """The rates of docs/data.md's command."""
    (tmp_path / "part.jsonl").write_text('{"text": "a"}\n')
    parts = ("SOCIAL_MEDIA", "WEB_PAGES", "BOOKS", "GITHUB", "WIKIPEDIA", "NEWS")
    files = [(f"{part}_FILES", f"{tmp_path}/part.jsonl") for part in parts]
    changing = [
        ("data.DatasetConfig.mixing", "@data.MixtureSchedule()"),
        ("data.MixtureSchedule.stages", "((0, None), (800, {'books': 3, 'wikipedia': 1}))"),
        ("MODEL", "None"), ("TRAIN_STEPS", "1"), ("MODEL_DIR", "a"),
    ]  # fmt: skip
    with config.isolated():
        found = ["tasks/mixtures/palm.gin", "runs/pretrain.gin"]
        config.parse(found, bindings=[*files, *changing])
        dataset = config.configured(data.DatasetConfig)()
    names, rates = zip(*((task.name, rate) for task, rate in dataset.task.tasks), strict=True)
    shares = dataset.mixing.shares(names, rates, [1] * 6, list)
    assert shares.begins == (0, 800)
    assert shares.weights[0] == pytest.approx((0.5, 0.27, 0.13, 0.05, 0.04, 0.01))
    assert shares.weights[1] == (0, 0, 0.75, 0, 0.25, 0)
