"""Form bodies with bracketed keys, turned into nested data whose values stay strings.

    name=purchased&data[price]=23.45   →  {"name": "purchased", "data": {"price": "23.45"}}
    data[tags][]=a&data[tags][]=b      →  {"data": {"tags": ["a", "b"]}}
    data[items][][sku]=1&data[items][][sku]=2  →  {"data": {"items": [{"sku": "1"}, {"sku": "2"}]}}

Brackets come plain or as ``%5B`` ``%5D``, blanks as ``+`` or ``%20``. The reading is Rack's, the library behind the
original's example: ``[]`` appends, any other bracket names a key (``[0]`` too), the last of equal keys wins, an
element of a list gets keys until one repeats. A number is never guessed: ``007`` may be an id.
"""

from typing import cast
from urllib.parse import unquote_plus

from backstory.core.condition import Json
from backstory.core.error import RequestError
from backstory.core.limit import FORM_PAIRS, JSON_DEPTH

Node = dict[str, Json] | list[Json]


def parse_form(body: bytes) -> dict[str, Json]:
    """The nested data of a form body; raises ``RequestError`` for keys that contradict each other or are malformed."""
    root: dict[str, Json] = {}
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise RequestError("the form is not UTF-8 text: percent-encode other bytes") from None
    FORM_PAIRS.check(text.count("&") + 1)
    for pair in text.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            key = _decoded(name)
            _put(root, _steps(key), _decoded(value), key)
    return root


def _decoded(text: str) -> str:
    try:
        return unquote_plus(text, errors="strict")
    except UnicodeDecodeError:
        raise RequestError(f"the form holds bytes that are not UTF-8 text: {text[:80]!r}") from None


def _steps(key: str) -> list[str]:
    """``data[items][][sku]`` → ``["data", "items", "", "sku"]``; an empty step appends."""
    head, bracket, rest = key.partition("[")
    if not bracket:
        return [key]
    if not head or not rest.endswith("]"):
        raise RequestError(f"the form key {key[:80]!r} is malformed: write it like data[price]")
    # One more than the limit is enough to know, and keeps a long row of brackets from costing anything.
    steps = rest[:-1].split("][", JSON_DEPTH.value + 1)
    JSON_DEPTH.check(len(steps) + 1)
    if any("[" in step or "]" in step for step in steps):
        raise RequestError(f"the form key {key[:80]!r} is malformed: write it like data[price]")
    return [head, *steps]


def _put(root: dict[str, Json], steps: list[str], value: str, key: str) -> None:
    """Lay one value at the end of its steps, making what is missing on the way."""
    node: Node = root
    for index, step in enumerate(steps[:-1]):
        node = _below(node, step, steps[index + 1 :], key)
    last = steps[-1]
    if isinstance(node, list):
        node.append(value)
    elif isinstance(node.get(last), (dict, list)):
        raise _contradiction(key)
    else:
        node[last] = value


def _below(node: Node, step: str, after: list[str], key: str) -> Node:
    """The holder under ``step`` in which the step after it can be laid."""
    made: Node = [] if after[0] == "" else {}
    if isinstance(node, list):
        last = node[-1] if node else None
        if isinstance(last, dict) and isinstance(made, dict) and not _repeats(last, after):
            return last
        node.append(cast("Json", made))
        return made
    found = node.setdefault(step, cast("Json", made))
    if isinstance(found, dict | list) and type(found) is type(made):
        return found
    raise _contradiction(key)


def _repeats(element: dict[str, Json], after: list[str]) -> bool:
    """Does the element of a list already hold what the steps name? Then a new element begins."""
    node: Json = element
    for step in after:
        if step == "":
            return False
        if not isinstance(node, dict) or step not in node:
            return False
        node = node[step]
    return True


def _contradiction(key: str) -> RequestError:
    return RequestError(f"the form key {key[:80]!r} contradicts another: a value cannot be single and nested at once")
