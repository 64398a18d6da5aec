"""``python -m backstory`` is the command ``backstory``."""

from backstory.edge.entry import run

if __name__ == "__main__":
    run()
