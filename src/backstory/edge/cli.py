"""The command line: ``backstory COMMAND``.

Commands are clients of the HTTP endpoints (``edge.local``); only ``serve`` is a server.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from backstory import __version__
from backstory.core.error import BackstoryError
from backstory.edge.cli_command import Runtime, fail
from backstory.engine.settings import SETTINGS, Setting, Settings, load

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from backstory.edge.local import Opened
    from backstory.engine.backfill.preload import Preload
    from backstory.engine.file.options import BackfillOptions, Progress

# Where the command of each name is, which is loaded when it is asked for.
MODULES: Mapping[str, str] = {
    "backfill": "cli_backfill",
    "campaigns": "cli_campaign",
    "clock": "cli_clock",
    "imports": "cli_import",
    "keys": "cli_key",
    "messages": "cli_message",
    "objects": "cli_object",
    "people": "cli_people",
    "privacy": "cli_privacy",
    "segments": "cli_segment_group",
    "verify": "cli_verify",
    "workspaces": "cli_workspace",
}


class Commands(click.Group):
    """A group whose commands are loaded one by one: nobody waits for the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*self.commands, *MODULES])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in MODULES:
            found: click.Command = getattr(import_module(f"backstory.edge.{MODULES[cmd_name]}"), cmd_name)
            return found
        return super().get_command(ctx, cmd_name)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="backstory")
@click.pass_context
def main(context: click.Context) -> None:
    """Backstory: a self-hosted customer-engagement engine with a memory.

    Commands talk to the server of a data folder; without one they open the folder themselves. Only a server sends:
    what a command leaves to be sent waits for the next one.

    \b
    Examples:
      backstory serve --data ./data
      backstory backfill events purchases.csv.gz --data ./data
      backstory segments list --data ./data
    """
    if context.obj is None:
        context.obj = Runtime(
            environment=os.environ, open_folder=open_folder, open_aside=open_aside, serve=serve_forever
        )


def _setting_options(function: Callable[..., None]) -> Callable[..., None]:
    """An option for each setting; secrets come from the environment only, where ``ps`` does not show them.

    A server serves every workspace: it takes none by name.
    """
    for setting in reversed(SETTINGS):
        if not setting.secret and setting.name != "workspace":
            function = _setting_option(setting)(function)
    return function


def _setting_option(setting: Setting) -> Callable[[Callable[..., None]], Callable[..., None]]:
    unsaid = setting.default is None or isinstance(setting.default, bool)
    default = "" if unsaid else f" Default: {setting.default}."
    text = f"{setting.help[0].upper()}{setting.help[1:]}.{default} [{setting.variable}]"
    if isinstance(setting.default, bool):
        # What is on by itself needs a flag that turns it off.
        flag = f"{setting.flag}/--no-{setting.flag[2:]}" if setting.default else setting.flag
        return click.option(flag, setting.name, is_flag=True, default=None, help=text)
    return click.option(setting.flag, setting.name, metavar=setting.name.rpartition("_")[2].upper(), help=text)


@main.command()
@_setting_options
@click.pass_obj
def serve(runtime: Runtime, **flags: Any) -> None:
    """Run the server, until Ctrl-C or SIGTERM.

    It finishes what it has accepted. The first start makes the data folder, a workspace and keys. Settings come from
    the options and from the environment; an option wins.

    \b
    Examples:
      backstory serve --data ./data
      backstory serve --data ./data --host 0.0.0.0 --port 8443 --tls-cert chain.pem --tls-key key.pem
      BACKSTORY_SMTP_URL=smtp://localhost:25 backstory serve --data ./data --tls-dev
    """
    try:
        code = runtime.serve(load(runtime.environment, flags))
    except BackstoryError as error:
        fail(error)
    click.get_current_context().exit(code)


def serve_forever(settings: Settings) -> int:
    """The real server."""
    # The server loads slowly; a client does not need it.
    from backstory.edge.server import serve_folder

    return serve_folder(settings)


def open_folder(settings: Settings, preload: "Preload | None" = None) -> "tuple[Opened, ASGIApp]":
    """Open the data folder in this process, with the application a local socket would serve.

    ``preload``: for an import that is to follow.
    """
    from backstory.engine.house import House

    house = House(settings)
    opened = house.open(settings.workspace, preload)
    # Behind the opening, beside which an import reads what it needs.
    from backstory.edge.app import app_api
    from backstory.edge.app_local import local_tools
    from backstory.edge.auth import first_keys
    from backstory.engine.clock import SystemClock
    from backstory.store.credential import CredentialStore

    clock = SystemClock()

    def store(name: str) -> CredentialStore:
        return CredentialStore(settings.data / "workspaces" / name)

    def create(name: str) -> dict[str, str]:
        house.create(name).close()
        return first_keys(store(name), settings, created_us=clock.now_us())

    tools = replace(
        local_tools(opened, store(settings.workspace), clock.now_us), workspaces=house.names, create_workspace=create
    )
    return opened, app_api(opened, lambda scope: True, trusted=True, tools=tools)


def open_aside(settings: Settings, preload: "Preload | None" = None) -> "tuple[Opened, ASGIApp]":
    """The same for previews: the application is that of a replica, and the folder stays closed meanwhile."""
    from backstory.edge.app import app_api
    from backstory.edge.app_local import local_tools
    from backstory.engine.clock import SystemClock
    from backstory.engine.house import House
    from backstory.engine.preview.preview import as_json
    from backstory.store.credential import CredentialStore

    aside = House(settings).aside(settings.workspace, preload)
    store = CredentialStore(settings.data / "workspaces" / settings.workspace)

    def preview(options: "BackfillOptions", on_progress: "Callable[[Progress], None]") -> dict[str, Any]:
        return as_json(aside.preview(options, on_progress))

    tools = replace(local_tools(aside.workspace, store, SystemClock().now_us), preview=preview)
    return aside, app_api(aside.workspace, lambda scope: True, trusted=True, tools=tools)
