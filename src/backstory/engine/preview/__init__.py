"""Previews of imports: the run itself, rehearsed on a replica of the workspace, and what it changed there."""
