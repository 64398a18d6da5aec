"""Backstory: a self-hosted customer-engagement engine with a memory."""

__version__ = "0.1.0"
