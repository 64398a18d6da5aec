"""Is what a data folder keeps what it must be (``verify``), and is anything left of those who are gone (``prove``)?

Reads everything and changes nothing; nothing else in the engine needs it.
"""
