"""The keys of many events at once, compiled: the same keys as those of ``core.event``, byte for byte.

A key is the first half of an MD5 (RFC 1321). One MD5 is a chain of 64 steps that each wait for the one before, so
sixteen are computed side by side, where the processor has wide registers in all of them at once.
"""

# Types are the compiler's business here: it infers them from the arrays that come in.
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownLambdaType=false

import numpy as np
from numpy.typing import NDArray

from backstory.core.event import content_key
from backstory.engine.event_field import KINDS
from backstory.engine.event_scan import Scan
from backstory.engine.kernel import copy, eight, kernel, piece, pointer, put_eight

LANES = 16
# Longer messages are left to the slow functions.
_MESSAGE_BYTES = 1024
_KIND_BYTES = 8
_TIME_DIGITS_MAX = 20
_U = np.uint32


def keys_of(body: bytes, scan: Scan) -> NDArray[np.int64]:
    """The key of each line taken, 0 where it has neither an id nor a time of its own."""
    count = len(scan.line)
    keys = np.zeros(count, np.int64)
    long = np.empty(count, np.int64)
    name_cuts = np.cumsum([0, *map(len, scan.names)], dtype=np.int64)
    names = np.frombuffer(b"".join(scan.names) or b" ", np.uint8)
    kinds = np.frombuffer(b"".join(kind.encode().ljust(_KIND_BYTES, b"\x1f") for kind in KINDS), np.uint8)
    some = _keys(
        np.frombuffer(body, np.uint8), scan.texts, scan.data_at, scan.data_len, scan.kind, scan.name, names,
        name_cuts, kinds,
        scan.timed, scan.time_us, scan.id_at, scan.id_len, keys, long,
        np.zeros(LANES * _MESSAGE_BYTES, np.uint8), np.empty(20 * LANES, np.uint32), np.zeros(2 * LANES, np.int64),
    )  # fmt: skip
    for at in long[:some].tolist():
        data = scan.texts[scan.data_at[at] : scan.data_at[at] + scan.data_len[at]].tobytes()
        name = scan.names[scan.name[at]].decode()
        keys[at] = content_key(KINDS[scan.kind[at]], name, int(scan.time_us[at]), data)
    return keys


@kernel
def _keys(
    source, texts, data_at, data_len, kind, name, names, name_cuts, kinds, timed, time_us, id_at, id_len, keys, long,
    message_bytes, numbers, blocks_and_rows,
):  # fmt: skip
    size, texts_size = len(source), len(texts)
    body, data, name_texts, kind_texts = pointer(source), pointer(texts), pointer(names), pointer(kinds)
    messages, words, state = pointer(message_bytes), pointer(numbers), pointer(numbers[16 * LANES :])
    blocks, rows = pointer(blocks_and_rows), pointer(blocks_and_rows[LANES:])
    lanes = some = 0
    count = len(keys)
    for row in range(count + 1):
        if lanes == LANES or row == count:
            for lane in range(lanes, LANES):
                blocks[lane] = 0
            _digests(messages, words, state, blocks)
            for lane in range(lanes):
                keys[rows[lane]] = np.int64(np.uint64(state[lane]) | (np.uint64(state[LANES + lane]) << np.uint64(32)))
            lanes = 0
        if row == count or (id_len[row] < 0 and not timed[row]):
            continue
        begin = lanes * _MESSAGE_BYTES
        if id_len[row] >= 0:
            messages[begin] = 105
            end = copy(body, id_at[row], messages, begin + 1, id_len[row], size)
            _normal_id(messages, begin + 1, end)
        else:
            length = data_len[row]
            name_at = name_cuts[name[row]]
            name_len = name_cuts[name[row] + 1] - name_at
            if length + name_len > _MESSAGE_BYTES - _KIND_BYTES - _TIME_DIGITS_MAX - 24:
                long[some] = row
                some += 1
                continue
            messages[begin] = 99
            end = begin + 1
            at = _KIND_BYTES * kind[row]
            while kind_texts[at] != 31:
                messages[end] = kind_texts[at]
                at += 1
                end += 1
            messages[end] = 31
            end = copy(name_texts, name_at, messages, end + 1, name_len, len(names))
            messages[end] = 31
            end = _put_number(messages, end + 1, time_us[row])
            messages[end] = 31
            end = copy(data, data_at[row], messages, end + 1, length, texts_size)
        blocks[lanes] = _pad(messages, begin, end)
        rows[lanes] = row
        lanes += 1
    return some


@piece
def _put_number(messages, at, value):
    """The digits of a number; returns the place behind them."""
    if value < 0:
        messages[at] = 45
        at += 1
        value = -value
    end = at + 1
    rest = value // 10
    while rest:
        end += 1
        rest //= 10
    place = end
    while place > at:
        place -= 1
        messages[place] = 48 + value % 10
        value //= 10
    return end


@piece
def _pad(messages, begin, end):
    """End a message as MD5 wants it; returns its blocks."""
    length = end - begin
    blocks = (length + 9 + 63) // 64
    messages[end] = 0x80
    last = begin + 64 * blocks - 8
    for at in range(end + 1, last):
        messages[at] = 0
    put_eight(messages, last, np.uint64(8 * length))
    return blocks


@piece
def _normal_id(messages, at, end):
    """ULIDs and UUIDs are the same in any case: make them lower."""
    if not (_is_ulid(messages, at, end) or _is_uuid(messages, at, end)):
        return
    for place in range(at, end):
        if 65 <= messages[place] <= 90:
            messages[place] += 32


@piece
def _is_ulid(messages, at, end):
    if end - at != 26 or not 48 <= messages[at] <= 55:
        return False
    for place in range(at + 1, end):
        byte = messages[place]
        letter = byte & 0xDF
        if not (48 <= byte <= 57 or (65 <= letter <= 90 and letter not in (73, 76, 79, 85) and byte >= 65)):
            return False
    return True


@piece
def _is_uuid(messages, at, end):
    """32 hexadecimal digits, with or without each of the dashes behind the 8th, 12th, 16th and 20th."""
    if not 32 <= end - at <= 36:
        return False
    digits = 0
    dashed = -1
    for place in range(at, end):
        byte = messages[place]
        letter = byte & 0xDF
        if 48 <= byte <= 57 or 65 <= letter <= 70:
            digits += 1
        elif byte == 45 and digits in (8, 12, 16, 20) and dashed != digits:
            dashed = digits
        else:
            return False
    return digits == 32


@piece
def _digests(messages, words, state, blocks):
    """The MD5 of each lane's message."""
    most = 0
    for lane in range(LANES):
        state[lane], state[LANES + lane] = _U(0x67452301), _U(0xEFCDAB89)
        state[2 * LANES + lane], state[3 * LANES + lane] = _U(0x98BADCFE), _U(0x10325476)
        most = max(most, blocks[lane])
    for block in range(most):
        for lane in range(LANES):
            for pair in range(8):
                word = eight(messages, lane * _MESSAGE_BYTES + 64 * block + 8 * pair)
                words[2 * pair * LANES + lane] = _U(word)
                words[(2 * pair + 1) * LANES + lane] = _U(word >> np.uint64(32))
        _block(words, state, blocks, block)


@piece
def _turn(into, sum_, shift):
    """The end of each step: the sum, turned left, is added."""
    bits = _U(sum_)
    return _U(_U(into) + _U(_U(bits << _U(shift)) | _U(bits >> _U(32 - shift))))


@piece
def _f(a, b, c, d, word, shift, add):
    return _turn(b, _U(a) + _U(d ^ (b & (c ^ d))) + _U(word) + _U(add), shift)


@piece
def _g(a, b, c, d, word, shift, add):
    return _turn(b, _U(a) + _U(c ^ (d & (b ^ c))) + _U(word) + _U(add), shift)


@piece
def _h(a, b, c, d, word, shift, add):
    return _turn(b, _U(a) + _U(b ^ c ^ d) + _U(word) + _U(add), shift)


@piece
def _i(a, b, c, d, word, shift, add):
    return _turn(b, _U(a) + _U(c ^ (b | ~d)) + _U(word) + _U(add), shift)


@piece
def _block(words, state, blocks, block):
    """One block of every lane that has as many; straight on, so that the compiler does the lanes side by side."""
    for lane in range(LANES):
        a, b, c, d = state[lane], state[LANES + lane], state[2 * LANES + lane], state[3 * LANES + lane]
        old_a, old_b, old_c, old_d = a, b, c, d
        a = _f(a, b, c, d, words[0 * LANES + lane], 7, 0xD76AA478)
        d = _f(d, a, b, c, words[1 * LANES + lane], 12, 0xE8C7B756)
        c = _f(c, d, a, b, words[2 * LANES + lane], 17, 0x242070DB)
        b = _f(b, c, d, a, words[3 * LANES + lane], 22, 0xC1BDCEEE)
        a = _f(a, b, c, d, words[4 * LANES + lane], 7, 0xF57C0FAF)
        d = _f(d, a, b, c, words[5 * LANES + lane], 12, 0x4787C62A)
        c = _f(c, d, a, b, words[6 * LANES + lane], 17, 0xA8304613)
        b = _f(b, c, d, a, words[7 * LANES + lane], 22, 0xFD469501)
        a = _f(a, b, c, d, words[8 * LANES + lane], 7, 0x698098D8)
        d = _f(d, a, b, c, words[9 * LANES + lane], 12, 0x8B44F7AF)
        c = _f(c, d, a, b, words[10 * LANES + lane], 17, 0xFFFF5BB1)
        b = _f(b, c, d, a, words[11 * LANES + lane], 22, 0x895CD7BE)
        a = _f(a, b, c, d, words[12 * LANES + lane], 7, 0x6B901122)
        d = _f(d, a, b, c, words[13 * LANES + lane], 12, 0xFD987193)
        c = _f(c, d, a, b, words[14 * LANES + lane], 17, 0xA679438E)
        b = _f(b, c, d, a, words[15 * LANES + lane], 22, 0x49B40821)
        a = _g(a, b, c, d, words[1 * LANES + lane], 5, 0xF61E2562)
        d = _g(d, a, b, c, words[6 * LANES + lane], 9, 0xC040B340)
        c = _g(c, d, a, b, words[11 * LANES + lane], 14, 0x265E5A51)
        b = _g(b, c, d, a, words[0 * LANES + lane], 20, 0xE9B6C7AA)
        a = _g(a, b, c, d, words[5 * LANES + lane], 5, 0xD62F105D)
        d = _g(d, a, b, c, words[10 * LANES + lane], 9, 0x02441453)
        c = _g(c, d, a, b, words[15 * LANES + lane], 14, 0xD8A1E681)
        b = _g(b, c, d, a, words[4 * LANES + lane], 20, 0xE7D3FBC8)
        a = _g(a, b, c, d, words[9 * LANES + lane], 5, 0x21E1CDE6)
        d = _g(d, a, b, c, words[14 * LANES + lane], 9, 0xC33707D6)
        c = _g(c, d, a, b, words[3 * LANES + lane], 14, 0xF4D50D87)
        b = _g(b, c, d, a, words[8 * LANES + lane], 20, 0x455A14ED)
        a = _g(a, b, c, d, words[13 * LANES + lane], 5, 0xA9E3E905)
        d = _g(d, a, b, c, words[2 * LANES + lane], 9, 0xFCEFA3F8)
        c = _g(c, d, a, b, words[7 * LANES + lane], 14, 0x676F02D9)
        b = _g(b, c, d, a, words[12 * LANES + lane], 20, 0x8D2A4C8A)
        a = _h(a, b, c, d, words[5 * LANES + lane], 4, 0xFFFA3942)
        d = _h(d, a, b, c, words[8 * LANES + lane], 11, 0x8771F681)
        c = _h(c, d, a, b, words[11 * LANES + lane], 16, 0x6D9D6122)
        b = _h(b, c, d, a, words[14 * LANES + lane], 23, 0xFDE5380C)
        a = _h(a, b, c, d, words[1 * LANES + lane], 4, 0xA4BEEA44)
        d = _h(d, a, b, c, words[4 * LANES + lane], 11, 0x4BDECFA9)
        c = _h(c, d, a, b, words[7 * LANES + lane], 16, 0xF6BB4B60)
        b = _h(b, c, d, a, words[10 * LANES + lane], 23, 0xBEBFBC70)
        a = _h(a, b, c, d, words[13 * LANES + lane], 4, 0x289B7EC6)
        d = _h(d, a, b, c, words[0 * LANES + lane], 11, 0xEAA127FA)
        c = _h(c, d, a, b, words[3 * LANES + lane], 16, 0xD4EF3085)
        b = _h(b, c, d, a, words[6 * LANES + lane], 23, 0x04881D05)
        a = _h(a, b, c, d, words[9 * LANES + lane], 4, 0xD9D4D039)
        d = _h(d, a, b, c, words[12 * LANES + lane], 11, 0xE6DB99E5)
        c = _h(c, d, a, b, words[15 * LANES + lane], 16, 0x1FA27CF8)
        b = _h(b, c, d, a, words[2 * LANES + lane], 23, 0xC4AC5665)
        a = _i(a, b, c, d, words[0 * LANES + lane], 6, 0xF4292244)
        d = _i(d, a, b, c, words[7 * LANES + lane], 10, 0x432AFF97)
        c = _i(c, d, a, b, words[14 * LANES + lane], 15, 0xAB9423A7)
        b = _i(b, c, d, a, words[5 * LANES + lane], 21, 0xFC93A039)
        a = _i(a, b, c, d, words[12 * LANES + lane], 6, 0x655B59C3)
        d = _i(d, a, b, c, words[3 * LANES + lane], 10, 0x8F0CCC92)
        c = _i(c, d, a, b, words[10 * LANES + lane], 15, 0xFFEFF47D)
        b = _i(b, c, d, a, words[1 * LANES + lane], 21, 0x85845DD1)
        a = _i(a, b, c, d, words[8 * LANES + lane], 6, 0x6FA87E4F)
        d = _i(d, a, b, c, words[15 * LANES + lane], 10, 0xFE2CE6E0)
        c = _i(c, d, a, b, words[6 * LANES + lane], 15, 0xA3014314)
        b = _i(b, c, d, a, words[13 * LANES + lane], 21, 0x4E0811A1)
        a = _i(a, b, c, d, words[4 * LANES + lane], 6, 0xF7537E82)
        d = _i(d, a, b, c, words[11 * LANES + lane], 10, 0xBD3AF235)
        c = _i(c, d, a, b, words[2 * LANES + lane], 15, 0x2AD7D2BB)
        b = _i(b, c, d, a, words[9 * LANES + lane], 21, 0xEB86D391)
        more = block < blocks[lane]
        state[lane] = _U(old_a + a) if more else old_a
        state[LANES + lane] = _U(old_b + b) if more else old_b
        state[2 * LANES + lane] = _U(old_c + c) if more else old_c
        state[3 * LANES + lane] = _U(old_d + d) if more else old_d
