"""The parts of a self-contained HTML report: tables, bars, histograms, dialogues and word-level diffs.

The parts are `Markup`; whatever text goes into one is escaped. A page needs no font and no other file, follows
the reader's light or dark setting, and fits a window of 390 pixels.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import chain, groupby, pairwise

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from stages.corpus.dialogue import MASK_OR_SPEAKER

_NOTHING = Markup()

# Digits and jamo are noise where they hang on to a word, so that a diff shows them by themselves.
_PIECE = re.compile(rf"{MASK_OR_SPEAKER.pattern}|\\n|\d+|[ㄱ-ㅣ]+|[^\W\dㄱ-ㅣ]+|\W")

_LEFT, _RIGHT, _TOP, _BOTTOM, _HEIGHT = 40, 316, 12, 108, 130
"""The edges of a histogram's plot, and the height of the whole with its labels."""

_STYLE = Markup("""
:root { color-scheme: light dark; --page: #fbfbfa; --card: #fff; --text: #1d2126; --quiet: #616973;
  --line: #dfe2e6; --first: #8b919b; --second: #2f6bd6; --third: #14866a; --tag: #2f5fb8;
  --ins: #d3f3df; --ins-text: #0b5a34; --del: #fde0de; --del-text: #94211a; }
@media (prefers-color-scheme: dark) { :root {
  --page: #15181c; --card: #1c2025; --text: #e4e7eb; --quiet: #9aa3ae; --line: #333a42;
  --first: #848d99; --second: #6f9ff2; --third: #45b896; --tag: #8fb4f5;
  --ins: #143f2b; --ins-text: #a3ebc4; --del: #4d2322; --del-text: #ffbdb6; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); line-height: 1.55; word-break: keep-all;
  overflow-wrap: anywhere; font-size: 15px; font-family: system-ui, -apple-system, "Segoe UI",
  "Apple SD Gothic Neo", "Malgun Gothic", "Noto Sans KR", "Noto Sans CJK KR", NanumGothic, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 32px 16px 64px; }
h1 { font-size: 28px; line-height: 1.25; margin: 0 0 4px; }
h2 { font-size: 20px; margin: 0 0 4px; }
h3 { font-size: 15px; margin: 24px 0 8px; }
p { margin: 0 0 12px; color: var(--quiet); max-width: 76ch; }
nav { display: flex; flex-wrap: wrap; gap: 4px 16px; }
a { color: var(--tag); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 20px;
  margin-top: 20px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 8px; text-align: right; white-space: nowrap; font-weight: 400;
  border-bottom: 1px solid var(--line); }
td { width: 11%; }
thead th { color: var(--quiet); }
thead tr:first-child th { border-bottom: 0; color: var(--text); font-weight: 600; text-align: center; }
th.name { text-align: left; position: sticky; left: 0; background: var(--card); }
.start { border-left: 1px solid var(--line); }
td.nothing { color: var(--quiet); opacity: .6; }
.charts, .texts { display: grid; gap: 12px; align-items: start; }
.charts { grid-template-columns: repeat(auto-fit, minmax(min(100%, 240px), 1fr)); }
.texts { grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); }
figure { margin: 0 0 8px; }
figcaption { font-size: 13px; color: var(--quiet); }
svg { display: block; width: 100%; max-width: 420px; overflow: visible; }
svg text { fill: var(--quiet); font-size: 12px; }
svg line { stroke: var(--line); }
rect { fill: var(--first); }
figure:nth-child(2) rect { fill: var(--second); }
figure:nth-child(n+3) rect { fill: var(--third); }
.bars { display: grid; grid-template-columns: fit-content(50%) 1fr max-content; gap: 4px 10px; align-items: center;
  font-size: 13px; font-variant-numeric: tabular-nums; }
.bars i { display: block; height: 12px; border-radius: 2px; background: var(--second); min-width: 1px; }
article { border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; font-size: 14px; }
h4 { margin: 0 0 6px; font-size: 13px; font-weight: 600; color: var(--quiet); }
.text { white-space: pre-wrap; }
.records thead tr > th, .records td { text-align: left; width: auto; }
.records td:last-child { white-space: normal; min-width: 16em; width: 100%; }
.scroll + p, .bars + p { margin-top: 12px; }
.text b { color: var(--tag); font-weight: 600; }
ins { background: var(--ins); color: var(--ins-text); text-decoration: none; border-radius: 2px; }
del { background: var(--del); color: var(--del-text); border-radius: 2px; }
@media (max-width: 480px) { section { padding: 16px 12px; } }
""")

_PAGE = Markup("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'{allowed}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{lead}</p>
<nav>{links}</nav>
{body}</main>
{script}</body>
</html>
""")

_SECTION = Markup("""<section id="{name}">
<h2>{name}</h2>
{content}</section>
""")

_TABLE = Markup("""<div class="scroll"><table>
<thead>
<tr><th class="name"></th>{groups}</tr>
<tr><th class="name"></th>{names}</tr>
</thead>
<tbody>
{body}</tbody>
</table></div>
""")

_CHART = Markup("""<figure><figcaption>{name}</figcaption>
<svg viewBox="0 0 {right} {height}" role="img" aria-label="{name}: percentage of the values in each bin">
<text x="{label}" y="{top}" dy="4" text-anchor="end">{ceiling:.0f}%</text>
<line x1="{left}" x2="{right}" y1="{top}" y2="{top}"/>
{bars}<line x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>
{ticks}</svg></figure>
""")

_CHART_BAR = Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}: {:.1f}%</title></rect>\n')
_CHART_TICK = Markup('<text x="{:.1f}" y="{}" dy="15" text-anchor="middle">{:,}</text>\n')
_GROUP = Markup('<th class="start" colspan="{}" scope="colgroup">{}</th>')
_ROW = Markup('<tr><th class="name" scope="row">{}</th>{}</tr>\n')
_BAR = Markup('<span>{}</span><i style="width:{:.1f}%"></i><span>{}</span>\n')
_ARTICLE = Markup('<article lang="ko"><h4>{}</h4><div class="text">{}</div></article>\n')
_RECORDS = Markup("""<div class="scroll"><table class="records">
<thead><tr>{}</tr></thead>
<tbody>
{}</tbody>
</table></div>
""")


def page(
    title: str, lead: str, sections: Mapping[str, Markup], *, style: Markup = _NOTHING, script: Markup = _NOTHING
) -> str:
    """A whole page: its title, a paragraph, and sections by their one-word headings, linked at the top.

    Args:
        style: rules beside those that every page has.
        script: what the page does, if anything; no other script may run in it.
    """
    links = _join(Markup('<a href="#{0}">{0}</a>').format(name) for name in sections)
    body = _join(_SECTION.format(name=name, content=content) for name, content in sections.items())
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return str(
        _PAGE.format(
            title=title,
            allowed=Markup("; script-src 'sha256-{}'").format(digest) if script else "",
            style=_STYLE + style,
            lead=lead,
            links=links,
            body=body,
            script=Markup("<script>{}</script>\n").format(script) if script else "",
        )
    )


def heading(text: str) -> Markup:
    return Markup("<h3>{}</h3>\n").format(text)


def paragraph(text: str) -> Markup:
    return Markup("<p>{}</p>\n").format(text)


def number(value: float | None) -> str:
    """A number to one decimal, which is left out where it is 0: `1,234`, `21.9`. None is a dash."""
    return "–" if value is None else f"{value:,.1f}".removesuffix(".0")


def table(columns: Mapping[tuple[str, str], Mapping[str, float | None]]) -> Markup:
    """Numbers in columns, each headed by its group and its name; the rows are named as in the first column.

    It scrolls sideways where it is wider than the window.
    """
    groups = [(group, len(list(run))) for group, run in groupby(group for group, _ in columns)]
    starts = list(chain.from_iterable([True] + [False] * (size - 1) for _, size in groups))
    rows = {row: [column[row] for column in columns.values()] for row in next(iter(columns.values()))}
    return _TABLE.format(
        groups=_join(_GROUP.format(size, group) for group, size in groups),
        names=_join(_cell("th", name, start) for (_, name), start in zip(columns, starts, strict=True)),
        body=_join(
            _ROW.format(row, _join(_cell("td", number(v), start) for v, start in zip(values, starts, strict=True)))
            for row, values in rows.items()
        ),
    )


def _cell(tag: str, text: str, starts_group: bool) -> Markup:
    classes = ["start"] * starts_group + ["nothing"] * (text in ("0", "–"))
    return Markup('<{0} class="{1}">{2}</{0}>' if classes else "<{0}>{2}</{0}>").format(tag, " ".join(classes), text)


def records(frame: pd.DataFrame) -> Markup:
    """A table of text, as it is."""
    rows = (_join(map(Markup("<td>{}</td>").format, row)) for row in frame.itertuples(index=False, name=None))
    header = _join(map(Markup('<th scope="col">{}</th>').format, frame.columns))
    return _RECORDS.format(header, _join(map(Markup("<tr>{}</tr>\n").format, rows)))


def bars(counts: Mapping[str, int]) -> Markup:
    """A horizontal bar for each count; the largest is as wide as there is room."""
    longest = max(counts.values(), default=0) or 1
    lines = (_BAR.format(name, 100 * count / longest, number(count)) for name, count in counts.items())
    return Markup('<div class="bars" lang="ko">\n{}</div>\n').format(_join(lines))


def histograms(series: Mapping[str, Sequence[float]]) -> Markup:
    """Histograms of several series side by side, with the same bins and the same scale."""
    pooled = [value for values in series.values() for value in values]
    if not pooled:
        return paragraph("No values.")
    edges = bins(pooled)
    heights = {name: percentages(values, edges) for name, values in series.items()}
    ceiling = max(max(column) for column in heights.values())
    charts = (_chart(name, edges, column, ceiling) for name, column in heights.items())
    return Markup('<div class="charts">\n{}</div>\n').format(_join(charts))


def bins(values: Sequence[float], most: int = 20) -> list[int]:
    """The lower edges of at most `most` bins over 99% of the values, in steps of 1, 2, 5, 10, 20, 50, ..."""
    low, high = np.percentile(values, [0, 99])
    steps = (digit * 10**power for power in range(12) for digit in (1, 2, 5))
    step = next(step for step in steps if high // step - low // step < most)
    return [step * n for n in range(int(low // step), int(high // step) + 1)]


def percentages(values: Sequence[float], edges: Sequence[int]) -> list[float]:
    """The percentage of the values from each edge up to the next; the last bin has no upper end."""
    counts, _ = np.histogram(values, [*edges, math.inf])
    return [100 * int(count) / max(1, len(values)) for count in counts]


def _chart(name: str, edges: Sequence[int], column: Sequence[float], ceiling: float) -> Markup:
    width = (_RIGHT - _LEFT) / len(edges)
    heights = [(_BOTTOM - _TOP) * percentage / ceiling for percentage in column]
    lefts = [_LEFT + width * n for n in range(len(edges))]
    spans = [f"{edge:,}" if edge == end - 1 else f"{edge:,}–{end - 1:,}" for edge, end in pairwise(edges)]
    spans.append(f"{edges[-1]:,} or more")
    every = math.ceil(len(edges) / 5)
    # A bin of one number is labelled under its middle, a wider one where it begins.
    shift = width / 2 if edges[-1] - edges[0] == len(edges) - 1 else 0
    return _CHART.format(
        name=name,
        ceiling=ceiling,
        bars=_join(
            _CHART_BAR.format(left + 0.5, _BOTTOM - height, width - 1, height, span, percentage)
            for left, height, span, percentage in zip(lefts, heights, spans, column, strict=True)
        ),
        ticks=_join(
            _CHART_TICK.format(left + shift, _BOTTOM, edge)
            for left, edge in zip(lefts[::every], edges[::every], strict=True)
        ),
        label=_LEFT - 6,
        left=_LEFT,
        right=_RIGHT,
        top=_TOP,
        bottom=_BOTTOM,
        height=_HEIGHT,
    )


def texts(articles: Mapping[str, Markup]) -> Markup:
    """Passages of Korean text under their headings, two in a row where there is room."""
    return Markup('<div class="texts">\n{}</div>\n').format(
        _join(_ARTICLE.format(title, text) for title, text in articles.items())
    )


def dialogue(text: str) -> Markup:
    """A dialogue with its speaker tags and masks set off."""
    return Markup(MASK_OR_SPEAKER.sub(r"<b>\g<0></b>", str(escape(text))))


def row(text: str, summary: str) -> Markup:
    """A dialogue and, a line below, its summary."""
    return dialogue(text) + Markup("\n\n<em>Summary</em> ") + dialogue(summary)


def diff(before: str, after: str) -> Markup:
    """What turned `before` into `after`, word by word, as `<del>` and `<ins>`; white space in them shows."""
    old, new = _PIECE.findall(before), _PIECE.findall(after)
    marked = Markup()
    for kind, i, j, k, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            marked += "".join(old[i:j])
            continue
        if i < j:
            marked += Markup("<del>{}</del>").format(_visible(old[i:j]).replace("\n", "↵"))
        if k < m:
            marked += Markup("<ins>{}</ins>").format(_visible(new[k:m]).replace("\n", "↵\n"))
    return marked


def _visible(pieces: Sequence[str]) -> str:
    return "".join(pieces).replace("\r", "␍").replace(" ", "␣")


def _join(parts: Iterable[Markup]) -> Markup:
    return Markup().join(parts)
