"""Applying facts, one by one or in bursts, on the loop's thread: what each kind changes, and what follows from it.

``applier`` knows all kinds; what they share is in ``engine.context``.
"""
