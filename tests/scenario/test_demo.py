"""The demo does what the README prints: a real server, real purchases, live calls."""

from tools import readme


def test_the_demo_prints_what_the_readme_shows() -> None:
    """`make demo` without a terminal ends by itself, finds all as expected, and prints what the README says it does."""
    shown = readme.shown_output(readme.README.read_text())
    assert readme.stable(readme.demo_output()) == readme.stable(shown), "run `make docs`"
