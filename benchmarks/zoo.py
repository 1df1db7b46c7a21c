"""Compiles every published size above 1B that was trained on TPUs, on its own topology.

    python -m benchmarks.zoo [--only NAME ...] [--out DIR]

writes `docs/zoo.md` from the results in DIR, one JSON file a model, once all are there, and prints
it before. Those that are there already are compiled again only if `--only` names them. Needs the
extra [tpu-compile], and no TPU.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True)
class Entry:
    """A model of the zoo.

    Attributes:
      name: of its file under `gin_configs/hardware/zoo`.
      title: for the table.
      model: file under `gin_configs/models`.
      optimizer: file under `gin_configs/optimizers`.
      before: its MFU as compiled on 2026-11-21, before the compiler's flags of
        `hardware/tpu_flags.gin` and before relative positions had a kernel.
      published: its MFU as published, with the source.
      note: what differs from the paper, for the text below the table.
    """

    name: str
    title: str
    model: str
    optimizer: str
    before: str
    published: str = "–"
    note: str = ""


ZOO = (
    Entry("t5_11b", "T5 11B", "t5_1_0/11b", "adafactor", "41% to 80%",
          note="1,024 TPU v3 chips, as in the paper (section 2.1.2)"),
    Entry("lamda_137b", "LaMDA 137B", "lamda/137b", "adafactor", "50% to 80%", "56.5%",
          note="1,024 TPU v3 chips, as in the paper (section 3); optimizer and length of rows are "
          "not published"),
    Entry("gopher_280b", "Gopher 280B", "gopher/280b", "gopher_adam", "36% to 81%", "32.5%",
          note="four TPU v3 pods, as in the paper, which has a pipeline between them; here they "
          "share the batch. MFU from Chowdhery et al. 2022, table 3"),
    Entry("chinchilla_70b", "Chinchilla 70B", "chinchilla/70b", "chinchilla_adamw", "20% to 39%",
          note="the paper gives no number of chips"),
    Entry("palm_8b", "PaLM 8B", "palm/8b", "palm_adafactor", "34% to 82%",
          note="the paper gives the chips of 540B only"),
    Entry("palm_62b", "PaLM 62B", "palm/62b", "palm_adafactor", "44% to 81%",
          note="the paper gives the chips of 540B only"),
    Entry("palm_540b", "PaLM 540B", "palm/540b", "palm_adafactor", "44% to 82%", "46.2%",
          note="two TPU v4 pods of 3,072 chips, as in the paper; its tensor axis of 12 and batch "
          "of 2,048 become 16 and 1,920, because the compiler wants powers of two"),
    Entry("switch_xxl", "Switch-XXL", "switch/xxl", "adafactor", "24% to 62%",
          note="the paper gives no number of chips"),
    Entry("switch_c", "Switch-C", "switch/c", "adafactor", "12% to 22%",
          note="the paper gives no number of chips; as many cores as experts"),
)  # fmt: skip

HEAD = """# The zoo, compiled

Every published size above 1B whose paper names TPUs, compiled on a machine without one: its
training step, with its batch, optimizer and mesh, by `python -m benchmarks.zoo` (`pip install
't5x-like[tpu-compile]'`). A gin file for each is under `gin_configs/hardware/zoo/`.

* *HBM* is the memory that a device needs, of the memory that the compiler leaves to a program:
  parameters, optimizer state, gradients and activations; the margin is the rest. A device is a
  chip, on TPU v3 half of one.
* *Step* and *MFU* are ranges from the chip's figures, with everything overlapped and with nothing
  overlapped (`t5x_like/cost/roofline.py`). Latency, partly filled matrix units and the vector unit
  are not modelled: a measured MFU may lie below the range, but not above it.
* *Compute* and *HBM time* are what products and memory traffic alone would take.
* *Before* is the MFU of 2026-11-21, without the flags of `hardware/tpu_flags.gin` and without
  kernels for relative positions and biases.
* What stands in the way of a best case of 60% and a worst of 35%, where they are missed:
  [performance](performance.md#the-zoo).
* *Compile* is seconds on {cores} CPU cores, shared with other work unless stated otherwise.

"""


def main() -> int:
    """Compiles and writes; returns how many failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="compile these anew")
    parser.add_argument("--out", default="runs/zoo", help="where results are kept")
    options = parser.parse_args()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for entry in ZOO:
        path = out / f"{entry.name}.json"
        if (options.only and entry.name not in options.only) or (
            path.exists() and not options.only
        ):
            continue
        failed += not compiled(entry, path)
    results = {
        entry.name: json.loads((out / f"{entry.name}.json").read_text())
        for entry in ZOO
        if (out / f"{entry.name}.json").exists()
    }
    if len(results) == len(ZOO):
        (ROOT / "docs" / "zoo.md").write_text(page(results))
    else:
        print(page(results))
    return failed


def compiled(entry: Entry, path: Path) -> bool:
    """Runs `t5x-like compile` in a process of its own; whether it ended well."""
    command = [
        sys.executable, "-m", "t5x_like", "compile",
        f"--gin_file=optimizers/{entry.optimizer}.gin", f"--gin_file=models/{entry.model}.gin",
        f"--gin_file=hardware/zoo/{entry.name}.gin", f"--save={path}",
    ]  # fmt: skip
    print(f"== {entry.title}", flush=True)
    search = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return not subprocess.run(command, env={**os.environ, "PYTHONPATH": search}).returncode


def page(results: dict[str, dict[str, Any]]) -> str:
    """The document."""
    header = ("model", "topology", "mesh", "batch", "HBM", "margin", "compute, s", "HBM time, s",
              "step, s", "MFU", "before", "published", "compile, s")  # fmt: skip
    rows = [row(entry, results[entry.name]) for entry in ZOO if entry.name in results]
    table = ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]
    notes = [f"* {entry.title}: {entry.note}." for entry in ZOO if entry.name in results]
    versions = sorted({(r["date"], r["libtpu"], r["jax"]) for r in results.values()})
    made = [f"Compiled on {d} with libtpu {t} and JAX {j}." for d, t, j in versions]
    head = HEAD.format(cores=os.cpu_count())
    return head + "\n".join([*table, "", *notes, "", *made]) + "\n"


def row(entry: Entry, result: dict[str, Any]) -> list[str]:
    """One line of the table."""
    slices = f"{result['num_slices']} × " if result["num_slices"] > 1 else ""
    mesh = ", ".join(f"{axis} {size}" for axis, size in result["mesh"].items() if size > 1)
    batch = " + ".join(
        f"{shape[0]:,} × {shape[1]:,}"
        for name, shape in result["batch"].items()
        if name in ("encoder_input_tokens", "decoder_target_tokens")
    )
    used, available = (result[key] / 2**30 for key in ("used_bytes", "hbm_bytes"))
    left = f"{1 - used / available:.0%}" if result["fits"] else "does not fit"
    step, mfu, seconds = result["step_seconds"], result["mfu"], result["seconds"]
    return [
        entry.title,
        f"{slices}{result['topology']}, {result['devices']:,} devices",
        mesh,
        batch,
        f"{used:.1f} of {available:.1f} GiB",
        left,
        *(f"{seconds[part]:.2f}" if seconds else "–" for part in ("compute", "hbm")),
        f"{step[0]:.2f} to {step[1]:.2f}" if step else "–",
        f"{mfu[1]:.0%} to {mfu[0]:.0%}" if mfu else "–",
        entry.before,
        entry.published,
        f"{result['compile_seconds']:.0f}",
    ]


if __name__ == "__main__":
    sys.exit(main())
