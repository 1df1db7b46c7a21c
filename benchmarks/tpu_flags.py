"""What a flag of `gin_configs/hardware/tpu_flags.gin` changes in compiled steps, file by file.

    python -m benchmarks.tpu_flags [--flag NAME] [--only FILE ...] [--out DIR]

compiles a training step for each TPU under `gin_configs/hardware/` without and with one of the
flags, by default that against windowed einsums, and prints a table: what a device's step moves in
HBM, the time of its exchanges, and the MFU from the chip's figures. A result in DIR is not compiled
again. Needs the extra [tpu-compile], and no TPU; a step takes one to three minutes on a quiet core.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FLAGS = ROOT / "gin_configs" / "hardware" / "tpu_flags.gin"
WINDOWED_EINSUM = "xla_jf_spmd_threshold_for_windowed_einsum_mib"

_SPANS = "{'inputs': 512, 'targets': 114}"
_ROWS = "{'targets': 2048}"

# File under `hardware/`: a model that it is good for, its optimizer, rows and tokens of a batch.
STEPS = {
    "v3_8": ("t5_1_1/base", "adafactor", 128, _SPANS),
    "v4_32": ("t5_1_1/xl", "adafactor", 256, _SPANS),
    "v5e_16": ("t5_1_1/large", "adafactor", 256, _SPANS),
    "v5e_256": ("llama/13.0b", "llama_adamw", 256, _ROWS),
    "v5p_64": ("llama/6.7b", "llama_adamw", 128, _ROWS),
    "v5p_2048": ("llama/65.2b", "llama_adamw", 1024, _ROWS),
    "v6e_256": ("llama/32.5b", "llama_adamw", 512, _ROWS),
}


def main() -> int:
    """Compiles and prints; returns how many failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flag", default=WINDOWED_EINSUM, help="name of a flag in tpu_flags.gin")
    parser.add_argument("--only", nargs="*", default=list(STEPS), help="files under hardware/")
    parser.add_argument("--out", default="runs/tpu_flags", help="where results are kept")
    options = parser.parse_args()
    every = re.findall(r"'(--xla[^']*)'", FLAGS.read_text())
    without = [flag for flag in every if not flag.startswith(f"--{options.flag}=")]
    if len(without) == len(every):
        parser.error(f"{FLAGS.name} has no flag {options.flag}.")
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    print("| file | step | HBM traffic | exchanges within the slice | MFU |")
    print("|---|---|---|---|---|")
    failed = 0
    for name in options.only:
        pair = []
        for which, flags in (("without", without), ("with", every)):
            path = out / f"{name}-{options.flag}-{which}.json"
            if path.exists() or compiled(name, flags, path):
                pair.append(json.loads(path.read_text()))
        if len(pair) == 2:
            print(row(name, *pair), flush=True)
        failed += len(pair) != 2
    return failed


def compiled(name: str, flags: list[str], path: Path) -> bool:
    """Runs `t5x-like compile` in a process of its own; whether it ended well."""
    model, optimizer, rows, lengths = STEPS[name]
    command = [
        sys.executable, "-m", "t5x_like", "compile", f"--gin_file=models/{model}.gin",
        f"--gin_file=optimizers/{optimizer}.gin", f"--gin_file=hardware/{name}.gin",
        f"--gin.BATCH_SIZE={rows}", f"--gin.TASK_FEATURE_LENGTHS={lengths}",
        f"--gin.LIBTPU_INIT_ARGS={flags}", f"--save={path}",
    ]  # fmt: skip
    search = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": search}
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
    return not done.returncode


def row(name: str, before: dict[str, Any], after: dict[str, Any]) -> str:
    """One line of the table."""
    model, _, rows, _ = STEPS[name]
    results = (before, after)
    traffic = " → ".join(f"{result['bytes_accessed'] / 2**30:,.0f}" for result in results)
    exchanges = " → ".join(f"{result['seconds']['ici']:.2f}" for result in results)
    mfu = " → ".join(f"{result['mfu'][1]:.0%} to {result['mfu'][0]:.0%}" for result in results)
    return f"| `{name}` | {model}, {rows:,} rows | {traffic} GiB | {exchanges} s | {mfu} |"


if __name__ == "__main__":
    sys.exit(main())
