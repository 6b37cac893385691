"""The report of an evaluation: one self-contained page with scores, their groups, and every row to browse."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from stages.pages import html_parts
from stages.pages.highlight import overlap
from stages.scoring.bootstrap import Interval, interval
from stages.scoring.morphemes import Cutter, Morpheme, joined
from stages.scoring.prediction_checks import CHECKS, length_ratio
from stages.scoring.rouge import Scores, Text, mean
from stages.scoring.scored_rows import ScoredRow, by_length, by_speakers, by_topic_word

Scored = tuple[Sequence[ScoredRow], Mapping[str, Sequence[Scores]]]
"""The rows of a split, and for each baseline its scores of the same rows."""

MEANING = {
    "swapped_speakers": "What two speakers do fits what they say better with their tags exchanged. Of the sample's "
    "references, 57% are found when their speakers are exchanged, and 5% as they are.",
    "silent_speakers": "A speaker tag that does not speak in the dialogue.",
    "invented": "A number in digits, a Latin word or a mask that is not in the dialogue.",
    "missing_masks": "A mask that every reference has and the summary has not.",
    "repeats": "Three words that occur twice.",
    "not_korean": "Less than 30% of the letters are Hangul.",
    "length": "Less than half of the references' mean length, or more than twice.",
}
"""What each check finds, for the reader of the report."""

_STYLE = Markup("""
:root { --one: #e3ecfb; --two: #b9d2fa; --flag: #8a4b00; --flag-back: #fdeccf; }
@media (prefers-color-scheme: dark) { :root { --one: #23324a; --two: #2f4f86; --flag: #ffd699; --flag-back: #4a3512; } }
.intervals { display: grid; grid-template-columns: max-content 1fr max-content; gap: 4px 10px; align-items: center;
  font-size: 13px; font-variant-numeric: tabular-nums; }
.intervals i { position: relative; display: block; height: 12px; }
.intervals u, .intervals s { position: absolute; top: 0; left: 0; height: 12px; border-radius: 2px; }
.intervals u { background: var(--second); }
.intervals s { top: 4px; height: 4px; background: var(--text); opacity: .55; }
.intervals .baseline u { background: var(--first); }
.scroll { margin-top: 8px; }
thead tr:only-child th { text-align: right; font-weight: 400; color: var(--quiet); }
thead tr:only-child th.name, thead tr:only-child th.word, td.word { text-align: left; }
td.word { white-space: normal; width: auto; min-width: 20em; }
tr.chosen td, tr.chosen th { font-weight: 600; }
mark { color: inherit; border-radius: 2px; background: var(--one); }
mark.two { background: var(--two); }
.controls { display: flex; flex-wrap: wrap; gap: 8px 12px; align-items: end; margin: 0 0 12px; font-size: 13px; }
.controls[hidden] { display: none; }
.controls label { display: grid; gap: 2px; color: var(--quiet); }
.controls input, .controls select, .controls button { font: inherit; color: var(--text); background: var(--page);
  border: 1px solid var(--line); border-radius: 6px; padding: 4px 8px; min-height: 32px; max-width: 100%; }
.controls output { margin-left: auto; color: var(--quiet); }
.row { border-top: 1px solid var(--line); }
.row[hidden] { display: none; }
.row > summary { display: grid; grid-template-columns: 5.5em 3.5em 4em 1fr; gap: 2px 10px; padding: 8px 4px;
  cursor: pointer; font-size: 13px; font-variant-numeric: tabular-nums; list-style: none; }
.row > summary::-webkit-details-marker { display: none; }
.row > summary:hover, .row[open] > summary { background: var(--page); }
.row > summary span { text-align: right; color: var(--quiet); }
.row > summary span:nth-child(2) { color: var(--text); font-weight: 600; }
.row > summary p { margin: 0; max-width: none; color: var(--text); display: -webkit-box; -webkit-line-clamp: 2;
  -webkit-box-orient: vertical; overflow: hidden; }
.row em { font-style: normal; font-size: 12px; color: var(--flag); background: var(--flag-back); border-radius: 4px;
  padding: 1px 5px; margin-right: 4px; white-space: nowrap; }
.row ul { margin: 0 0 10px; padding: 0; list-style: none; font-size: 13px; }
.row .opened { padding: 4px 4px 16px; }
.row .texts > div { display: grid; gap: 8px; }
@media (max-width: 640px) { .intervals { grid-template-columns: 1fr max-content; grid-auto-flow: dense; gap: 2px 10px; }
  .intervals i { grid-column: 1 / -1; margin-bottom: 6px; }
  .row > summary { grid-template-columns: 1fr 4em 4em; }
  .row > summary p { grid-column: 1 / -1; }
  .controls label { flex: 1 1 40%; } .controls label:first-child { flex-basis: 100%; }
  .controls input, .controls select { width: 100%; } }
""")

_SCRIPT = Markup("""
const list = document.getElementById("list");
const rows = [...list.children];
const [search, split, flag, key, turn, count] =
  ["search", "split", "flag", "key", "turn", "count"].map((id) => document.getElementById(id));
const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));

function shown(row) {
  const flags = row.dataset.flags.split(" ").filter(Boolean);
  return (!split.value || row.dataset.split === split.value)
    && (!flag.value || (flag.value === "none" ? !flags.length : flag.value === "any" ? flags.length
      : flags.includes(flag.value)))
    && texts.get(row).includes(search.value.trim().toLowerCase());
}

function update() {
  const sign = turn.value === "up" ? 1 : -1;
  const place = (row) => Number(row.dataset[key.value]);
  rows.sort((a, b) => sign * (place(a) - place(b)) || a.dataset.order - b.dataset.order);
  for (const row of rows) row.hidden = !shown(row);
  list.append(...rows);
  count.value = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
}

for (const control of [search, split, flag, key, turn]) control.addEventListener("input", update);
document.getElementById("controls").hidden = false;
update();
""")

_INTERVAL = Markup(
    '<span class="{0}">{1}</span><i class="{0}"><u style="width:{2:.2f}%"></u>'
    '<s style="left:{3:.2f}%;width:{4:.2f}%"></s></i><span>{5:.1f}{6}</span>\n'
)
_BOUNDS = Markup(" <small>({:.1f}–{:.1f})</small>")
_PLAIN_TABLE = Markup('<div class="scroll"><table>\n<thead><tr>{}</tr></thead>\n<tbody>\n{}</tbody>\n</table></div>\n')
_CONTROLS = Markup("""<div class="controls" id="controls" hidden>
<label>Search<input id="search" type="search"></label>
<label>Split<select id="split"><option value="">all</option>{splits}</select></label>
<label>Flag<select id="flag"><option value="">all rows</option><option value="any">any flag</option>
<option value="none">no flag</option>{flags}</select></label>
<label>Sort by<select id="key">{keys}</select></label>
<label>Order<select id="turn"><option value="up">lowest first</option><option value="down">highest first</option>
</select></label>
<output id="count"></output>
</div>
""")
_OPTION = Markup('<option value="{}">{}</option>')
_KEYS = {
    "final": "mean ROUGE",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougel": "ROUGE-L",
    "ratio": "length ratio",
    "length": "dialogue length",
    "order": "order in the table",
}
_ROW = Markup("""<details class="row" data-split="{split}" data-flags="{flags}"{places}>
<summary><b>{fname}</b><span>{final:.1f}</span><span>× {ratio:.2f}</span><p lang="ko">{badges}{summary}</p></summary>
<div class="opened">
{findings}<div class="texts"><div>{left}</div><div>{right}</div></div>
</div></details>
""")
_ARTICLE = Markup('<article lang="ko"><h4>{}</h4><div class="text">{}</div></article>\n')


def report(scored: Mapping[str, Scored], decoding: Mapping[str, Any], cut: Cutter) -> str:
    """The page.

    Args:
        scored: by split; one without references is left out.
        decoding: the contents of metrics/eval/decoding.json.
        cut: finds the morphemes whose overlap is marked in the summaries.
    """
    lead = (
        "ROUGE F1 from 0 to 100: the mean over a row's references, then over rows. Intervals hold 95% of 10,000 "
        "bootstrap samples of the rows. Where no level is named, it is the morpheme level."
    )
    sections = {
        "Scores": scores(scored),
        "Decoding": search(decoding),
        "Groups": groups(scored),
        "Checks": checks(scored),
        "Rows": browser(scored, cut),
    }
    return html_parts.page("How good the summaries are", lead, sections, style=_STYLE, script=_SCRIPT)


def scores(scored: Mapping[str, Scored]) -> Markup:
    """Each split's mean scores beside the baselines'."""
    if not scored:
        return html_parts.paragraph("No split has references.")
    part = html_parts.paragraph(
        "Word and morpheme are as the package rouge 1.0.1 counts, where a repeated n-gram counts once; clipped is as "
        "rouge_score counts, on morphemes."
    )
    for split, (rows, baselines) in scored.items():
        levels = {
            "word": [row.word for row in rows],
            "morpheme": [row.morpheme for row in rows],
            "clipped": [row.clipped for row in rows],
        }
        part += html_parts.heading(f"{split}: {len(rows):,} rows")
        part += interval_bars(
            {f"model, {level}": finals(of) for level, of in levels.items()},
            {f"{name}, morpheme": finals(of) for name, of in baselines.items()},
        )
        means = {level: mean(of).rounded() for level, of in levels.items()}
        part += plain_table(
            ["", "ROUGE-1", "ROUGE-2", "ROUGE-L", "mean"],
            [[f"model, {level}", *(f"{value:.2f}" for value in of.values())] for level, of in means.items()],
        )
    return part


def finals(of: Sequence[Scores]) -> Interval:
    return interval([score.final for score in of])


def search(decoding: Mapping[str, Any]) -> Markup:
    """What was tried on dev, what was chosen, and what that gained; a run that did not search says so."""
    chosen = decoding["chosen"]
    part = html_parts.paragraph(f"Chosen: {', '.join(f'{name} {_shown(value)}' for name, value in chosen.items())}.")
    tried = decoding.get("tried", [])
    if not tried:
        return part + html_parts.paragraph("These settings are those of params.yaml; nothing else was tried.")
    if gain := decoding.get("cross_validated"):
        part += html_parts.paragraph(
            f"On {gain['samples']:,} dialogues, each half with what the other half chose, tuned settings score "
            f"{gain['chosen']:.2f}, and those of params.yaml {gain['fixed']:.2f}."
        )
    names = list(dict.fromkeys(name for candidate in tried for name in candidate))
    cells = {name: [_shown(candidate.get(name, "–")) for candidate in tried] for name in names}
    # What all have in common stands above.
    telling = [name for name in names if len(set(cells[name])) > 1 or name == "final"]
    return part + plain_table(
        ["", *telling],
        [[f"{row + 1}", *(cells[name][row] for name in telling)] for row in range(len(tried))],
        chosen=[all(candidate.get(name, value) == value for name, value in chosen.items()) for candidate in tried],
    )


def groups(scored: Mapping[str, Scored]) -> Markup:
    """Mean scores of groups of rows, by length, speakers and topic."""
    part = Markup()
    kinds: dict[str, Callable[[Sequence[ScoredRow]], dict[str, list[ScoredRow]]]] = {
        "characters in the dialogue": by_length,
        "speakers in the dialogue": by_speakers,
        "words in the topic": by_topic_word,
    }
    for title, group in kinds.items():
        for split, (rows, _) in scored.items():
            part += html_parts.heading(f"{split}, by {title}")
            found = group(rows)
            part += (
                interval_bars(
                    {f"{name} (n = {len(of):,})": finals([row.morpheme for row in of]) for name, of in found.items()}
                )
                if found
                else html_parts.paragraph("Topics have no word that three rows share.")
            )
    return part


def checks(scored: Mapping[str, Scored]) -> Markup:
    """How many rows each check flags."""
    note = html_parts.paragraph("What ROUGE does not see, as the percentage of rows in which a check finds something.")
    counts = {
        name: [100 * sum(name in row.findings for row in rows) / len(rows) for rows, _ in scored.values()]
        for name in CHECKS
    }
    return note + plain_table(
        ["", *scored, "what it finds"],
        [[name, *(f"{value:.1f}" for value in values), MEANING[name]] for name, values in counts.items()],
    )


def browser(scored: Mapping[str, Scored], cut: Cutter) -> Markup:
    """Every row, the worst first, to be opened, searched, filtered and sorted."""
    note = html_parts.paragraph(
        "The worst rows come first: name, mean ROUGE, length as a share of the references', flags and summary. "
        "A row opens with a click. Marked in the summary is what any reference has too, and in a reference what the "
        "summary has: pairs of morphemes strongly, single ones lightly."
    )
    every = [(split, row) for split, (rows, _) in scored.items() for row in rows]
    found = [name for name in CHECKS if any(name in row.findings for _, row in every)]
    controls = _CONTROLS.format(
        splits=_options({split: split for split in scored}),
        flags=_options({name: _words(name) for name in found}),
        keys=_options(_KEYS),
    )
    texts = list(dict.fromkeys(text for _, row in every for text in (row.summary, *row.references)))
    cuts = dict(zip(texts, cut(texts), strict=True))
    ordered = sorted(enumerate(every), key=lambda item: (item[1][1].morpheme.final, item[0]))
    shown = (_row(order, split, row, cuts) for order, (split, row) in ordered)
    return note + controls + Markup('<div id="list">\n{}</div>\n').format(_join(shown))


def interval_bars(means: Mapping[str, Interval], baselines: Mapping[str, Interval] | None = None) -> Markup:
    """A bar for each mean with its interval as a line in it; those of baselines are grey."""
    every = {**means, **(baselines or {})}
    scale = 100 / (max(each.high for each in every.values()) or 1)
    lines = (
        _INTERVAL.format(
            "model" if name in means else "baseline",
            name,
            scale * each.mean,
            scale * each.low,
            scale * (each.high - each.low),
            each.mean,
            _BOUNDS.format(each.low, each.high) if each.low < each.high else "",
        )
        for name, each in every.items()
    )
    return Markup('<div class="intervals">\n{}</div>\n').format(_join(lines))


def plain_table(header: Sequence[str], rows: Sequence[Sequence[str]], chosen: Sequence[bool] = ()) -> Markup:
    """Texts in a table whose first column names the rows; a chosen row is bold."""
    head = _join(_cell("th", text, first) for first, text in _firsts(header))
    lines = [_join(_cell("th" if first else "td", text, first) for first, text in _firsts(row)) for row in rows]
    marks = chosen or [False] * len(rows)
    body = _join(
        Markup('<tr class="chosen">{}</tr>\n' if mark else "<tr>{}</tr>\n").format(line)
        for mark, line in zip(marks, lines, strict=True)
    )
    return _PLAIN_TABLE.format(head, body)


def _row(order: int, split: str, row: ScoredRow, cuts: Mapping[str, Sequence[Morpheme]]) -> Markup:
    ratio = length_ratio([row.summary], [row.references])
    places = {
        "order": order,
        "final": round(row.morpheme.final, 4),
        "rouge1": round(row.morpheme.rouge1, 4),
        "rouge2": round(row.morpheme.rouge2, 4),
        "rougel": round(row.morpheme.rougeL, 4),
        "ratio": round(ratio, 4),
        "length": len(row.dialogue),
    }
    measured = " / ".join(f"{value:.1f}" for value in (row.morpheme.rouge1, row.morpheme.rouge2, row.morpheme.rougeL))
    title = f"Prediction: ROUGE-1 / 2 / L {measured}"
    summary = Text.of(joined(cuts[row.summary]))
    references = [Text.of(joined(cuts[reference])) for reference in row.references]
    return _ROW.format(
        split=split,
        flags=" ".join(row.findings),
        places=_join(Markup(' data-{}="{}"').format(name, place) for name, place in places.items()),
        fname=row.fname,
        final=row.morpheme.final,
        ratio=ratio,
        badges=_join(Markup("<em>{}</em>").format(_words(name)) for name in row.findings),
        summary=row.summary or "(empty)",
        findings=_findings(row),
        left=_ARTICLE.format(_titled("Dialogue", row.topic), html_parts.dialogue(row.dialogue)),
        right=_join(
            [
                _ARTICLE.format(title, overlap(row.summary, cuts[row.summary], references)),
                *(
                    _ARTICLE.format(f"Reference {number}", overlap(reference, cuts[reference], [summary]))
                    for number, reference in enumerate(row.references, start=1)
                ),
            ]
        ),
    )


def _findings(row: ScoredRow) -> Markup:
    if not row.findings:
        return Markup()
    lines = (
        Markup('<li><em>{}</em><span lang="ko">{}</span></li>').format(_words(name), "; ".join(finding))
        for name, finding in row.findings.items()
    )
    return Markup("<ul>{}</ul>\n").format(_join(lines))


def _shown(value: Any) -> str:
    """A setting or a score as a cell of a table."""
    if isinstance(value, float):
        return f"{round(value, 3):g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(each)}" for name, each in value.items())
    return str(value)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _titled(title: str, topic: str) -> str:
    return f"{title}: {topic}" if topic else title


def _options(names: Mapping[str, str]) -> Markup:
    return _join(_OPTION.format(value, text) for value, text in names.items())


def _firsts(cells: Iterable[str]) -> Iterable[tuple[bool, str]]:
    return ((place == 0, cell) for place, cell in enumerate(cells))


def _cell(tag: str, text: str, first: bool) -> Markup:
    kind = "name" if first else "word" if " " in text else ""
    return Markup('<{0} class="{1}">{2}</{0}>' if kind else "<{0}>{2}</{0}>").format(tag, kind, escape(text))


def _join(parts: Iterable[Markup]) -> Markup:
    return Markup().join(parts)
