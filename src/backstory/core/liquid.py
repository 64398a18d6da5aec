"""The Liquid that templates are written in: python-liquid, made strict and bounded.

Templates are user input and are rendered by the loop, so nothing in them may cost more than ``TEMPLATE_WORK``
steps or make more than ``TEMPLATE_VALUE_BYTES``. python-liquid's own limits miss several ways to spend time and
memory (loops one after the other, ranges outside loops, filters that multiply text), so everything a template does
is paid for here: each node rendered, variable read, filter called and character written.
A template sees plain JSON values and the names it is given; there is no Python object to reach, no clock, no file.
Knows nothing of campaigns or people: ``template`` is the way in.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import StringIO
from typing import NoReturn, TextIO, cast

import msgspec
from liquid import Environment, Expression, Node, RenderContext, Token
from liquid.builtin.expressions import BooleanExpression, FilteredExpression
from liquid.builtin.expressions.logical import (
    ContainsExpression,
    EqExpression,
    LogicalAndExpression,
    LogicalOrExpression,
    NeExpression,
)
from liquid.builtin.expressions.primitive import Blank, Empty
from liquid.exceptions import LiquidSyntaxError, ResourceLimitError, UndefinedError
from liquid.filter import with_context
from liquid.template import BoundTemplate
from liquid.undefined import Undefined
from liquid.utils import ReadOnlyChainMap

from backstory.core import date, html, limit

# A step of work stands for so many characters handled by one filter or one write.
_STEP_CHARACTERS = 64
# What an item of a list weighs beside its own size, in the same coin as a character.
_ITEM_WEIGHT = 8
# Numbers of more bits are arithmetic for its own sake, and slow.
_NUMBER_BITS = 1024
_NOT_OFFERED = ("include", "render")


class Missing(Undefined):
    """A variable that is not there: nothing in a condition, an error that names it everywhere else."""

    __slots__ = ()

    def poke(self) -> NoReturn:
        message = f'the variable {self.name} is missing; give it a default: {{{{ {self.name} | default: "…" }}}}'
        raise UndefinedError(message, token=self.token)

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        self.poke()

    def __len__(self) -> int:
        self.poke()

    def __int__(self) -> int:
        self.poke()

    def __iter__(self) -> Iterator[object]:
        self.poke()

    def __reversed__(self) -> Iterator[object]:
        self.poke()

    def __contains__(self, item: object) -> bool:
        self.poke()

    def __getitem__(self, key: object) -> object:
        self.poke()


class Budget:
    """What the templates of one message may still spend, together."""

    __slots__ = ("left", "written")

    def __init__(self) -> None:
        self.left = limit.TEMPLATE_WORK.value
        self.written = 0

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise _too_much(limit.TEMPLATE_WORK)

    def write(self, text: str) -> None:
        self.spend(1 + len(text) // _STEP_CHARACTERS)
        self.written += len(text.encode())
        _check_size(self.written)


class Context(RenderContext):
    """What one rendering sees, and what it may still spend. ``now_us`` is None where nobody says what time it is."""

    __slots__ = ("budget", "now_us")

    def __init__(
        self, template: BoundTemplate, names: Mapping[str, object], budget: Budget, now_us: int | None
    ) -> None:
        self.budget = budget
        self.now_us = now_us
        super().__init__(template, globals=names)
        # Without python-liquid's own names: ``now`` and ``today`` read the clock.
        self.scope = ReadOnlyChainMap(self.locals, self.globals, self.counters)

    @property
    def disabled_tags(self) -> list[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Every node asks for these before it is rendered: the one place where all of them can be counted."""
        self.budget.spend(1)
        return []

    @disabled_tags.setter
    def disabled_tags(self, value: list[str]) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        pass

    def get(self, path: list[object], *, token: Token | None, default: object = None) -> object:
        self.budget.spend(1)
        found = super().get(path, token=token, default=_ABSENT)
        return Missing(_path_text(path), token=token) if found is _ABSENT else found

    def filter(self, name: str, token: Token | None) -> Callable[..., object]:
        function = super().filter(name, token)

        def bounded(left: object, *arguments: object, **keywords: object) -> object:
            self._admit(name, left, [*arguments, *keywords.values()])
            result = function(left, *arguments, **keywords)
            _check_value(result)
            return result

        return bounded

    def _admit(self, name: str, left: object, arguments: list[object]) -> None:
        """Refuse a filter on what is missing, and one whose work or result would be too large."""
        # ``default`` is what may be asked of a missing variable.
        for value in arguments if name == "default" else [left, *arguments]:
            if isinstance(value, Missing):
                value.poke()
        sizes = [_check_value(value) for value in (left, *arguments)]
        self.budget.spend(1 + sum(sizes) // _STEP_CHARACTERS)
        if name == "uniq":  # it compares each with each
            self.budget.spend(_length(left) * sizes[0] // _STEP_CHARACTERS)
        elif name == "join" and arguments:
            _check_size(sizes[0] + _length(left) * sizes[1])
        elif name == "replace" and arguments:
            text, old = str(left), str(arguments[0])
            times = text.count(old) if old else len(text) + 1
            _check_size(len(text) + times * sum(sizes[2:]))

    def stopindex(self, key: str, index: int | None = None) -> int:
        """Asked before a loop starts, with the item it will stop at: what a reversed loop puts in memory."""
        self.budget.spend(1 + len(key) // _STEP_CHARACTERS)
        if index is not None and index > self.budget.left:
            raise _too_much(limit.TEMPLATE_WORK)
        return super().stopindex(key, index)

    def get_buffer(self, buf: TextIO | None = None) -> StringIO:
        return _Buffer(self.budget)


class _Buffer(StringIO):
    """Text being made."""

    def __init__(self, budget: Budget) -> None:
        super().__init__()
        self._budget = budget

    def write(self, text: str, /) -> int:
        self._budget.write(text)
        return super().write(text)


class _Equal(EqExpression):
    """Equality to which a missing variable is nil, blank and empty, as in the original."""

    def evaluate(self, context: RenderContext) -> object:
        left, right = self.left.evaluate(context), self.right.evaluate(context)
        if _is_nothing(left) or _is_nothing(right):
            return all(_is_nothing(side) or isinstance(side, Blank | Empty) for side in (left, right))
        return super().evaluate(context)


class _Contains(ContainsExpression):
    """Containment that does not walk through a range."""

    def evaluate(self, context: RenderContext) -> object:
        left = self.left.evaluate(context)
        if isinstance(left, range):
            right = self.right.evaluate(context)
            return isinstance(right, int) and right in left
        return super().evaluate(context)


_ABSENT = object()


def environment() -> Environment:
    """Liquid as templates may use it."""
    made = Environment(undefined=Missing)
    for tag in _NOT_OFFERED:
        del made.tags[tag]
    made.add_filter("date", _date)
    made.add_filter("strip_html", _strip_html)
    made.add_filter("json", _json)
    return made


def parse(environment: Environment, text: str) -> BoundTemplate:
    """A template that can be rendered with a ``Context``; raises ``LiquidError``."""
    template = environment.from_string(text)
    _harden(template)
    return template


def _harden(template: BoundTemplate) -> None:
    """Hold a parsed template against ``TEMPLATE_TERMS``, look for its filters, and bound what it compares."""
    context = RenderContext(template)
    pending: list[Node] = list(template.nodes)
    while pending:
        node = pending.pop()
        for expression in node.expressions():
            if sum(1 for _ in _terms(expression)) > limit.TEMPLATE_TERMS.value:
                message = limit.TEMPLATE_TERMS.message.format(value=limit.TEMPLATE_TERMS.value)
                raise LiquidSyntaxError(message, token=node.token)
            match expression:
                case BooleanExpression():
                    expression.expression = _hardened(expression.expression)
                case FilteredExpression():
                    _check_filters(template.env, expression)
                case _:
                    pass
        pending.extend(node.children(context, include_partials=False))


def _check_filters(env: Environment, expression: FilteredExpression) -> None:
    """python-liquid looks for a filter when it is used, which is when the message is due."""
    for found in expression.filters or []:
        if found.name not in env.filters:
            close = difflib.get_close_matches(found.name, env.filters, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise LiquidSyntaxError(f"unknown filter '{found.name}'{hint}", token=found.token)


def _terms(expression: Expression) -> Iterator[Expression]:
    pending: list[Expression] = [expression]
    while pending:
        found = pending.pop()
        yield found
        children: Iterable[Expression] = found.children()
        pending.extend(children)


def _hardened(expression: Expression) -> Expression:
    match expression:
        case LogicalAndExpression() | LogicalOrExpression():
            expression.left = _hardened(expression.left)
            expression.right = _hardened(expression.right)
            return expression
        case EqExpression():
            return _Equal(expression.token, expression.left, expression.right)
        case NeExpression():
            return _NotEqual(expression.token, expression.left, expression.right)
        case ContainsExpression():
            return _Contains(expression.token, expression.left, expression.right)
        case _:
            return expression


class _NotEqual(NeExpression):
    def evaluate(self, context: RenderContext) -> object:
        return not _Equal(self.token, self.left, self.right).evaluate(context)


def _is_nothing(value: object) -> bool:
    return value is None or isinstance(value, Missing)


def _path_text(path: list[object]) -> str:
    """A path as it is written in a template: ``customer.address.city``, ``event.items[0]``, ``customer["a b"]``."""
    parts: list[str] = []
    for segment in path:
        if isinstance(segment, str) and re.fullmatch(r"\w[\w-]*", segment):
            parts.append(f".{segment}" if parts else segment)
        else:
            parts.append(f'["{segment}"]' if isinstance(segment, str) else f"[{segment}]")
    return "".join(parts)[:200]


def _check_value(value: object) -> int:
    """The size of a value, in characters, items and bytes of numbers; raises past ``TEMPLATE_VALUE_BYTES``."""
    size = 0
    pending: list[object] = [value]
    while pending:
        item = pending.pop()
        match item:
            case str() as text:
                size += 1 + len(text)
            case list() | tuple():
                items = cast("Sequence[object]", item)
                size += 1 + _ITEM_WEIGHT * len(items)
                pending.extend(items)
            case dict():
                fields = cast("dict[str, object]", item)
                size += 1 + 2 * _ITEM_WEIGHT * len(fields)
                pending.extend(fields.values())
            case range() as numbers:
                size += max(0, numbers.stop - numbers.start)
            case int() as number:
                size += 1
                if number.bit_length() > _NUMBER_BITS:
                    raise ResourceLimitError("the template makes a number that is too large", token=None)
            case _:
                size += 1
        _check_size(size)
    return size


def _length(value: object) -> int:
    """Items of a list with those of the lists in it, which filters take apart; raises like ``_check_value``."""
    if not isinstance(value, list):
        return 1
    return sum(_length(item) for item in cast("list[object]", value))


def _check_size(size: int) -> None:
    if size > limit.TEMPLATE_VALUE_BYTES.value:
        raise _too_much(limit.TEMPLATE_VALUE_BYTES)


def _too_much(bound: limit.Limit) -> ResourceLimitError:
    return ResourceLimitError(bound.message.format(value=bound.value), token=None)


def _strip_html(value: object) -> str:
    return html.strip_tags("" if value is None else str(value))


def _json(value: object) -> str:
    return msgspec.json.encode(value, order="deterministic").decode()


@with_context
def _date(value: object, form: object = "%Y-%m-%d", *, context: RenderContext) -> str:
    return date.show(value, str(form), context.now_us if isinstance(context, Context) else None)
