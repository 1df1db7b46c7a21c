"""Installs the three packages `t5x_like`, `models` and `tasks`, with the gin files as data."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

TOKENIZERS = ["tokenizers>=0.21"]
# etils.epath reads through gcsfs; Orbax asks google-cloud-storage what a bucket is.
GCS = ["gcsfs", "google-cloud-storage", "google-cloud-storage-control"]
NOTEBOOKS = ["ipykernel", "nbclient", "nbformat"]
CORPORA = ["py3langid>=0.3"]
QUANTIZATION = ["qwix>=0.1.8"]
TEST = [
    *NOTEBOOKS,
    *CORPORA,
    *QUANTIZATION,
    *["hypothesis", "pytest", "pytest-xdist", "ruff", "mypy", "scikit-learn"],
    *TOKENIZERS,
    *GCS,
    "submitit>=1.5",
    "gcp-storage-emulator",
]
# Bounds on torch and transformers are what the parity tests were run against. Before 5.18, Switch
# Transformer there counts an expert's capacity over the batch, or drops nothing (5.0).
LM_EVAL = ["lm_eval>=0.4.13"]
# accelerate is for lm_eval's own backend for transformers.
INTEROP = [
    "accelerate>=1",
    "datasketch>=2",
    "gensim>=4.4",
    *LM_EVAL,
    "safetensors",
    "torch>=2.6",
    "transformers>=5.18",
]

setup(
    name="t5x-like",
    version="0.2.0",
    description="Text-to-text and language-model research in JAX, from one core to a TPU pod.",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[
        *find_packages(
            include=["t5x_like", "t5x_like.*", "models", "models.*", "tasks", "tasks.*"]
        ),
        "t5x_like.gin_configs",
    ],
    package_dir={"t5x_like.gin_configs": "gin_configs"},
    package_data={
        # A type checker reads our annotations only where a package has this mark.
        "t5x_like": ["py.typed"],
        "models": ["py.typed"],
        "tasks": ["py.typed"],
        "t5x_like.gin_configs": ["**/*.gin"],
        "t5x_like.scaling": ["*.csv"],
        "t5x_like.scaling.report": ["page.html"],
    },
    install_requires=[
        "etils[epath]>=1.9",
        "flax>=0.12",
        "gin-config>=0.5.0,<0.6",  # private names of it are used: t5x_like/config/gin_internals.py
        "google-crc32c>=1.5",
        "grain>=0.2.14",
        "jax>=0.8",
        "matplotlib>=3.9",
        "nltk>=3.9",  # which rouge-score brings along too
        "numpy>=2",
        "optax>=0.2.6",
        "orbax-checkpoint>=0.11.30",
        "pandas>=2.2",
        "plotly>=6",
        "protobuf>=5",
        "pyarrow>=17",
        "rich>=13",
        "rouge-score>=0.1.2",
        "sacrebleu>=2.4",
        "scipy>=1.13",
        "sentencepiece>=0.2",
        "seqio>=0.0.20",
        "tensorboard>=2.18",
        "tensorflow>=2.20",
        "tensorstore>=0.1.76",  # which Orbax brings along too
        "zstandard>=0.23",
    ],
    extras_require={
        "tpu": ["jax[tpu]>=0.8"],
        "gpu": ["jax[cuda12]>=0.8"],
        "test": TEST,
        "notebooks": NOTEBOOKS,
        "interop": INTEROP,
        "tokenizers": TOKENIZERS,
        "lm-eval": LM_EVAL,
        # Through JAX, which knows the libtpu that it works with.
        "tpu-compile": ["jax[tpu]>=0.8"],
        # Beam wants protobuf below 7, which sentencepiece 0.2.3 cannot import.
        "beam": ["apache-beam>=2.60", "sentencepiece==0.2.2"],
        "gcs": GCS,
        "corpora": CORPORA,
        "quantization": QUANTIZATION,
        "docs": ["mkdocs-material>=9.7", "mkdocstrings[python]>=1"],
        "wandb": ["wandb"],
        "mlflow": ["mlflow>=3"],
        "trackio": ["trackio"],
        "ray": ["ray>=2.44"],
        "slurm": ["submitit>=1.5"],
    },
    entry_points={"console_scripts": ["t5x-like = t5x_like.__main__:main"]},
)
