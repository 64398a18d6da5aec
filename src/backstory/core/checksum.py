"""A checksum for what is read back from a disk: CRC-32, many times as fast as the standard library's (decision 27)."""

from collections.abc import Callable
from typing import cast

from zlib_ng import zlib_ng

# Of bytes, and of those before them if that is what the second number is of. The same numbers as ``zlib.crc32``.
crc32 = cast("Callable[..., int]", zlib_ng.crc32)  # pyright: ignore[reportUnknownMemberType]
