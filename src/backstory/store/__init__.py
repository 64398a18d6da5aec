"""Where bytes live: the journal, the state, the parts. Knows no HTTP and no loop."""
