"""How long the model tests search: ``HUNT=20 pytest tests/model`` looks at twenty times as many examples, at random."""

import os

HUNT = int(os.environ.get("HUNT", "1"))


def examples(count: int) -> int:
    """How many examples a test looks at."""
    return count * HUNT
