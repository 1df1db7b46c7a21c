"""Draws the loss of the quickstart's decoder for the README.

python docs/pictures/quickstart_loss.py runs/quickstart/lm
"""

import json
import sys
from pathlib import Path

WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 60, 570, 22, 254
HIGHEST, LOWEST = 3.6, 1.2
# Of the bytes of the training text by their frequency, in nats.
UNIGRAM_ENTROPY = 3.27
BLUE, ORANGE = "#4a78c2", "#cf8a35"


def svg(records: list[dict], batch_bytes: int = 32 * 256) -> str:
    """The picture of a run's records, those of training and of the validation split."""
    losses = {
        split: [(one["step"], one["loss"]) for one in records if one["split"] == split]
        for split in ("train", "validation")
    }
    train, held_out = losses["train"], losses["validation"]
    last = train[-1][0]

    def x(step: float) -> str:
        return f"{LEFT + (RIGHT - LEFT) * step / last:.1f}"

    def y(loss: float) -> str:
        return f"{TOP + (BOTTOM - TOP) * (HIGHEST - loss) / (HIGHEST - LOWEST):.1f}"

    def text(at: str, words: object, anchor: str = "middle") -> str:
        return f'<text {at} text-anchor="{anchor}">{words}</text>'

    title = (
        f"Loss of the quickstart's decoder: {train[0][1]:.2f} nats per byte at step {train[0][0]}, "
        f"{train[-1][1]:.2f} at step {last}, {held_out[-1][1]:.2f} on held-out files then."
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="13" role="img" aria-labelledby="title">',
        f'<title id="title">{title}</title>',
        "<style>text { fill: #333 } .grid { stroke: #e3e3e3 } .axis { stroke: #777 }</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="10" fill="#fff"/>',
    ]
    for loss in (1.5, 2.0, 2.5, 3.0, 3.5):
        lines.append(f'<line class="grid" x1="{LEFT}" y1="{y(loss)}" x2="{RIGHT}" y2="{y(loss)}"/>')
        lines.append(text(f'x="{LEFT - 8}" y="{y(loss)}" dy="4"', loss, "end"))
    lines.append(f'<path class="axis" d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}" fill="none"/>')
    lines += [text(f'x="{x(at)}" y="{BOTTOM + 18}"', at) for at in range(0, last + 1, 40)]
    middle, centre = (LEFT + RIGHT) // 2, (TOP + BOTTOM) // 2
    lines.append(text(f'x="{middle}" y="{HEIGHT - 8}"', f"updates of {batch_bytes:,} bytes"))
    lines.append(text(f'transform="translate(18 {centre}) rotate(-90)"', "loss, nats per byte"))
    level = y(UNIGRAM_ENTROPY)
    lines.append(
        f'<path d="M{LEFT} {level}H{RIGHT}" stroke="#999" stroke-dasharray="6 4"/>'
        + text(f'x="{RIGHT + 8}" y="{level}" dy="4"', "bytes by frequency", "start")
    )
    points = " ".join(f"{x(step)},{y(loss)}" for step, loss in train)
    line = f'fill="none" stroke="{BLUE}" stroke-width="2.2"'
    lines.append(f'<polyline {line} points="{points}"/>')
    lines += [f'<circle cx="{x(at)}" cy="{y(loss)}" r="2.6" fill="{BLUE}"/>' for at, loss in train]
    diamond = f'l6 6 -6 6 -6 -6z" transform="translate(0 -6)" fill="{ORANGE}"/>'
    lines += [f'<path d="M{x(at)} {y(loss)}{diamond}' for at, loss in held_out]
    lines.append(f'<path {line} d="M428 143h26"/>' + text('x="462" y="147"', "training", "start"))
    lines.append(f'<path d="M441 165{diamond}' + text('x="462" y="169"', "held-out files", "start"))
    return "\n".join([*lines, "</svg>"]) + "\n"


if __name__ == "__main__":
    text = (Path(sys.argv[1]) / "metrics.jsonl").read_text("utf-8")
    found = [json.loads(line) for line in text.splitlines()]
    Path(__file__).with_suffix(".svg").write_text(svg(found), "utf-8")
