"""A task of sums in TSV files, its command line and its cache, for the tests of caches."""

import tasks
from t5x_like.data.cache.building import build_folder
from tasks import forms, sources

ROWS = [f"What is {i} and {i}?\t{i + i}" for i in range(40)]
TASK_FLAGS = (
    "--gin_file=tasks/tsv.gin",
    "--gin.COLUMNS=['question', 'answer']",
    "--gin.INPUTS='{question}'",
    "--gin.TARGETS='{answer}'",
    "--gin.TASK_FEATURE_LENGTHS={'inputs': 32, 'targets': 8}",
)


def task(template="{question}", vocabulary=None, folder=None):
    """The task of the flags above, in Python."""
    files = {split: str(folder / f"{split}.tsv") for split in ("train", "validation")}
    source = sources.TabSeparated(files=files, columns=("question", "answer"))
    settings = {"vocabulary": vocabulary} if vocabulary else {}
    return tasks.text_to_text("tsv", source, forms.Template(template, "{answer}"), **settings)


def write_corpus(folder):
    """The files of the task: 40 questions, of which the first five validate."""
    (folder / "train.tsv").write_text("\n".join(ROWS) + "\n")
    (folder / "validation.tsv").write_text("\n".join(ROWS[:5]) + "\n")


def cache_flags(folder, cache_dir, shards=2, workers=1):
    return [
        "cache",
        *TASK_FLAGS,
        f"--gin.TRAIN_FILES={folder}/train.tsv",
        f"--gin.VALIDATION_FILES={folder}/validation.tsv",
        f"--gin.CACHE_DIR={cache_dir}",
        f"--num_shards={shards}",
        f"--num_workers={workers}",
    ]


def cached(folder, cache_dir):
    """The folder of the cache that the flags make."""
    return build_folder(task(folder=folder), cache_dir)


def visible(folder):
    """The files of a cache that everybody reads, and their bytes."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith(".")}
