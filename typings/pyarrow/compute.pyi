# What we use of PyArrow, which ships no types of its own; see lib.pyi.
from typing import Any

# Functions are made from a registry at import; each takes arrays or scalars and answers the same.
def __getattr__(name: str) -> Any: ...
