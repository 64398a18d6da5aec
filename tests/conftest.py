"""How Hypothesis searches: the same examples at every run, unless somebody goes hunting.

``HUNT=20 pytest tests/model`` looks at twenty times as many examples, at other ones each time.
"""

import os

from hypothesis import HealthCheck, settings

HUNT = int(os.environ.get("HUNT", "1"))


def examples(count: int) -> int:
    """How many examples a test looks at."""
    return count * HUNT


# Opening a workspace takes as long as it takes: nothing here judges speed.
settings.register_profile("steady", derandomize=True, deadline=None, print_blob=True, database=None)
settings.register_profile("hunt", deadline=None, print_blob=True, suppress_health_check=list(HealthCheck))
settings.load_profile("steady" if HUNT == 1 else "hunt")
