"""The shell around the core: clock, settings, the loop, imports, the outbox.

What wires it together is here; the rest is in rooms, and between rooms imports point down only (pyproject.toml):
``verify`` over ``answer``, ``backfill``, ``preview`` and ``undo``, these over ``apply``, this over ``segment`` and
``file``.
"""
