"""Cleaning a dialogue: structure is mended by code, noise by a table of rules that people read and edit.

Rules never see a mask, a speaker tag or a newline: the text is split on those, each piece between two of them
goes through the rules, and the pieces are joined again. So `^` and `$` in a rule mean the ends of a piece. No
`#` is left in a piece, so that no rule can make a mask either.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stages.cleaning import speaker_tags
from stages.cleaning.rule import Rule, step
from stages.core.errors import UserError
from stages.corpus.csv_rows import open_rows
from stages.corpus.dialogue import LIKE_TAG, MASK_OR_SPEAKER, SPEAKER

COLUMNS = ("id", "pattern", "replacement", "why", "before", "after")
"""The columns of a table of rules."""


_TAG = SPEAKER.pattern
_GAP = r"[^\S\n]"  # white space within a line
_NUMBER_MASKS = "PhoneNumber|DateOfBirth|PassportNumber|SSN|CardNumber|CarNumber|FlightNumber"
_HASH_PARTICLES = "에서|에게|한테|까지|부터|으로"

_TOKEN_OR_ALIAS = re.compile(rf"({MASK_OR_SPEAKER.pattern}|#사람\d+#)")
_TOKEN_OR_LIKE = re.compile(rf"({MASK_OR_SPEAKER.pattern}|#사람\d+#|{LIKE_TAG})")
_TOKEN_OR_NEWLINE = re.compile(rf"(^{_TAG}: ?|{MASK_OR_SPEAKER.pattern}|{LIKE_TAG}|\n)", re.MULTILINE)

# Behind an emoji, U+200D joins the next one.
_INVISIBLE = (
    step("invisible", "[\u00ad\u200b\u200c\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]+", ""),
    step("invisible", "(?<![\u2190-\u2bff\ufe0f\U0001f000-\U0001faff])\u200d+", ""),
)
_ALIASES = (step("tag_alias", "사람", "Person"),)

# Signs go one by one, never as a pair: of "#에서 #Person2#" the second belongs to the tag. The sign of an
# amount ("$#,000") stands for digits, so it is the rules that say what becomes of it.
_HASHES = (
    step("orphan_hash_particle", rf"(?<=[가-힣]) #(?=(?:{_HASH_PARTICLES})(?![가-힣]))", ""),
    step("orphan_hash", r"#(?!#*,\d{3}(?!\d))|(?<=[^\W\d])#", ""),
)
_ANY_HASH = step("orphan_hash", "#", "")

_BREAKS = (
    step("crlf", r"\r\n?", "\n"),
    # With a small letter behind it, it is a backslash within a word: "yes\no".
    step("literal_newline", r"(?:\\r)?\\n(?![a-z])", "\n"),
    step("br", r"<[Bb][Rr]\s*/?>", "\n"),
)
_ONE_LINE = (step("summary_newline", r"\s*\n\s*", " "),)
_EDGES = (
    step("edge_space", rf"(?m){_GAP}(?:{_GAP}*$|(?<=^{_GAP}){_GAP}*)", ""),
    step("blank_line", r"\A\n+|\n(?=\n|\Z)", ""),
    step("tag_space", rf"(?m)^({_TAG}:)(?! \S|$){_GAP}*", r"\1 "),
)

_DIGITS = (step("glued_digits", rf"(#(?:{_NUMBER_MASKS})#)(?:-?\d)+", r"\1"),)
# A pattern that begins with a class, not with a look behind it, lets `re` skip to the next place in question.
_SPACING = (
    step("double_space", rf"{_GAP}(?<=\S{_GAP})(?:{_GAP}+|(?<=[^\S\n ]))(?=\S)", " "),
    step("space_before_punctuation", rf"{_GAP}(?<=[^\s:]{_GAP}){_GAP}*([,!?])(?=[^\W\d])", r"\1 "),
    # Left alone: " ..." and " .5".
    step("space_before_punctuation", rf"{_GAP}(?<=[^\s:]{_GAP}){_GAP}*(?=[,!?]|\.(?![.\w]))", ""),
)

_TURNS = (*speaker_tags.DECORATION, *speaker_tags.NUMBERED, *speaker_tags.NEWLINE, *_EDGES)

STEPS = (
    *_INVISIBLE,
    *_ALIASES,
    *speaker_tags.SIGNED,
    *speaker_tags.SLIPS,
    *_HASHES,
    *_BREAKS,
    *speaker_tags.HEADS,
    *speaker_tags.DIGITS,
    *speaker_tags.COLON,
    *_TURNS,
    *speaker_tags.NO_COLON,
    *_ONE_LINE,
    *_DIGITS,
    *speaker_tags.PARTICLE,
    *_SPACING,
)
STRUCTURE = tuple(dict.fromkeys(step.id for step in STEPS))
"""The ids of the structure's steps; no rule may take one of them."""
ROUNDS = 3
"""A text that the rules go on changing is cleaned so often at most."""
TYPO = "typo"
"""What a correction of a typo is counted as; no rule may take it either."""


def clean_dialogue(text: str, rules: Sequence[Rule], *, fix_spacing: bool, hits: Counter[str] | None = None) -> str:
    """Clean a dialogue: lines `#PersonN#: utterance`, every mask and tag kept.

    Args:
        rules: applied in order to what lies between masks, tags and newlines.
        fix_spacing: also close up doubled spaces and spaces before punctuation.
        hits: is told how often each step and rule replaced something, by id.
    """
    return _clean(text, rules, _dialogue_lines, speaker_tags.PARTICLE_IN_TURN, fix_spacing, hits)


def clean_summary(
    text: str, rules: Sequence[Rule], *, fix_spacing: bool, highest: int = 9, hits: Counter[str] | None = None
) -> str:
    """Clean a summary as `clean_dialogue` does a dialogue, onto one line.

    Args:
        highest: the highest number of a speaker of its dialogue: names with others are not taken for speakers'.
    """
    return _clean(text, rules, partial(_summary_lines, highest=highest), speaker_tags.PARTICLE, fix_spacing, hits)


def mend_tags(text: str, hits: Counter[str] | None = None, *, highest: int = 9) -> str:
    """Mend the speaker tags of a summary as `clean_summary` does, and change nothing else."""
    state = _State(set(text), Counter() if hits is None else hits)
    text = state.replace_parts(_TOKEN_OR_ALIAS, _mend_signed(state, text), between=(), within=_ALIASES)
    return _mend_names(state, text, speaker_tags.names(highest))


def _clean(
    text: str,
    rules: Sequence[Rule],
    mend_lines: Callable[[_State, str], str],
    particles: Sequence[Rule],
    fix_spacing: bool,
    hits: Counter[str] | None,
) -> str:
    state = _State(set(text), Counter() if hits is None else hits)
    text = state.replace(text, _INVISIBLE)
    for _ in range(ROUNDS):
        text = _mend_signed(state, text)
        text = state.replace_parts(_TOKEN_OR_LIKE, text, between=_HASHES, within=_ALIASES)
        text = mended = mend_lines(state, text)
        text = state.replace_parts(_TOKEN_OR_NEWLINE, text, between=(*rules, _ANY_HASH))
        text = state.replace(text, (*_DIGITS, *particles, *(_SPACING if fix_spacing else ())))
        if text == mended:
            break
        # What a rule took away may leave a space at an edge, a blank line, or a tag at the start of its line.
        again = mend_lines(state, text)
        if again == text:
            break
        text = again
    return text


def _dialogue_lines(state: _State, text: str) -> str:
    for _ in range(len(text)):  # a turn that is set apart may let the next name be seen as another's
        before, odd = text, False
        text = state.replace(text, _BREAKS)
        if state.has_odd_names(text):
            odd = True
            text = state.replace(text, (*speaker_tags.HEADS, *speaker_tags.AFTER_SENTENCE))
            if speaker_tags.HEAD.search(text):
                text = state.replace(text, speaker_tags.INLINE_HEADS)
        text = _mend_names(state, text, speaker_tags.names_in_turns(text))
        text = state.replace(text, (*speaker_tags.ESCAPE, *speaker_tags.COLON))
        bare = speaker_tags.BEGINS_BARE.match(text) and not speaker_tags.HAS_COLON.search(text)
        heads = speaker_tags.NO_COLONS if bare else speaker_tags.NO_COLON
        text = state.replace(text, (*_TURNS, *heads))
        if not odd or text == before:
            break
    return text


def _summary_lines(state: _State, text: str, highest: int) -> str:
    text = state.replace(text, (*_BREAKS, *_ONE_LINE, *_EDGES))
    for _ in range(2):  # a space that goes lets another name be seen
        text = state.replace(_mend_names(state, text, speaker_tags.names(highest)), _EDGES)
    return text


def _mend_signed(state: _State, text: str) -> str:
    if state.has_odd_names(text):
        text = state.replace_parts(_TOKEN_OR_LIKE, text, between=speaker_tags.SIGNED)
    if speaker_tags.SLIPS[0].pattern.search(text):
        text = state.replace_parts(_TOKEN_OR_ALIAS, text, between=speaker_tags.SLIPS)
    return text


def _mend_names(state: _State, text: str, names: Sequence[Rule]) -> str:
    if state.has_odd_names(text):
        text = state.replace(text, names)
    return state.replace(text, speaker_tags.DIGITS)


@dataclass
class _State:
    """What is known of a text while it is cleaned."""

    characters: set[str]
    """All that it has or had: a rule that needs others cannot match."""
    hits: Counter[str]
    canonical: str = ""
    """The last text that was found to have no odd names."""

    def has_odd_names(self, text: str) -> bool:
        """Whether a text may have names of speakers that are no tags yet."""
        if text == self.canonical:
            return False
        odd = speaker_tags.ODD.search(text) is not None
        self.canonical = self.canonical if odd else text
        return odd

    def replace(self, text: str, rules: Sequence[Rule]) -> str:
        return self._replace_all([text], rules, self.characters)[0]

    def replace_parts(
        self, tokens: re.Pattern[str], text: str, *, between: Sequence[Rule], within: Sequence[Rule] = ()
    ) -> str:
        """Apply rules between the matches of `tokens`, a pattern that is one group, and others within them."""
        parts = tokens.split(text)
        # Nearly always all signs are the tokens' own.
        characters = self.characters if any("#" in part for part in parts[::2]) else self.characters - {"#"}
        parts[::2] = self._replace_all(parts[::2], between, characters)
        parts[1::2] = self._replace_all(parts[1::2], within, self.characters)
        self.characters.update(characters)
        return "".join(parts)

    def _replace_all(self, texts: list[str], rules: Sequence[Rule], characters: set[str]) -> list[str]:
        for rule in rules:
            if any(map(characters.isdisjoint, rule.required)):
                continue
            for i, text in enumerate(texts):
                texts[i], count = rule.pattern.subn(rule.replacement, text)
                if count:
                    self.hits[rule.id] += count
                    characters.update(texts[i])
        return texts


def load_rules(path: Path) -> list[Rule]:
    """Read a table of rules, CSV with the columns COLUMNS, and try each on its own example.

    An example goes through the whole cleaning of a dialogue, with `fix_spacing`.

    Raises:
        UserError: the table cannot be read, has no rules or lacks a column; a rule has no id of its own, is
            no regular expression or matches the empty text; or an example does not hold.
    """
    rows = _read_rows(path)
    rules: list[Rule] = []
    taken = dict.fromkeys((*STRUCTURE, TYPO), "is the name of a built-in step")
    for row in rows:
        where = f"{path}: rule {row['id']}"
        if row["id"] in taken:
            raise UserError(f"{where}: the id {taken[row['id']]}; give the rule an id of its own")
        taken[row["id"]] = "is that of a rule above"
        rules.append(_parse_rule(where, row))
    for row in rows:
        _check_example(f"{path}: rule {row['id']}", row, rules)
    return rules


def _read_rows(path: Path) -> list[dict[str, str]]:
    table = open_rows(path, missing="set clean.rules to a table of rules")
    for column in COLUMNS:
        if column not in table.header:
            raise UserError(f"{path}: column {column}: missing; the columns are {','.join(COLUMNS)}")
    rows: list[dict[str, str]] = []
    for line, fields in table.rows:
        row = dict(zip(table.header, fields, strict=True))
        if not row["id"].strip():
            raise UserError(f"{path}: line {line}: no id; give the rule an id of its own")
        rows.append(row)
    table.tell()
    if not rows:
        raise UserError(f"{path}: no rules; add at least one row")
    return rows


def _parse_rule(where: str, row: dict[str, str]) -> Rule:
    try:
        rule = step(row["id"], row["pattern"], row["replacement"])
    except (re.error, OverflowError) as error:
        raise UserError(
            f"{where}: pattern {row['pattern']}: not a regular expression: {error}; mend the pattern"
        ) from None
    try:
        rule.pattern.sub(rule.replacement, "")
    except (re.error, IndexError) as error:
        raise UserError(f"{where}: replacement {row['replacement']}: {error}; mend the replacement") from None
    matches = (match for text in ("", row["before"], row["after"]) for match in rule.pattern.finditer(text))
    if not all(match.group() for match in matches):
        raise UserError(f"{where}: pattern {row['pattern']}: matches the empty text; make it match something")
    return rule


def _check_example(where: str, row: dict[str, str], rules: Sequence[Rule]) -> None:
    hits: Counter[str] = Counter()
    cleaned = clean_dialogue(row["before"], rules, fix_spacing=True, hits=hits)
    if cleaned != row["after"]:
        raise UserError(
            f"{where}: its example {row['before']!r} becomes {cleaned!r}, not {row['after']!r}; "
            "mend the rule or the example"
        )
    if not hits[row["id"]]:
        raise UserError(
            f"{where}: its example {row['before']!r} does not meet the pattern; mend the rule or the example"
        )
    again = clean_dialogue(cleaned, rules, fix_spacing=True)
    if again != cleaned:
        raise UserError(
            f"{where}: cleaning the result {cleaned!r} of its example again gives {again!r}; "
            "make the rule leave its own result alone"
        )
