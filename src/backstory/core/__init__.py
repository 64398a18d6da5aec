"""What is true: pure values and functions. No file, socket, thread, clock, randomness or logging in here."""
