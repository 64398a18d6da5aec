"""The keys of many events at once, compiled: the same keys as those of ``core.event``, byte for byte.

A key is the XXH64 of a message. Source: the specification of xxHash (https://github.com/Cyan4973/xxHash, doc).
"""

# Types are the compiler's business here: it infers them from the arrays that come in.
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownLambdaType=false

import numpy as np
from numpy.typing import NDArray

from backstory.engine.file.event_field import KINDS
from backstory.engine.file.event_scan import Scan
from backstory.engine.file.kernel import copy, eight, kernel, piece, pointer, put_eight

_KIND_BYTES = 8
# What a message has beside its name and its data or id: marks, the kind, the digits of a time, room for copying.
_FRAME_BYTES = 64
_DIGITS_8, _DIGITS_16 = 10**8, 10**15
_U = np.uint64
_P1, _P2, _P3 = _U(0x9E3779B185EBCA87), _U(0xC2B2AE3D27D4EB4F), _U(0x165667B19E3779F9)
_P4, _P5 = _U(0x85EBCA77C2B2AE63), _U(0x27D4EB2F165667C5)


def keys_of(body: bytes | memoryview, scan: Scan) -> NDArray[np.int64]:
    """The key of each line taken, 0 where it has neither an id nor a time of its own."""
    keys = np.zeros(len(scan.line), np.int64)
    if not len(keys):
        return keys
    lengths = [len(name) for name in scan.names]
    name_cuts = np.cumsum([0, *lengths], dtype=np.int64)
    names = np.frombuffer(b"".join(scan.names) or b" ", np.uint8)
    kinds = np.frombuffer(b"".join(kind.encode().ljust(_KIND_BYTES, b"\x1f") for kind in KINDS), np.uint8)
    longest = max(int(scan.data_len.max()), int(scan.id_len.max())) + max(lengths) + _FRAME_BYTES
    _keys(
        np.frombuffer(body, np.uint8), scan.texts, scan.data_at, scan.data_len, scan.kind, scan.name, names, name_cuts,
        kinds, scan.timed, scan.time_us, scan.id_at, scan.id_len, keys, np.zeros(longest, np.uint8),
    )  # fmt: skip
    return keys


@kernel
def _keys(
    source, texts, data_at, data_len, kind, name, names, name_cuts, kinds, timed, time_us, id_at, id_len, keys, scratch
):
    size, texts_size = len(source), len(texts)
    body, data, name_texts, kind_texts = pointer(source), pointer(texts), pointer(names), pointer(kinds)
    message = pointer(scratch)
    for row in range(len(keys)):
        if id_len[row] >= 0:
            message[0] = 105
            end = copy(body, id_at[row], message, 1, id_len[row], size)
            _normal_id(message, 1, end)
        elif timed[row]:
            message[0] = 99
            end = 1
            at = _KIND_BYTES * kind[row]
            while kind_texts[at] != 31:
                message[end] = kind_texts[at]
                at += 1
                end += 1
            message[end] = 31
            name_at = name_cuts[name[row]]
            end = copy(name_texts, name_at, message, end + 1, name_cuts[name[row] + 1] - name_at, len(names))
            message[end] = 31
            end = _put_number(message, end + 1, time_us[row])
            message[end] = 31
            end = copy(data, data_at[row], message, end + 1, data_len[row], texts_size)
        else:
            continue
        keys[row] = np.int64(_digest(message, end))


@piece
def _put_number(message, at, value):
    """The digits of a number; returns the place behind them. Some bytes behind it may be overwritten with anything."""
    if value < 0:
        message[at] = 45
        at += 1
        value = -value
    if _DIGITS_16 <= value < 10 * _DIGITS_16:
        # As the times of today are.
        put_eight(message, at, _eight_digits(_U(value // _DIGITS_8)))
        put_eight(message, at + 8, _eight_digits(_U(value % _DIGITS_8)))
        return at + 16
    end = at + 1
    rest = value // 10
    while rest:
        end += 1
        rest //= 10
    place = end
    while place > at:
        place -= 1
        message[place] = 48 + value % 10
        value //= 10
    return end


@piece
def _eight_digits(value):
    """The digits of a number below 10^8 as eight bytes, the first one lowest: divided in lanes of one word."""
    fours = value // _U(10_000) | value % _U(10_000) << _U(32)
    hundreds = fours * _U(10_486) >> _U(20) & _U(0x7F_0000_007F)
    pairs = hundreds | fours - _U(100) * hundreds << _U(16)
    tens = pairs * _U(103) >> _U(10) & _U(0xF_000F_000F_000F)
    return (tens | pairs - _U(10) * tens << _U(8)) + _U(0x3030303030303030)


@piece
def _normal_id(message, at, end):
    """ULIDs and UUIDs are the same in any case: make them lower."""
    if not (_is_ulid(message, at, end) or _is_uuid(message, at, end)):
        return
    for place in range(at, end):
        if 65 <= message[place] <= 90:
            message[place] += 32


@piece
def _is_ulid(message, at, end):
    if end - at != 26 or not 48 <= message[at] <= 55:
        return False
    for place in range(at + 1, end):
        byte = message[place]
        letter = byte & 0xDF
        if not (48 <= byte <= 57 or (65 <= letter <= 90 and letter not in (73, 76, 79, 85) and byte >= 65)):
            return False
    return True


@piece
def _is_uuid(message, at, end):
    """32 hexadecimal digits, with or without each of the dashes behind the 8th, 12th, 16th and 20th."""
    if not 32 <= end - at <= 36:
        return False
    digits = 0
    dashed = -1
    for place in range(at, end):
        byte = message[place]
        letter = byte & 0xDF
        if 48 <= byte <= 57 or 65 <= letter <= 70:
            digits += 1
        elif byte == 45 and digits in (8, 12, 16, 20) and dashed != digits:
            dashed = digits
        else:
            return False
    return digits == 32


@piece
def _digest(message, length):
    """The XXH64 of the first bytes of a message, with the seed 0."""
    at = 0
    if length >= 32:
        one, two, three, four = _P1 + _P2, _P2, _U(0), _U(0) - _P1
        while at + 32 <= length:
            one, two = _round(one, eight(message, at)), _round(two, eight(message, at + 8))
            three, four = _round(three, eight(message, at + 16)), _round(four, eight(message, at + 24))
            at += 32
        mixed = _turn(one, 1) + _turn(two, 7) + _turn(three, 12) + _turn(four, 18)
        for lane in (one, two, three, four):
            mixed = (mixed ^ _round(_U(0), lane)) * _P1 + _P4
    else:
        mixed = _P5
    mixed += _U(length)
    while at + 8 <= length:
        mixed = _turn(mixed ^ _round(_U(0), eight(message, at)), 27) * _P1 + _P4
        at += 8
    if at + 4 <= length:
        mixed = _turn(mixed ^ ((eight(message, at) & _U(0xFFFFFFFF)) * _P1), 23) * _P2 + _P3
        at += 4
    while at < length:
        mixed = _turn(mixed ^ (_U(message[at]) * _P5), 11) * _P1
        at += 1
    mixed = (mixed ^ (mixed >> _U(33))) * _P2
    mixed = (mixed ^ (mixed >> _U(29))) * _P3
    return mixed ^ (mixed >> _U(32))


@piece
def _round(lane, word):
    return _turn(lane + word * _P2, 31) * _P1


@piece
def _turn(word, bits):
    return (word << _U(bits)) | (word >> _U(64 - bits))
