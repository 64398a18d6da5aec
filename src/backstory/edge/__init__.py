"""The outside: HTTP APIs, mail and webhook senders, the command line."""
