"""Templates: text with Liquid in it, checked when a campaign is made and rendered when a message is.

What a template sees is a mapping of names to JSON values, made by the journey:

- ``customer``: the attributes of the person, with ``id``, ``email`` and ``cio_id``
- ``customer.devices``: their devices, last used first, each with ``id``, ``platform``, ``last_used``, ``attributes``
- ``objects.type_1``, ``objects["1"]``: the ten objects of a type they were related to last, newest first, each with its
  attributes, ``object_id``, ``cio_object_id`` and under ``relationship`` the attributes of the relationship
- ``event``: the data of the event that started the journey; ``event_name``, ``event_id``, ``event_timestamp``
  (unix seconds) beside it; in event campaigns only
- ``trigger``: the data of that event too; in segment campaigns ``trigger.segment.id``, ``trigger.segment.name``
  and ``trigger.transition``

A variable that is not there fails the rendering and is named, unless it has a ``default`` or stands in a condition.
Sources: design section 11; semantics section 7.1; decision 7.
"""

import re
from collections.abc import Mapping

from backstory.core.error import RequestError

OPENING = re.compile(r"\{[{%]")


class TemplateError(RequestError):
    """A template cannot be read or rendered; ``message`` says what and, where known, at which line and column."""


def check(text: str, *, path: str = "") -> None:
    """Raise ``TemplateError`` with the position when the text is not Liquid we take; ``path`` is where it stands."""
    # python-liquid takes long to load, and most commands render nothing.
    from backstory.core.template_text import parsed

    try:
        parsed(text)
    except TemplateError as error:
        raise TemplateError(error.message, path=path) from None


def render(text: str, context: Mapping[str, object], *, now_us: int | None = None) -> str:
    """The text with everything filled in; ``now_us`` is what ``'now' | date`` means.

    Raises ``TemplateError`` with the reason: a missing variable, a wrong use of a filter, too much work.
    """
    return Rendering(context, now_us=now_us).render(text)


class Rendering:
    """The templates of one message, which see the same names and share one budget of work and size."""

    def __init__(self, context: Mapping[str, object], *, now_us: int | None = None) -> None:
        from backstory.core.liquid import Budget

        self._context = context
        self._now_us = now_us
        self._budget = Budget()

    def render(self, text: str) -> str:
        """As the function ``render``."""
        from backstory.core.template_text import rendered

        return rendered(text, self._context, self._budget, self._now_us)


def has_liquid(text: str) -> bool:
    """Whether there is anything in the text to fill in."""
    return OPENING.search(text) is not None
