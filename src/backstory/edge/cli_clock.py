"""``backstory clock``: accept."""

import click

from backstory.edge.cli_command import Run, row_of, workspace_command


@click.group()
def clock() -> None:
    """What the server does when the clock of its machine is set.

    When the clock jumps by more than a minute, timers and sending wait, and the server's health says so; calls are
    accepted all the while.

    \b
    Example:
      backstory clock accept --data ./data
    """


@clock.command("accept")
@workspace_command
def accept_clock(run: Run) -> None:
    """Say that the clock is right as it is: timers and sending go on.

    Look at the clock first. What became due by it, such as the end of a delay, happens at once.

    \b
    Example:
      backstory clock accept
    """
    with run.session() as session:
        body = session.ask("POST", "/local/clock/accept")
    moved_s = row_of(body, "clock")["moved_s"]
    text = f"the clock is taken as it is now; it had moved by {moved_s:+,} seconds" if moved_s else "all was well"
    run.show(body, text)
