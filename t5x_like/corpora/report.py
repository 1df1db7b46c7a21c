"""A page on what filters and deduplication left out of a corpus: counts by rule, and examples."""

import html
from collections.abc import Mapping
from typing import Any

_STYLE = """
:root { --ink: #1c1e21; --muted: #62666d; --grid: #e3e5e8; --surface: #fff; --panel: #f5f6f8;
  --bar: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e9ec; --muted: #9ca1a9; --grid: #34383f;
  --surface: #16181c; --panel: #1f2227; --bar: #66b5e8; } }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 64rem; background: var(--surface);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; overflow-wrap: anywhere; } h2 { margin-top: 2.5rem; font-size: 1.2rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; text-align: right; border-bottom: 1px solid var(--grid); }
th:first-child, td:first-child { text-align: left; }
td.share { width: 40%; }
td.share div { height: .8rem; background: var(--bar); }
details { margin: .5rem 0; } summary { cursor: pointer; }
pre { margin: .5rem 0; padding: .6rem .8rem; border-radius: 6px; background: var(--panel);
  white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; }
.muted { color: var(--muted); }
"""


def page(summary: Mapping[str, Any]) -> str:
    """One self-contained HTML page.

    Args:
      summary: as `rewrite.rewrite` returns it.
    """
    title = html.escape(str(summary["title"]))
    parts = [_split(name, counts) for name, counts in summary["splits"].items()]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        f"{''.join(parts)}</body>\n</html>\n"
    )


def _split(name: str, counts: Mapping[str, Any]) -> str:
    read, written = counts["read"], counts["written"]
    share = written / read if read else 0.0
    found = [
        f"<h2>{html.escape(name)}</h2>\n<p>{written:,} of {read:,} documents are kept "
        f"({share:.1%}), in {counts['files']:,} files of {counts['bytes'] / 1e6:,.1f} MB.</p>\n"
    ]
    for kind, of in (("document", read), ("line", None)):
        reasons = _of_kind(counts["dropped"], kind)
        if reasons:
            found.append(_table(kind, reasons, of))
            found += [_examples(kind, reason, counts["examples"]) for reason in reasons]
    return "".join(found)


def _of_kind(dropped: Mapping[str, int], kind: str) -> dict[str, int]:
    ordered = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
    mark = f"{kind}: "
    return {name.removeprefix(mark): count for name, count in ordered if name.startswith(mark)}


def _table(kind: str, reasons: Mapping[str, int], of: int | None) -> str:
    """The counts; shares are of all documents, and of lines of those that were cut out."""
    whole = of or sum(reasons.values())
    rows = "".join(
        f"<tr><td>{html.escape(reason)}</td><td>{count:,}</td><td>{count / whole:.2%}</td>"
        f'<td class="share"><div style="width: {100 * count / whole:.2f}%"></div></td></tr>\n'
        for reason, count in reasons.items()
    )
    total = sum(reasons.values())
    heads = f"<tr><th>{kind}s dropped: {total:,}</th><th>{kind}s</th><th>share</th><th></th></tr>"
    return f"<table>\n<thead>{heads}</thead>\n<tbody>\n{rows}</tbody>\n</table>\n"


def _examples(kind: str, reason: str, examples: Mapping[str, Any]) -> str:
    texts = examples.get(f"{kind}: {reason}", ())
    if not texts:
        return ""
    shown = "".join(f"<pre>{html.escape(text) or '&nbsp;'}</pre>\n" for text in texts)
    return (
        f"<details><summary>{kind}s dropped as <b>{html.escape(reason)}</b>: {len(texts)} "
        f"examples</summary>\n{shown}</details>\n"
    )
