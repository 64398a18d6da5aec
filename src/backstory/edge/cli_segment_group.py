"""``backstory segments``: all of its commands together."""

from backstory.edge import cli_inquiry, cli_member
from backstory.edge.cli_segment import segments as segments

for _command in (*cli_inquiry.COMMANDS, *cli_member.COMMANDS):
    segments.add_command(_command)
