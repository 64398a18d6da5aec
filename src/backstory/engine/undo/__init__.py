"""Imports taken back as if they had never been, brought in again, purged.

``undo`` has the steps in their order; the other modules do one each: events, values, names, records, memberships.
"""
