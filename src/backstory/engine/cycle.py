"""Cycles of objects: processes that work on much data look for them seldom, as every look goes over all there is."""

import gc

# How many containers come before the collector of cycles looks at them. Facts and calls leave none behind, and at the
# interpreter's own 700 it looked at thousands of waiting facts again and again: a tenth of the time of a call, and a
# twentieth of that of an import.
GC_CONTAINERS, GC_YOUNG, GC_MIDDLE = 50_000, 20, 50


def collect_seldom() -> None:
    """Have this process look for cycles less often."""
    gc.set_threshold(GC_CONTAINERS, GC_YOUNG, GC_MIDDLE)
