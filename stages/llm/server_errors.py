"""What a server says where it does not answer: read from whatever shape it has, and what to make of it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Part = Literal["temperature", "limit", "schema", "system"]
"""A part of a request that a server may refuse: its temperature, its limit of tokens, its JSON schema, its system
message."""

NESTED = ("error", "errors", "innererror", "detail", "details", "message", "status", "metadata", "raw")
"""Keys under which servers put an error into an error: as an object, a list of them, or JSON in a string."""
SPOKEN = ("message", "msg", "detail", "error", "error_description", "description", "title", "reason", "raw")
"""Keys under which they put words."""
NAMED = ("code", "type", "status", "error_type", "error_code", "statusCode")
"""Keys under which they name the kind of error."""
DEPTH = 6
LONGEST = 300

STATUS_OF_NAMES = (
    (429, r"rate.?limit|too.?many.?requests|resource.?exhausted|throttl"),
    (402, r"insufficient|quota|payment|billing|credit|balance"),
    (401, r"api.?key|unauth|authentication"),
    (403, r"permission|forbidden|unsupported_country|access.?denied"),
    (404, r"not.?found|does.?not.?exist"),
    (400, r"invalid|bad.?request|unsupported|unprocessable|content.?filter|context.?length|badrequest"),
)
"""HTTP's number for an error that comes without one, by a word in its name."""

UNPAID = r"insufficient.?(quota|credit|balance|fund)|billing|payment.?required|credit balance|out of credit"
"""Errors that no wait mends: a name of any, or words of a 400."""

FILTER_NAMES = r"content.?(filter|policy)|responsibleai|data.?inspection|moderation|safety|prohibited|^sensitive"
FILTER_WORDS = (
    r"content[ _-](management|filter|policy|moderation)|content exists risk|inappropriate content|responsible ai|"
    r"safety (system|setting|filter|polic|guideline)|(sensitive|harmful|unsafe) (word|content)|"
    r"\b(input|prompt|request|content|message|text)s? (is|are|was|were|has been|have been|got) "
    r"(flagged|filtered|blocked)|유해|부적절|콘텐츠 (정책|필터)"
)
LENGTH_NAMES = r"context.?(length|window|size)|string_above_max|(?<!tokens_)too_?(long|large)|tokens_limit_reached"
LENGTH_WORDS = (
    r"context.{0,12}(length|size|window|limit)|maximum (input|prompt) |(input|prompt) (length|size)|"
    r"\b(input|prompt|request|message|text|content)s?( tokens)? (is |are |was |were )?too (long|large|many)|"
    r"too many (input |prompt )?tokens|exceed.{0,40}(context|input|prompt)|"
    r"(너무|문맥|입력|토큰).{0,20}(깁니다|길어|길이|초과)"
)
TOO_LARGE = r"request too large"
"""In a 429: more tokens than a minute allows, however long one waits."""

PARTS: dict[Part, str] = {
    "temperature": r"temperature",
    "limit": r"max_(completion_|new_|output_)?tokens",
    "schema": r"response.?format|json.?schema|json.?mode|structured.?output|guided|grammar",
    "system": (
        r"(system|developer)['\"` ]*(role|message|prompt|instruction)|roles? .{0,30}(system|developer|alternate)|"
        r"(support|allow|accept|permit)\w* ['\"`]?system|messages.{0,6}role|only user.{0,30} roles"
    ),
}


@dataclass(frozen=True)
class ServerError:
    """An error of a server: HTTP's number, what it names (code, type, in lower case), the parameter, and its words."""

    status: int
    names: tuple[str, ...]
    param: str
    words: str

    @property
    def unpaid(self) -> bool:
        """Whether it is about money: no wait mends it."""
        return self.status == 402 or self._named(UNPAID) or (self.status == 400 and self._says(UNPAID))

    @property
    def row(self) -> Literal["content_filter", "context_length"] | None:
        """What is wrong with the texts of this one request, if it is they."""
        if self.status in (401, 402, 404) or (self.status == 429 and not self._says(TOO_LARGE)):
            return None
        if re.search(PARTS["limit"], self.param) and not self._says("context|prompt|input"):
            return None
        if self.status == 413 or self._named(LENGTH_NAMES):
            return "context_length"
        if self._named(FILTER_NAMES) or self._says(FILTER_WORDS):
            return "content_filter"
        if self._says(LENGTH_WORDS) or self._says(TOO_LARGE):
            return "context_length"
        return None

    @property
    def part(self) -> Part | None:
        """The part of the request that is refused: the parameter named, else the first that the words speak of."""
        for text in (self.param, self.words):
            found = {part: re.search(pattern, text, re.IGNORECASE) for part, pattern in PARTS.items()}
            spoken = {part: match.start() for part, match in found.items() if match}
            if spoken:
                return min(spoken, key=lambda part: spoken[part])
        return None

    def _named(self, pattern: str) -> bool:
        return any(re.search(pattern, name) for name in self.names)

    def _says(self, pattern: str) -> bool:
        return re.search(pattern, self.words, re.IGNORECASE) is not None


def read_error(body: str, status: int = 200) -> ServerError:
    """Read an error from the body of a reply, whatever its form: JSON as OpenAI, Azure, vLLM, FastAPI, Google and
    others write it, a page of HTML, or plain text.

    Args:
        status: the reply's; where it is 200, the error's own number counts, or one for its name, or else 500.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return ServerError(status, (), "", one_line(_text_of_page(body)))
    objects = list(_objects(value)) or [{"message": value}]
    names = tuple(dict.fromkeys(str(each[key]).lower() for each in objects for key in NAMED if _is_name(each.get(key))))
    param = next((param for each in objects if (param := _param(each))), "")
    words = one_line(": ".join(dict.fromkeys(word for each in objects if (word := _words(each)))))
    if status == 200:
        status = _status(names, words)
    return ServerError(status, names, param, words)


def is_json(text: str) -> bool:
    """Whether it is an object or a list in JSON, whole."""
    return _decoded(text) is not text


def one_line(text: str) -> str:
    """Words for a line of a message or a cell of a table."""
    return " ".join(text.encode("utf-8", "replace").decode().split())


def _objects(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """An error, and the errors within it."""
    value = _decoded(value)
    if depth > DEPTH:
        return
    if isinstance(value, list):
        for item in value:
            yield from _objects(item if isinstance(item, dict) else {"message": item}, depth + 1)
    elif isinstance(value, dict):
        yield value
        for key in NESTED:
            yield from _objects(value.get(key), depth + 1)


def _decoded(value: Any) -> Any:
    """What a string holds that is JSON itself; all else as it is."""
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            pass
    return value


def _words(error: dict[str, Any]) -> str:
    """What one error says by itself: its first words that are no JSON, after the place that they are about."""
    for key in SPOKEN:
        words = error.get(key)
        if isinstance(words, str) and words.strip() and _decoded(words) is words:
            return f"{_place(error)}: {words}" if _place(error) else words
    reasons = error.get("reasons")  # OpenRouter's, of its moderation
    return ", ".join(map(str, reasons)) if isinstance(reasons, list) else ""


def _param(error: dict[str, Any]) -> str:
    param = _place(error) or error.get("param") or error.get("parameter")
    return param if isinstance(param, str) else ""


def _place(error: dict[str, Any]) -> str:
    """The place in the request that FastAPI names."""
    place = error.get("loc")
    return ".".join(str(part) for part in place if part != "body") if isinstance(place, list) else ""


def _is_name(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""


def _status(names: tuple[str, ...], words: str) -> int:
    numbers = [int(name) for name in names if re.fullmatch(r"[45]\d\d", name)]
    if numbers:
        return numbers[0]
    for name in names:
        for status, pattern in STATUS_OF_NAMES:
            if re.search(pattern, name):
                return status
    return 429 if re.search(r"rate.?limit|too many requests", words, re.IGNORECASE) else 500


def _text_of_page(body: str) -> str:
    """The text of a page of HTML; other text as it is."""
    if not re.search(r"<(!doctype|html|head|body|title|h1|p|center)\b", body, re.IGNORECASE):
        return body
    body = re.sub(r"<(script|style)\b.*?</\1\s*>|<!--.*?-->", " ", body, flags=re.IGNORECASE | re.DOTALL)
    return html.unescape(re.sub(r"<[^>]*>", " ", body))
