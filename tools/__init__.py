"""What the project's own housekeeping runs; nothing of it is installed."""
