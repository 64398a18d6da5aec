"""HTML in messages: does a text look like it, and how does it read without its tags.

Not a parser: one walk from tag to tag, in time that grows with the text whatever the text is.
"""

import html
import re
from collections.abc import Iterator

_TAG = re.compile(
    r"</?(?:a|abbr|b|blockquote|body|br|button|center|code|dd|div|dl|dt|em|font|footer|h[1-6]|head|header|hr|html|i|img"
    r"|li|main|ol|p|pre|s|section|small|span|strong|sub|sup|table|tbody|td|th|thead|title|tr|u|ul)(?=[\s/>])",
    re.IGNORECASE,
)
_NAME = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9-]*)(?=[\s/>])")
_LINK = re.compile(r"""\shref\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>"']+))""", re.IGNORECASE)
_SPACE = re.compile(r"[ \t\r\n\f]+")
_UNSEEN = frozenset({"head", "script", "style", "title", "template"})
_LINES = {"br": "\n", "tr": "\n", "dt": "\n", "dd": "\n", "li": "\n- ", "td": " ", "th": " "}
_PARAGRAPHS = frozenset({
    "p", "div", "table", "ul", "ol", "dl", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "blockquote", "pre", "section",
    "header", "footer", "main", "center",
})  # fmt: skip


def looks_like_html(text: str) -> bool:
    """Whether a text starts with a tag or has one of the tags that messages are made of."""
    return text.lstrip().startswith("<") or _TAG.search(text) is not None


def strip_tags(text: str) -> str:
    """The text without tags, comments, scripts and styles; entities stay as they are."""
    return "".join(piece for tag, piece in _pieces(text) if not tag)


def to_text(text: str) -> str:
    """How a message reads as plain text: paragraphs and lines, list items with a dash, links with their address."""
    out: list[str] = []
    link, link_from = "", 0
    for tag, piece in _pieces(text):
        if not tag:
            out.append(_SPACE.sub(" ", html.unescape(piece)))
            continue
        out.append("\n\n" if tag.lstrip("/") in _PARAGRAPHS else _LINES.get(tag, ""))
        if tag == "a":
            link, link_from = _address(piece), len(out)
        elif tag == "/a" and link:
            if link not in "".join(out[link_from:]):
                out.append(f" ({link})")
            link = ""
    return _tidy("".join(out))


def _address(tag: str) -> str:
    """Where a link leads; empty when that is inside the message."""
    found = _LINK.search(tag)
    address = html.unescape(next(filter(None, found.groups()), "")).strip() if found else ""
    return "" if address.startswith("#") else address


def _tidy(text: str) -> str:
    """Lines without spaces around them or two in a row, and at most one empty line between two."""
    lines = [_SPACE.sub(" ", line).strip() for line in text.split("\n")]
    kept = [line for i, line in enumerate(lines) if line or (i > 0 and lines[i - 1])]
    return "\n".join(kept).strip("\n")


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """Tags as (lower-case name with its slash, the whole tag) and text between them as ("", text)."""
    at = 0
    while (start := text.find("<", at)) >= 0:
        match = _NAME.match(text, start)
        comment = text.startswith("<!", start)
        if match is None and not comment:
            yield "", text[at : start + 1]
            at = start + 1
            continue
        yield "", text[at:start]
        end = text.find("-->", start) + 3 if text.startswith("<!--", start) else text.find(">", start) + 1
        if end < 3:
            return  # never closed: nothing readable follows
        at = end
        if match is None:
            continue
        name = match[2].lower()
        yield match[1] + name, text[start:end]
        if name in _UNSEEN and not match[1]:
            close = re.compile(f"</{name}", re.IGNORECASE).search(text, at)
            if close is None:
                return
            at = close.start()
    yield "", text[at:]
