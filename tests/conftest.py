"""How Hypothesis searches: the same examples at every run, unless somebody goes hunting (``tests/hunt.py``)."""

from hypothesis import HealthCheck, settings

from tests.hunt import HUNT

# Opening a workspace takes as long as it takes: nothing here judges speed.
settings.register_profile(
    "steady",
    derandomize=True,
    deadline=None,
    print_blob=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("hunt", deadline=None, print_blob=True, suppress_health_check=list(HealthCheck))
settings.load_profile("steady" if HUNT == 1 else "hunt")
