"""The shell around the core: clock, settings, the loop, imports, the outbox."""
