"""The command line, over a workspace in memory."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
import httpx
import msgspec
import pytest
from click.testing import CliRunner, Result
from starlette.types import ASGIApp, Receive, Scope, Send

from backstory import __version__
from backstory.core.error import RequestError
from backstory.edge.app import app_api
from backstory.edge.app_local import LocalTools
from backstory.edge.cli import main
from backstory.edge.cli_command import Runtime
from backstory.edge.local import Opened
from backstory.engine.answer.view import JourneyView, StepView
from backstory.engine.file.options import BackfillOptions, Held, Progress, Summary
from backstory.engine.preview.preview import as_json
from backstory.engine.preview.preview_view import (
    AttributeEffect,
    CampaignEffect,
    Preview,
    Sample,
    SegmentEffect,
    ValueChange,
)
from backstory.engine.settings import Settings
from backstory.store.credential import CredentialStore
from tests.unit.fake_reader import NOW_US, FakeWorkspace, an_import, app_client, ident, message, person

ADA = person(1, id="1", email="ada@example.com")
SUMMARY = Summary(
    import_id=3, state="imported", rows=1000, created=900, updated=0, unchanged=0, stale=0, duplicate=100, skipped=0,
    errors=0, warnings=0, held_back=Held(event=900), people_created=2, error_file=None, warning_file=None, seconds=2.0,
)  # fmt: skip
PREVIEW = Preview(
    now_us=NOW_US, rows=1000, created=990, updated=0, unchanged=0, stale=0, duplicate=0, skipped=0, errors=10,
    warnings=0,
    held_back=Held(event=900), people_created=2, seconds=2.0,
    segments=[SegmentEffect(id=1, name="Regulars", enter=5, leave=2, members=30)],
    campaigns=[
        CampaignEffect(
            id=4,
            name="Thanks",
            policy="all",
            journeys=7,
            journeys_later_at_most=5,
            messages=7,
            messages_later_at_most=14,
            messages_failed=2,
            failure="to: the variable customer.email is missing",
        )
    ],
    attributes=[
        AttributeEffect(
            name="plan", new_people=2, changed=3, overwritten=3,
            changes=[ValueChange(before="free", after="pro", people=3)],
        )
    ],
    error_samples=[Sample(line=17, error="$.name: an event needs a name")], warning_samples=[],
)  # fmt: skip
KEYS = [
    "import_id", "state", "rows", "created", "updated", "unchanged", "stale", "duplicate", "skipped", "errors",
    "warnings", "held_back", "people_created", "error_file", "warning_file", "seconds", "mended", "to_mend",
    "journeys_started", "hint",
]  # fmt: skip


@dataclass
class World:
    """A data folder, what commands find in it, and what they did."""

    folder: Path
    workspace: FakeWorkspace = field(default_factory=FakeWorkspace)
    summary: Summary | Exception = SUMMARY
    found: list[dict[str, object]] = field(default_factory=list)
    retried: list[tuple[int, Path]] = field(default_factory=list)
    options: list[BackfillOptions] = field(default_factory=list)
    previewed: list[BackfillOptions] = field(default_factory=list)
    served: list[Settings] = field(default_factory=list)
    clock_moved_us: int = 0
    server_goes: bool = False

    def run(
        self, *args: str, input: str | None = None, data: bool = True, environment: dict[str, str] | None = None
    ) -> Result:
        chosen = {"BACKSTORY_DATA": str(self.folder)} if data else {}
        runtime = Runtime(
            environment={**chosen, **(environment or {})},
            open_folder=self.open_folder,
            open_aside=self.open_folder,
            serve=self.serve,
        )
        return CliRunner().invoke(main, args, obj=runtime, input=input)

    def json(self, *args: str) -> dict[str, object]:
        result = self.run(*args, "--json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    def open_folder(self, settings: Settings, preload: object = None) -> tuple[Opened, ASGIApp]:
        tools = LocalTools(
            backfill=self.backfill,
            verify=self.verify,
            retry=self.retry,
            credentials=CredentialStore(settings.data / "workspaces" / "default"),
            now_us=lambda: NOW_US,
            preview=self.preview,
            accept_clock=lambda: self.clock_moved_us,
        )
        app = app_api(self.workspace, lambda scope: False, trusted=True, tools=tools)

        async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
            if self.server_goes and scope["path"] in ("/local/backfill", "/local/preview"):
                raise httpx.RemoteProtocolError("peer closed connection")
            await app(scope, receive, send)

        return self.workspace, breaks

    def preview(self, options: BackfillOptions, on_progress: Callable[[Progress], None]) -> dict[str, object]:
        self.previewed.append(options)
        return as_json(PREVIEW)

    def backfill(self, options: BackfillOptions, on_progress: Callable[[Progress], None]) -> Summary:
        self.options.append(options)
        on_progress(Progress(rows=5, rows_total_estimate=9, bytes=50, bytes_total=100, rows_per_s=5.0, phase="reading"))
        if isinstance(self.summary, Exception):
            raise self.summary
        return self.summary

    def retry(self, import_id: int, path: Path, on_progress: Callable[[Progress], None]) -> Summary:
        self.retried.append((import_id, path))
        errors = "/reports/import-3-errors.csv"
        return msgspec.structs.replace(SUMMARY, errors=2, mended=1, to_mend=1, error_file=errors)

    def verify(self, on_line: Callable[[dict[str, object]], None]) -> None:
        on_line({"checked": {"what": "segments", "count": 3}})
        for difference in self.found:
            on_line({"difference": difference})
        on_line({"result": {"ok": not self.found, "checked": 3}})

    def serve(self, settings: Settings) -> int:
        self.served.append(settings)
        return 0


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "data" / "workspaces" / "default").mkdir(parents=True)
    (tmp_path / "events.csv").write_text("customer_id,name\n1,purchased\n")
    world = World(tmp_path / "data")
    world.workspace.reader.people = [ADA]
    return world


def commands(command: click.Command = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            yield from commands(inner_command(command, name), (*path, name))


def inner_command(command: click.Command, name: str) -> click.Command:
    assert isinstance(command, click.Group)
    inner = command.get_command(click.Context(command), name)
    assert inner is not None
    return inner


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_help_shows_an_example(path: tuple[str, ...]) -> None:
    """Every command says what it does and shows how it is called, with its full name."""
    result = CliRunner().invoke(main, [*path, "--help"])
    assert result.exit_code == 0
    assert "Example" in result.stdout
    assert " ".join(("backstory", *path)) in result.stdout.partition("Example")[2]


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_commands_take_the_folder_and_print_json(path: tuple[str, ...]) -> None:
    """--data everywhere, --json wherever there is a result."""
    command: click.Command = main
    for name in path:
        command = inner_command(command, name)
    flags = {flag for parameter in command.params for flag in parameter.opts}
    if not isinstance(command, click.Group):
        assert "--data" in flags
        assert "--json" in flags or path == ("serve",)


def test_the_version_is_told() -> None:
    """backstory --version."""
    assert CliRunner().invoke(main, ["--version"]).stdout == f"backstory, version {__version__}\n"


def test_a_folder_is_needed(world: World) -> None:
    """Without --data and BACKSTORY_DATA a command is wrong; --data wins."""
    result = world.run("segments", "list", data=False)
    assert result.exit_code == 2
    assert "--data" in result.stderr
    assert world.run("segments", "list", "--data", str(world.folder), data=False).exit_code == 0


def test_an_empty_folder_is_not_filled_by_looking(world: World, tmp_path: Path) -> None:
    """A misspelt folder is told, not made."""
    result = world.run("segments", "list", "--data", str(tmp_path / "typo"))
    assert result.exit_code == 1
    assert "holds no workspace" in result.stderr
    assert not (tmp_path / "typo").exists()


def test_serve_hands_its_settings_on(world: World) -> None:
    """Options win over the environment; a wrong one ends with 2."""
    result = world.run(
        "serve", "--port", "9", "--tls-dev", environment={"BACKSTORY_PORT": "8", "BACKSTORY_APP_KEY": "k"}
    )
    assert result.exit_code == 0
    (settings,) = world.served
    assert (settings.port, settings.tls_dev, settings.app_key, settings.data) == (9, True, "k", world.folder)
    assert settings.auto_merge
    assert world.run("serve", "--no-auto-merge").exit_code == 0
    assert not world.served[-1].auto_merge
    assert world.run("serve", "--port", "high").exit_code == 2
    assert world.run("serve", "--app-key", "k").exit_code == 2


def test_a_clock_is_accepted(world: World) -> None:
    """By how much it had moved is told; a clock that is not in doubt may be accepted too."""
    assert world.run("clock", "accept").stdout == "all was well\n"
    world.clock_moved_us = 3_600_000_000
    assert "it had moved by +3,600 seconds" in world.run("clock", "accept").stdout
    assert world.json("clock", "accept") == {"clock": {"moved_s": 3600}}


def test_segments_are_made_shown_and_listed(world: World) -> None:
    """With conditions from the command line, a file or standard input, or by hand."""
    conditions = '{"event":{"name":"purchased"}}'
    path = world.folder / "conditions.json"
    path.write_text(conditions)
    assert "dynamic" in world.run("segments", "create", "A", "--conditions", conditions).stdout
    assert "dynamic" in world.run("segments", "create", "B", "--conditions", f"@{path}").stdout
    assert "dynamic" in world.run("segments", "create", "C", "--conditions", "-", input=conditions).stdout
    made = world.json("segments", "create", "D", "--description", "by hand")
    assert made["segment"]["type"] == "manual"  # type: ignore[index]
    listed = world.run("segments", "list").stdout.splitlines()
    assert listed[0].split() == ["id", "name", "type", "state", "progress", "updated", "at"]
    assert [line.split()[1] for line in listed[1:]] == ["A", "B", "C", "D"]
    shown = world.run("segments", "show", "1").stdout
    assert '{"event": {"name": "purchased"}}' in shown
    assert world.json("segments", "show", "4")["segment"]["members"] == 0  # type: ignore[index]


@pytest.mark.parametrize("conditions", ["{", "@/no/such/file", ""])
def test_unreadable_conditions_are_a_wrong_command(world: World, conditions: str) -> None:
    """Exit code 2, and nothing is made."""
    assert world.run("segments", "create", "A", "--conditions", conditions).exit_code == 2
    assert not world.workspace.facts


def test_a_refused_condition_says_where(world: World) -> None:
    """Exit code 1 with the words and the place."""
    result = world.run("segments", "create", "A", "--conditions", '{"event":{}}')
    assert result.exit_code == 1
    assert "$.segment.conditions.event" in result.stderr


def test_members_nobody_knows_are_not_said_to_be_of_another_kind(world: World, tmp_path: Path) -> None:
    """What passes rows over is said of each kind of import as it is there."""
    path = tmp_path / "rows.csv"
    path.write_text("id\nghost\n")
    world.summary = msgspec.structs.replace(SUMMARY, skipped=3)
    told = world.run("backfill", "members", str(path), "--segment", "1").stdout
    assert "skipped (nobody has the name, or --rows)" in told
    assert "of another kind" not in told
    assert "of another kind" in world.run("backfill", "people", str(path)).stdout


def test_members_are_listed_and_counted(world: World) -> None:
    """Now or as of a moment; a further page is announced on standard error."""
    world.run("segments", "create", "A")
    world.workspace.reader.manual = {1: [ADA, person(2, email="bob\x1b[2J@example.com")]}
    assert world.run("segments", "count", "1").stdout == "2\n"
    assert world.json("segments", "count", "1", "--as-of", "2020-01-01T00:00:00+01:00")["count"] == 2
    assert world.workspace.reader.asked["as_of_us"] == 1_577_833_200_000_000
    result = world.run("segments", "members", "1", "--limit", "1")
    assert result.stdout.splitlines() == ["id  email            cio id", "1   ada@example.com  a3000001"]
    assert result.stderr == "there is more: --start 1\n"
    assert "\x1b" not in world.run("segments", "members", "1", "--start", "1").stdout
    assert world.run("segments", "count", "1", "--as-of", "then").exit_code == 1


def test_imports_are_listed_and_shown(world: World) -> None:
    """With what became of their rows."""
    assert "no imports yet" in world.run("imports", "list").stdout
    summary = msgspec.to_builtins(msgspec.structs.replace(SUMMARY, errors=1, error_file="/data/errors.csv"))
    running = an_import(3, state="importing", running=True, summary={})
    world.workspace.reader.kept_imports = [an_import(1, summary=summary), running]
    assert "purchases.csv" in world.run("imports", "list").stdout
    shown = world.run("imports", "show", "1").stdout
    assert "/data/errors.csv" in shown
    assert "created at       2023-11-14 22:13:20Z" in shown
    for asked in ("/data/purchases.csv", "1970-01-01 00:00:05Z", "none", '{"who": "id"}'):
        assert asked in shown
    assert "importing" in world.run("imports", "show", "3").stdout
    assert world.json("imports", "show", "1")["import"]["id"] == 1  # type: ignore[index]
    assert world.run("imports", "show", "2").exit_code == 1


def test_keys_are_made_listed_and_revoked(world: World) -> None:
    """A key is printed once; a track key after its site id."""
    key = world.run("keys", "create", "app").stdout.splitlines()[0]
    pair = world.run("keys", "create", "track", "--site-id", "shop").stdout.splitlines()[0]
    assert pair.startswith("shop:")
    listed = world.run("keys", "list").stdout
    assert key not in listed
    assert key[-4:] in listed
    assert world.run("keys", "revoke", "1").stdout == "key 1 is revoked\n"
    assert world.run("keys", "revoke", "1").exit_code == 1
    assert world.run("keys", "create", "root").exit_code == 2
    assert [one["kind"] for one in world.json("keys", "list")["keys"]] == ["track"]  # type: ignore[union-attr]


def test_messages_are_listed_shown_and_retried(world: World) -> None:
    """Those in doubt come with the command that attempts them again."""
    world.workspace.reader.kept_messages = [message("d/1", ADA), message("d2", ADA, state="in_doubt")]
    result = world.run("messages", "list")
    assert "in_doubt" in result.stdout
    assert "backstory messages retry d2" in result.stderr
    assert world.run("messages", "list", "--state", "failed").stdout == "no messages\n"
    shown = world.run("messages", "show", "d/1").stdout
    assert "shop@example.com" in shown
    assert "<p>Hello</p>" in shown
    retried = world.run("messages", "retry", "d2")
    assert retried.stdout == "1 to be attempted again\n"
    assert "no server is running: they are sent when one starts" in retried.stderr
    world.workspace.reader.message("d2").state = "failed"
    assert world.json("messages", "retry", "d2")["messages"][0]["state"] == "queued"  # type: ignore[index]
    assert world.run("messages", "retry", "d/1").exit_code == 1


def test_campaigns_are_shown_started_stopped_and_followed(world: World) -> None:
    """The last decision of each journey with its reason."""
    definition = {
        "name": "Welcome",
        "trigger": {"event": {"name": "purchased"}},
        "steps": [{"type": "delay", "seconds": 60}],
    }
    with app_client(world.workspace) as client:
        assert client.post("/v1/campaigns", json={"campaign": definition}).status_code == 200
    assert "Welcome" in world.run("campaigns", "list").stdout
    assert '"seconds": 60' in world.run("campaigns", "show", "1").stdout
    assert world.run("campaigns", "start", "1").stdout == "campaign 1 'Welcome' is running\n"
    assert world.json("campaigns", "stop", "1")["campaign"]["state"] == "stopped"  # type: ignore[index]
    assert world.run("campaigns", "journeys", "1").stdout == "nobody has entered yet\n"
    step = StepView(type="email", decision="skipped", reason="unsubscribed", at_us=NOW_US)
    world.workspace.reader.kept_journeys = [
        JourneyView(
            journey_id=7, identifiers=ident(ADA), state="finished", started_us=NOW_US, effective_us=NOW_US, steps=[step]
        )
    ]
    assert "email: skipped" in world.run("campaigns", "journeys", "1").stdout
    world.workspace.reader.kept_journeys[0].failure = "no first_name"
    assert "failed: no first_name" in world.run("campaigns", "journeys", "1").stdout
    assert world.run("campaigns", "start", "2").exit_code == 1


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"state": "importing"}, "interrupted"),
        ({"state": "preprocessing"}, "interrupted"),
        ({"state": "importing", "running": True}, "importing"),
        ({"state": "retracted", "purged": True}, "purged"),
        ({"state": "retracted"}, "retracted"),
    ],
)
def test_what_published_states_do_not_tell_apart_is_told(world: World, changes: dict[str, object], word: str) -> None:
    """An import that nobody is at work on, and one whose rows are gone for good; list and show say so."""
    world.workspace.reader.kept_imports = [an_import(3, summary={}, **changes)]
    assert f" {word} " in world.run("imports", "list").stdout
    told = world.run("imports", "show", "3").stdout
    assert word in told
    assert ("imports resume 3" in told) == (word == "interrupted")


@pytest.mark.parametrize(("command", "next_step"), [((), "the same command"), (("--preview",), "run it again")])
def test_a_server_that_goes_away_leaves_word_what_next(
    tmp_path: Path, world: World, command: tuple[str, ...], next_step: str
) -> None:
    """The import is not lost: the error says how it goes on."""
    world.server_goes = True
    path = tmp_path / "rows.csv"
    path.write_text("customer_id,name\n1,bought\n")
    failed = world.run("backfill", "events", str(path), *command)
    assert failed.exit_code == 1
    assert "went away" in failed.stderr
    assert next_step in " ".join(failed.stderr.split())


def test_an_unfinished_import_is_canceled(world: World) -> None:
    """It keeps what came in."""
    world.workspace.reader.kept_imports = [an_import(1, state="canceled")]
    assert world.run("imports", "cancel", "1").stdout == "import 1 is canceled; of its rows 9 came in\n"
    assert world.workspace.imports.asked == [("cancel", 1)]
    assert world.run("imports", "cancel", "2").exit_code == 1


def test_verify_finds_nothing(world: World) -> None:
    """Exit code 0."""
    result = world.run("verify")
    assert result.stdout.splitlines() == ["checked: segments               3", "everything is as it must be"]
    assert world.json("verify") == {"ok": True, "checked": 3, "differences": []}


def test_verify_prints_what_differs(world: World) -> None:
    """Exit code 1, and one JSON value if asked."""
    world.found = [{"what": "segment", "segment": 1, "person": 7}]
    result = world.run("verify")
    assert result.exit_code == 1
    assert "differs: segment, segment 1, person 7" in result.stdout
    result = world.run("verify", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["differences"] == world.found


def events_file(world: World) -> str:
    return str(world.folder.parent / "events.csv")


def test_a_backfill_prints_its_summary(world: World) -> None:
    """Exit code 0 when every row is in or already was; with --json the keys of the issue, in one object."""
    result = world.run("backfill", "events", events_file(world))
    assert result.exit_code == 0
    assert result.stdout.startswith("import 3 is imported: 1,000 rows in 2.0 s (500 rows/s)")
    assert "events held back" in result.stdout
    printed = world.json("backfill", "events", events_file(world))
    assert list(printed) == KEYS
    assert printed["held_back"] == {"event": 900, "segment": 0}


def test_a_backfill_hands_its_flags_on(world: World) -> None:
    """Each flag is an option of the import; paths are absolute, the name is the file's unless given."""
    flags = (
        "--identifier email --map user=id --map a=b=c --on-empty clear --rows only_new --triggers none "
        "--as-of 2020-01-01T00:00:00Z --name June"
    )
    assert world.run("backfill", "people", events_file(world), *flags.split()).exit_code == 0
    assert world.run("backfill", "events", events_file(world), events_file(world), "--time", "when").exit_code == 0
    first, second = world.options
    assert first == BackfillOptions(
        kind="people",
        paths=(events_file(world),),
        identifier="email",
        map={"user": "id", "a=b": "c"},
        on_empty="clear",
        rows="only_new",
        triggers="none",
        as_of_us=1_577_836_800_000_000,
        name="June",
    )
    assert second == BackfillOptions(kind="events", paths=(events_file(world),) * 2, time="when", name="events.csv")
    flags = "--delimiter tab --encoding cp1252 --quote none"
    assert world.run("backfill", "people", events_file(world), *flags.split()).exit_code == 0
    assert world.options[2] == BackfillOptions(
        kind="people", paths=(events_file(world),), name="events.csv", delimiter="\t", encoding="cp1252", quote=""
    )


def test_what_comes_from_elsewhere_is_a_file_first(world: World, tmp_path: Path) -> None:
    """A folder is its files; standard input and the rows of a query are spooled in the workspace."""
    workspace = world.folder / "workspaces" / "default"
    workspace.mkdir(parents=True, exist_ok=True)
    many = tmp_path / "many"
    many.mkdir()
    for name in ("b.csv", "a.csv", ".c.csv"):
        (many / name).write_text("id\n1\n")
    with sqlite3.connect(tmp_path / "shop.db") as db:
        db.execute("CREATE TABLE people (id TEXT)")
        db.execute("INSERT INTO people VALUES ('ann')")
    db.close()
    assert world.run("backfill", "people", str(many)).exit_code == 0
    assert world.run("backfill", "people", "-", input="id\nann\n").exit_code == 0
    query = ("--sql", f"sqlite:///{tmp_path / 'shop.db'}", "--query", "SELECT * FROM people", "--key", "id")
    assert world.run("backfill", "people", *query).exit_code == 0
    folder, standard, database = world.options
    assert (folder.paths, folder.name) == ((str(many / "a.csv"), str(many / "b.csv")), "many")
    assert standard.name == "standard input"
    assert Path(standard.paths[0]).read_text() == "id\nann\n"
    assert Path(database.paths[0]).read_text() == '{"id":"ann"}\n'
    assert database.name == f"query of sqlite:///{tmp_path / 'shop.db'}"
    assert {Path(one.paths[0]).parent for one in (standard, database)} == {workspace / "spool"}


def test_what_is_wrong_with_standard_input_is_said_of_it(tmp_path: Path) -> None:
    """Not of the file that it was spooled into, which nobody knows."""
    found = CliRunner().invoke(main, ["backfill", "people", "-", "--data", str(tmp_path / "data")], input="")
    assert found.exit_code == 1
    assert "standard input is empty" in found.stderr


@pytest.mark.parametrize(
    "flags",
    [
        "backfill events",
        "backfill events FILE --rows only_new",
        "backfill events FILE --triggers all",
        "backfill people FILE --map id",
        "backfill people FILE --map =id",
        "backfill people FILE --map a=b --map a=c",
        "backfill people FILE --time a --as-of now",
        "backfill people FILE --as-of yesterday",
        "backfill people FILE --as-of 2024",
        "backfill people FILE --identifier phone",
        "backfill people /no/such/file.csv",
        "backfill people EMPTY",
        "backfill people ftp://example.com/people.csv",
        "backfill people FILE --sql sqlite:// --query x",
        "backfill people --sql sqlite://",
        "backfill people FILE --key id",
        "backfill people FILE --encoding klingon",
        "backfill members FILE",
        "backfill companies FILE",
    ],
)
def test_a_wrong_backfill_ends_with_2_before_anything_is_opened(world: World, flags: str) -> None:
    """Usage errors are told and nothing is done."""
    (world.folder.parent / "empty").mkdir()
    named = flags.replace("FILE", events_file(world)).replace("EMPTY", str(world.folder.parent / "empty"))
    result = world.run(*named.split())
    assert result.exit_code == 2
    assert result.stderr
    assert not world.options
    assert not world.workspace.is_closed


def test_a_preview_is_printed_and_nothing_is_imported(world: World) -> None:
    """Tables of what would change; with --json the summary's keys with segments and campaigns beside them."""
    result = world.run("backfill", "events", events_file(world), "--preview", "--triggers", "all")
    assert result.exit_code == 0
    for text in ("1,000 rows", "line 17", "Regulars", "free → pro (3)", "Thanks: a message would fail: to: the"):
        assert text in result.stdout
    printed = world.json("backfill", "events", events_file(world), "--preview")
    assert [key for key in KEYS if key not in printed] == []
    assert printed["segments"] == [{"id": 1, "name": "Regulars", "enter": 5, "leave": 2, "members": 30}]
    assert printed["campaigns"][0]["policy"] == "all"  # type: ignore[index]
    assert not world.options


def test_a_backfill_into_a_folder_that_was_not_there_says_so(world: World, tmp_path: Path) -> None:
    """A mistyped --data is seen at once; in a folder that is there nothing is said."""
    name = str(tmp_path / "dada")
    assert name in world.run("backfill", "events", events_file(world), "--data", name).stderr
    assert name not in world.run("backfill", "events", events_file(world), "--data", name).stderr


def test_a_segment_is_cleared_only_after_a_question(world: World) -> None:
    """Nobody can be asked here: without --yes nothing is done."""
    world.run("segments", "create", "Testers")
    refused = world.run("segments", "clear", "1")
    assert refused.exit_code == 2
    assert "confirm with --yes: segments clear 1" in refused.output
    assert "0 removed" in world.run("segments", "clear", "1", "--yes").stdout


def test_triggering_everything_can_be_confirmed_beforehand(world: World) -> None:
    """--yes stands for the answer where nobody can be asked."""
    assert world.run("backfill", "events", events_file(world), "--triggers", "all", "--yes").exit_code == 0
    assert world.options[0].triggers == "all"


def test_rows_with_errors_end_with_1(world: World) -> None:
    """The summary says where they are."""
    world.summary = msgspec.structs.replace(SUMMARY, errors=2, error_file="/data/errors.csv")
    result = world.run("backfill", "events", events_file(world))
    assert result.exit_code == 1
    assert "/data/errors.csv" in result.stdout
    assert world.run("backfill", "events", events_file(world), "--json").exit_code == 1


def test_a_backfill_that_fails_says_why(world: World) -> None:
    """Exit code 1 with the engine's words."""
    world.summary = RequestError("events.csv changed since import 3 began")
    result = world.run("backfill", "events", events_file(world))
    assert result.exit_code == 1
    assert result.stderr == "Error: events.csv changed since import 3 began\n"


def test_mended_rows_are_taken_in_under_their_import(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is found from anywhere; the summary says how many are mended and how to go on."""
    monkeypatch.chdir(world.folder.parent)
    result = world.run("imports", "retry", "3", "events.csv")
    assert result.exit_code == 1, result.stderr
    assert world.retried == [(3, world.folder.parent / "events.csv")]
    assert "failed at first, mended since" in result.stdout
    assert "backstory imports retry 3" in result.stdout
    assert json.loads(world.run("imports", "retry", "3", "events.csv", "--json").stdout)["mended"] == 1
