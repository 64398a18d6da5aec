"""Files of imports: unpacked, scanned, read as rows that are judged strictly; and the files of rows that failed.

Knows no workspace, and nothing of the engine outside this room. Also here is what is asked of an import (``options``),
as that says how its files are to be read.
"""
