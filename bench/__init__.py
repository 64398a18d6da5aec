"""Named workloads, each held against a baseline within one run: `make bench`. Nothing of it is installed."""
