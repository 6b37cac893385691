"""Nothing personal leaves the machine unmasked: what would be sent to a server is searched for it first."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from stages.core.errors import UserError
from stages.core.params import Llm
from stages.corpus.personal_data import mask_personal_data

_NAMED = 10


def refuse_personal_data(path: Path, texts: Iterable[tuple[str, str]], settings: Llm) -> None:
    """Stop where a text that is to be sent holds unmasked personal data, unless `allow_personal_data` is set.

    Args:
        path: the table that the texts come from, for the message.
        texts: pairs of a row's fname and a text of it.
        settings: `augment.llm`.

    Raises:
        UserError: there is some. The message has the fnames and the kinds of data, never the data.
    """
    if settings.allow_personal_data:
        return
    found: dict[str, set[str]] = {}
    for fname, text in texts:
        kinds = mask_personal_data(text)[1]
        if kinds:
            found.setdefault(fname, set()).update(kinds)
    if found:
        rows = [f"{fname} ({', '.join(sorted(kinds))})" for fname, kinds in found.items()]
        more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
        raise UserError(
            f"{path}: unmasked personal data would be sent to {settings.base_url}: {', '.join(rows[:_NAMED])}{more}; "
            "set check.personal_data: mask, or augment.llm.allow_personal_data: true"
        )
