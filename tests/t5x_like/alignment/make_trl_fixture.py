"""Writes `trl.json`: what TRL 0.21.0's PPOTrainer makes of fixed arrays.

python tests/t5x_like/alignment/make_trl_fixture.py, in an environment with trl 0.21.0 and torch.
The trainer has its formulas in the middle of a method: they are run from its source, as they are.
"""

import inspect
import json
import textwrap
from pathlib import Path
from types import SimpleNamespace

import torch
import trl
from trl.core import masked_mean, masked_whiten
from trl.trainer import ppo_trainer

assert trl.__version__ == "0.21.0"
SOURCE = inspect.getsource(ppo_trainer.PPOTrainer.train)
B, T = 3, 5


def run(first, last, names):
    """Runs the source from the line with `first` to before the line with `last`."""
    lines = SOURCE.splitlines()
    begin = next(i for i, line in enumerate(lines) if first in line)
    end = next(i for i, line in enumerate(lines) if last in line and i > begin)
    exec(textwrap.dedent("\n".join(lines[begin:end])), names)
    return names


def main():
    generator = torch.Generator().manual_seed(0)

    def draw(scale):
        return (scale * torch.randn(B, T, generator=generator)).double()

    args = SimpleNamespace(
        kl_coef=0.05, kl_estimator="k1", whiten_rewards=False, gamma=0.98, lam=0.95,
        cliprange=0.2, cliprange_value=0.2, vf_coef=0.1,
    )  # fmt: skip
    # All answers are as long as a row: there TRL has the score at the last token.
    none = torch.zeros(B, T, dtype=torch.bool)
    given = {
        "logprobs": -draw(1.0).abs(), "ref_logprobs": -draw(1.0).abs(), "values": draw(1.0),
        "scores": draw(2.0)[:, 0],
    }  # fmt: skip
    found = {name: value.tolist() for name, value in given.items()}
    for estimator in ("k3", "k1"):
        args.kl_estimator = estimator
        names = run("# 4. compute rewards", "empty_cache()", {
            **{name: value.clone() for name, value in given.items()},
            "args": args, "torch": torch, "masked_whiten": masked_whiten,
            "padding_mask": none, "padding_mask_p1": none, "responses": torch.zeros(B, T),
            "sequence_lengths": torch.full((B,), T - 1),
            "sequence_lengths_p1": torch.full((B,), T),
        })  # fmt: skip
        found[f"rewards_{estimator}"] = names["rewards"].tolist()
        raw = names["returns"] - names["values"]
        found[f"raw_advantages_{estimator}"] = raw.tolist()
        found[f"advantages_{estimator}"] = names["advantages"].tolist()
    found["returns_k1"] = names["returns"].tolist()
    # Answers of 5, 3 and 4 tokens, after an update.
    lengths = torch.tensor([5, 3, 4])
    padding = torch.arange(T) >= lengths[:, None]
    new, values = given["logprobs"] + draw(0.3), given["values"] + draw(0.3)
    names = run("vpredclipped = torch.clamp(", "accelerator.backward", {
        "args": args, "torch": torch, "masked_mean": masked_mean, "vpred": values,
        "mb_values": given["values"], "mb_return": names["returns"], "new_logprobs": new,
        "mb_logprobs": given["logprobs"], "mb_advantage": names["advantages"],
        "padding_mask": padding, "padding_mask_p1": padding,
        "micro_batch_inds": torch.arange(B),
    })  # fmt: skip
    found |= {"lengths": lengths.tolist(), "new": new.tolist(), "new_values": values.tolist()}
    found |= {name: names[name].item() for name in ("pg_loss", "vf_loss", "loss", "vf_clipfrac")}
    found["whitened"] = masked_whiten(given["values"], ~padding).tolist()
    found["whitened_around_the_mean"] = masked_whiten(
        given["values"], ~padding, shift_mean=False
    ).tolist()
    Path(__file__).with_name("trl.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
