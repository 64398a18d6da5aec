"""The decoder: a process beside the server that reads the bodies of batches, ``python -m backstory.edge.decoder``.

It is asked over the socket that is its standard input and ends when nobody is left at the other end. It keeps nothing
and knows no workspace. A question is a head (which reader, how many bytes) and a body; an answer is a length and the
facts as the journal has them, with what was refused. Where the body as a whole is refused, or what is wrong cannot be
told in this form, the answer is empty: whoever asked reads the body itself. So is the first one, which says that it is
ready.
"""

import signal
import socket
import struct
from collections.abc import Callable
from typing import Literal

import msgspec

from backstory.core import fact
from backstory.core.error import LimitError, RequestError
from backstory.edge.pipeline_batch import decode_calls
from backstory.edge.track2_batch import Decoded, decode_batch

Reader = Literal["operations", "calls"]
READERS: dict[Reader, Callable[[bytes], Decoded]] = {"operations": decode_batch, "calls": decode_calls}
HEAD = struct.Struct("<BI")
LENGTH = struct.Struct("<I")
_NAMES: tuple[Reader, ...] = ("operations", "calls")
_RECEIVED_BYTES = 1 << 20


class _Refused(msgspec.Struct, frozen=True, array_like=True, gc=False):
    number: int
    message: str
    path: str
    is_limit: bool


class _Said(msgspec.Struct, frozen=True, array_like=True, gc=False):
    facts: bytes
    sizes: list[int]
    refused: list[_Refused]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Said).decode


def question(reader: Reader, body: bytes) -> tuple[bytes, bytes]:
    """What to send so that a body is read."""
    return HEAD.pack(_NAMES.index(reader), len(body)), body


def answered(reader: int, body: bytes) -> bytes:
    """The answer to a question; empty where there is none in this form."""
    try:
        decoded = READERS[_NAMES[reader]](body)
    except Exception:
        # Whoever asked meets the same and tells of it.
        return b""
    if not all(type(error) in (RequestError, LimitError) for error in decoded.refused.values()):
        return b""
    refused = [
        _Refused(number, error.message, error.path, isinstance(error, LimitError))
        for number, error in decoded.refused.items()
    ]
    return _encode(_Said(fact.encode(decoded.facts), decoded.sizes, refused))


def understood(answer: bytes) -> Decoded | None:
    """What an answer says; None: nothing."""
    if not answer:
        return None
    said = _decode(answer)
    refused = {
        one.number: (LimitError if one.is_limit else RequestError)(one.message, path=one.path) for one in said.refused
    }
    return Decoded(facts=fact.decode(said.facts), sizes=said.sizes, refused=refused)


def main() -> None:
    """Answer until the other end is closed."""
    # Whoever stops the server from a terminal stops all of its processes; this one ends with the server.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=0) as line:
        line.sendall(LENGTH.pack(0))
        while (head := _receive(line, HEAD.size)) is not None:
            reader, length = HEAD.unpack(head)
            body = _receive(line, length)
            if body is None:
                return
            answer = answered(reader, body)
            line.sendall(LENGTH.pack(len(answer)))
            line.sendall(answer)


def _receive(line: socket.socket, length: int) -> bytes | None:
    """So many bytes; None when the other end is closed before."""
    found = bytearray()
    while len(found) < length:
        some = line.recv(min(length - len(found), _RECEIVED_BYTES))
        if not some:
            return None
        found += some
    return bytes(found)


if __name__ == "__main__":
    main()
