"""Tokens of strict JSON, found in bytes: pieces of the scanner of event files, compiled.

Each says where something ends, or -1 when it is not certain that a JSON reader would take it, and just so.
"""

# Types are the compiler's business here: it infers them from the arrays that come in.
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownLambdaType=false

from backstory.engine.file.kernel import piece


@piece
def blank_end(body, at, size):
    """The next place that is no blank within a line."""
    while at < size and (body[at] == 32 or body[at] == 9 or body[at] == 13):
        at += 1
    return at


@piece
def text_end(body, at, size):
    """Where the text that begins at ``at`` has its closing quote, -1 when it needs a closer look; is it ASCII?"""
    begin = at
    high = False
    while at < size:
        byte = body[at]
        if byte == 34:
            if high and not _utf8(body, begin, at):
                return -1, False
            return at, not high
        if byte < 32 or byte == 92:
            return -1, False
        if byte >= 128:
            high = True
        at += 1
    return -1, False


@piece
def _utf8(body, at, end):
    """Is this stretch UTF-8, shortest forms only and without surrogates? Source: RFC 3629."""
    while at < end:
        byte = body[at]
        at += 1
        if byte < 0x80:
            continue
        if 0xC2 <= byte <= 0xDF:
            more, low, high = 1, 0x80, 0xBF
        elif 0xE0 <= byte <= 0xEF:
            more, low, high = 2, 0xA0 if byte == 0xE0 else 0x80, 0x9F if byte == 0xED else 0xBF
        elif 0xF0 <= byte <= 0xF4:
            more, low, high = 3, 0x90 if byte == 0xF0 else 0x80, 0x8F if byte == 0xF4 else 0xBF
        else:
            return False
        for _ in range(more):
            if at >= end or body[at] < low or body[at] > high:
                return False
            low, high = 0x80, 0xBF
            at += 1
    return True


@piece
def digits_end(body, at, size):
    """Where the digits that begin here end."""
    while at < size and 48 <= body[at] <= 57:
        at += 1
    return at


@piece
def _number(body, at, size):
    """A number's end and the end of its canonical form; (-1, -1) when its canonical form may be another text."""
    negative = body[at] == 45
    if negative:
        at += 1
    whole = at
    at = digits_end(body, at, size)
    digits = at - whole
    if digits == 0 or digits > 15 or (digits > 1 and body[whole] == 48):
        return -1, -1
    zero = body[whole] == 48
    point = at
    keep = at
    if at < size and body[at] == 46:
        at = digits_end(body, at + 1, size)
        if at == point + 1:
            return -1, -1
        keep = at
        while body[keep - 1] == 48:
            keep -= 1
        if keep == point + 1:
            keep = point
        elif digits > 9 or keep - point - 1 + digits > 15 or (zero and _tiny(body, point + 1, keep)):
            return -1, -1
    if at < size and (body[at] == 101 or body[at] == 69):
        return -1, -1
    if negative and zero and keep == point:
        return -1, -1
    return at, keep


@piece
def _tiny(body, at, end):
    """Does the fraction begin with four zeros? Then its shortest form may have an exponent."""
    return end - at > 3 and body[at] == 48 and body[at + 1] == 48 and body[at + 2] == 48 and body[at + 3] == 48


@piece
def value_end(body, at, size):
    """A flat value's end and the end of its canonical form; (-1, -1) when not sure."""
    byte = body[at]
    if byte == 34:
        end, _ = text_end(body, at + 1, size)
        return (end + 1, end + 1) if end >= 0 else (-1, -1)
    if byte == 45 or 48 <= byte <= 57:
        return _number(body, at, size)
    if byte == 116 and at + 4 <= size and body[at + 1] == 114 and body[at + 2] == 117 and body[at + 3] == 101:
        return at + 4, at + 4
    if byte == 110 and at + 4 <= size and body[at + 1] == 117 and body[at + 2] == 108 and body[at + 3] == 108:
        return at + 4, at + 4
    if byte == 102 and at + 5 <= size and body[at + 1] == 97 and body[at + 2] == 108 and body[at + 3] == 115:
        return (at + 5, at + 5) if body[at + 4] == 101 else (-1, -1)
    return -1, -1


@piece
def stands(body, at, length, text):
    """Does this text stand here, and nothing but it?"""
    if length != len(text):
        return False
    for step in range(length):  # noqa: SIM110 - the compiler knows no generators
        if body[at + step] != text[step]:
            return False
    return True
