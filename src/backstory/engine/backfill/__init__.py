"""Imports at work: people, events and other facts, prepared beside the loop in chunks and committed by it.

``backfill`` begins one, ``import_job`` is what each keeps while it runs, ``import_control`` what others may do to it.
How files are read is in the room ``file``, what takes an import back in the room ``undo``.
"""
