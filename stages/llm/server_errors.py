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
SPOKEN = (
    "message", "msg", "errormessage", "errormsg", "detail", "error", "errordescription", "description", "title",
    "reason", "raw",
)  # fmt: skip
"""Keys under which they put words, in lower case without underscores, as all keys are here."""
NAMED = ("code", "type", "status", "errortype", "errorcode", "statuscode", "httpcode", "httpstatus", "httpstatuscode")
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

STATUS_OF_WORDS = (
    (429, r"rate.?limit|too many requests"),
    (402, r"insufficient.{0,12}(quota|credit|balance|fund)|payment required|(add|more|out of) credits?\b"),
    (
        401,
        r"(invalid|incorrect|wrong|bad|missing|expired) api.?key|api.?key.{0,12}(not valid|invalid|incorrect|expired)",
    ),
    (404, r"model ['\"`]?[^ ]{1,80} (was |is )?(not found|does not exist|not a valid model)|no such model"),
)
"""The same by what it says, where it has no name either."""
STATUS_IN_WORDS = r"^([45]\d\d)\b(?! token)|\b(?:error|code|status|https?)\b[^\d,.;]{0,9}([45]\d\d)\b"
"""HTTP's number where a server passes on what another one said."""

UNPAID = r"insufficient.?(quota|credit|balance|fund)|billing|payment.?required|credit balance|out of credit"
"""Errors that no wait mends: a name of any, or words of a 400."""

FILTER_NAMES = r"content.?(filter|policy)|responsibleai|data.?inspection|moderation|safety|prohibited|^sensitive"
FILTER_WORDS = (
    r"content[ _-](management|filter|policy|moderation)|content exists risk|inappropriate content|responsible ai|"
    r"safety (system|setting|filter|polic|guideline)|(sensitive|harmful|unsafe) (word|content)|"
    r"\b(input|prompt|request|content|message|text)s? (is|are|was|were|has been|have been|got) "
    r"(flagged|filtered|blocked)|유해|부적절|안전하지 않은|콘텐츠 (정책|필터)"
)
LENGTH_NAMES = r"context.?(length|window|size)|string_above_max|(?<!tokens_)too_?(long|large)|tokens_limit_reached"
LENGTH_WORDS = (
    r"\b(input|prompt)s?\b.{0,40}(exceeds? |longer than |must have (less|fewer) )|\binputs?\W{0,3}tokens? \+|"
    r"context.{0,12}(length|size|window|limit)|maximum (input|prompt) |(input|prompt) (length|size)|"
    r"\b(input|prompt|request|message|text|content)s?( tokens)? (is |are |was |were )?too (long|large|many)|"
    r"too many (input |prompt )?tokens|exceed.{0,40}(context|input|prompt)|"
    r"(너무|문맥|입력|토큰).{0,20}(깁니다|길어|길이|초과)"
)
TOO_LARGE = r"request too large"
"""In a 429: more tokens than a minute allows, however long one waits."""

SPOILT = r"json_validate_failed|output_parse_failed|tool_use_failed"
"""Groq's names for an answer that broke the schema."""

REFUSES = r"support|allow|accept|permit|enable|unknown|unexpected|invalid|alternate|must|only|compile"
"""Words of a refusal: in an error that is not said to be the request's fault, a part must be spoken of with them."""

PARTS: dict[Part, str] = {
    "temperature": r"temperature",
    "limit": r"max(imum)?[_ ]?((completion|new|output|generated)[_ ]?)?tokens|output limit",
    "schema": r"response.?(format|schema)|json.?schema|json.?mode|structured.?output|guided|grammar",
    "system": (
        r"(system|developer)['\"` ]*(role|message|prompt|instruction|field)|"
        r"roles?\b.{0,30}(system|developer|alternate)|"
        r"unknown variant ['\"` ]*(system|developer)|first message must be.{0,12} user|"
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
        if re.search(PARTS["limit"], self.param, re.IGNORECASE) and not self._says("context.?length|prompt|input"):
            return None
        if self.status == 413 or self._named(LENGTH_NAMES):
            return "context_length"
        if self.status == 451 or self._named(FILTER_NAMES) or self._says(FILTER_WORDS):
            return "content_filter"
        if self._says(LENGTH_WORDS) or self._says(TOO_LARGE):
            return "context_length"
        return None

    @property
    def spoilt(self) -> bool:
        """Whether the model began an answer that the server does not pass on; another one may be better."""
        return self._named(SPOILT)

    @property
    def part(self) -> Part | None:
        """The part of the request that is refused: the parameter named, else the first that the words speak of."""
        if self.status not in (400, 422) and not (self.status in (404, 500, 501) and self._says(REFUSES)):
            return None  # 500: templates that raise, in llama.cpp; 404: no provider with the parameter, in OpenRouter
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
    names = tuple(dict.fromkeys(_name(each[key]) for each in objects for key in NAMED if _is_name(each.get(key))))
    param = next((param for each in objects if (param := _param(each))), "")
    words = one_line(": ".join(dict.fromkeys(word for each in objects if (word := _words(each)))))
    if status == 200:
        status = _status(names, words)
    elif status == 400 and (plainly := _status_of(STATUS_OF_WORDS, words)) in (401, 404):  # Gemini, xAI, OpenRouter
        status = plainly
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
        value = {key.lower().replace("_", ""): inner for key, inner in value.items()}
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
    return isinstance(value, str | int | float) and not isinstance(value, bool) and value != ""


def _name(value: str | float) -> str:
    return value.lower() if isinstance(value, str) else f"{value:.0f}"


def _status(names: tuple[str, ...], words: str) -> int:
    """HTTP's number for an error, by its names, else by its words."""
    for name in names:
        if number := re.search(r"(?<!\d)[45]\d\d$", name):
            return int(number[0])
    found = (_status_of(STATUS_OF_NAMES, name) for name in names)
    known = next(filter(None, found), None) or _status_of(STATUS_OF_WORDS, words)
    if known is None and (number := re.search(STATUS_IN_WORDS, words, re.IGNORECASE)):
        known = int(number[1] or number[2])
    return known or 500


def _status_of(patterns: tuple[tuple[int, str], ...], text: str) -> int | None:
    return next((status for status, pattern in patterns if re.search(pattern, text, re.IGNORECASE)), None)


def _text_of_page(body: str) -> str:
    """The text of a page of HTML; other text as it is."""
    if not re.search(r"<(!doctype|html|head|body|title|h1|p|center)\b", body, re.IGNORECASE):
        return body
    body = re.sub(r"<(script|style)\b.*?</\1\s*>|<!--.*?-->", " ", body, flags=re.IGNORECASE | re.DOTALL)
    return html.unescape(re.sub(r"<[^>]*>", " ", body))
