"""The texts of templates parsed and rendered by python-liquid, and its errors said with the place and the reason.

Part of ``core.template``, which loads it when there is something to parse.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from functools import lru_cache

from liquid.exceptions import LiquidError
from liquid.template import BoundTemplate
from liquid.token import TOKEN_EOF

from backstory.core import limit, liquid
from backstory.core.error import LimitError
from backstory.core.template import OPENING, TemplateError

_VERBATIM = re.compile(r"\{%-?\s*raw\s*-?%\}")
_VERBATIM_END = re.compile(r"\{%-?\s*endraw\b")


@lru_cache(maxsize=128)
def parsed(text: str) -> BoundTemplate:
    """The template; raises ``TemplateError`` with the position."""
    try:
        limit.MESSAGE_BODY_BYTES.check(len(text.encode()))
    except UnicodeEncodeError:
        raise TemplateError("the template is not valid Unicode text") from None
    except LimitError as error:
        raise TemplateError(error.message) from None
    ends = list(_tag_ends(text))
    try:
        return liquid.parse(_ENVIRONMENT, text)
    except LiquidError as error:
        message = str(error.message)
        at_end = error.token is not None and error.token.kind == TOKEN_EOF
        if at_end and ends and not message.startswith("expected tag end"):
            raise TemplateError(f"{_position(text, _wrong_tag(text, ends, message))}: {message}") from None
        raise TemplateError(_described(error, text)) from None


def rendered(text: str, names: Mapping[str, object], budget: liquid.Budget, now_us: int | None) -> str:
    """The text with everything filled in, out of a budget; raises ``TemplateError`` with the reason."""
    template = parsed(text)
    context = liquid.Context(template, names, budget, now_us)
    buffer = context.get_buffer()
    try:
        template.render_with_context(context, buffer)
    except LiquidError as error:
        raise TemplateError(_described(error, text)) from None
    except Exception as error:  # filters let through what Python's arithmetic and codecs raise
        raise TemplateError(f"the template cannot be rendered: {error}") from error
    return buffer.getvalue()


def _tag_ends(text: str) -> Iterator[int]:
    """Where each tag or output ends. All are closed, near enough, and there are not too many.

    Looked at first because python-liquid takes long to find out.
    """
    at, count = 0, 0
    while (opening := OPENING.search(text, at)) is not None:
        count += 1
        if count > limit.TEMPLATE_TAGS.value:
            raise TemplateError(limit.TEMPLATE_TAGS.message.format(value=limit.TEMPLATE_TAGS.value))
        closing = "}}" if opening[0] == "{{" else "%}"
        end = text.find(closing, opening.end(), opening.end() + limit.TEMPLATE_TAG_CHARACTERS.value)
        if end < 0:
            within = f"within {limit.TEMPLATE_TAG_CHARACTERS.value} characters"
            position = _position(text, opening.start())
            raise TemplateError(f"{position}: '{opening[0]}' is not closed by '{closing}' {within}")
        at = end + 2
        yield at
        if _VERBATIM.match(text, opening.start()) is not None:
            verbatim_end = _VERBATIM_END.search(text, at)
            at = len(text) if verbatim_end is None else verbatim_end.start()


def _wrong_tag(text: str, ends: list[int], message: str) -> int:
    """Where the tag starts that breaks off, which python-liquid does not say: the first to bring this message."""

    def fails(end: int) -> bool:
        try:
            liquid.parse(_ENVIRONMENT, text[:end])
        except LiquidError as error:
            return str(error.message) == message
        return False

    end = ends[min(bisect_left(ends, True, key=fails), len(ends) - 1)]
    return max(text.rfind("{{", 0, end), text.rfind("{%", 0, end))


def _described(error: LiquidError, text: str) -> str:
    if isinstance(error.__cause__, RecursionError):
        return "the template is nested too deeply"
    message = str(error.message)
    if error.token is None or not 0 <= error.token.start_index <= len(text):
        return f"at the end of the text: {message}" if error.token and error.token.kind == TOKEN_EOF else message
    return f"{_position(text, error.token.start_index)}: {message}"


def _position(text: str, index: int) -> str:
    """Line and column, both from 1."""
    before = text[:index]
    return f"line {before.count(chr(10)) + 1}, column {index - before.rfind(chr(10))}"


_ENVIRONMENT = liquid.environment()
