"""The command line over real data folders, as somebody new meets them."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from click.testing import CliRunner, Result

from backstory.edge.cli import main, open_aside, open_folder
from backstory.edge.cli_command import Runtime
from backstory.engine.settings import Settings


def run(*args: str, **environment: str) -> Result:
    def serve(settings: Settings) -> int:
        raise AssertionError("nobody serves here")

    runtime = Runtime(environment=environment, open_folder=open_folder, open_aside=open_aside, serve=serve)
    return CliRunner().invoke(main, args, obj=runtime)


def test_a_preview_leaves_no_folder_behind(tmp_path: Path) -> None:
    """It tells what would be, and afterwards there is what there was before; the import itself makes the folder."""
    rows = tmp_path / "people.csv"
    rows.write_text("id,plan\nann,pro\nbob,free\n")
    data = tmp_path / "deep" / "data"
    told = run("backfill", "people", str(rows), "--preview", BACKSTORY_DATA=str(data))
    assert told.exit_code == 0, told.stderr
    assert "2 rows" in told.stdout
    assert list(tmp_path.iterdir()) == [rows]
    assert run("backfill", "people", str(rows), BACKSTORY_DATA=str(data)).exit_code == 0
    assert data.is_dir()


def test_a_temporary_folder_that_cannot_be_is_named_with_its_setting(tmp_path: Path) -> None:
    """Not the data folder, which is well."""
    file = tmp_path / "file"
    file.touch()
    settings = {"BACKSTORY_DATA": str(tmp_path / "data"), "BACKSTORY_TEMP_FOLDER": str(file / "x")}
    told = run("workspaces", "create", "shop", **settings)
    assert told.exit_code == 1
    assert str(file / "x") in told.stderr
    assert "temp_folder" in told.stderr


def test_a_mistyped_setting_is_refused_by_every_command(tmp_path: Path) -> None:
    """As a wrong command, before anything is opened."""
    told = run("segments", "list", BACKSTORY_DATA=str(tmp_path), BACKSTORY_WORKSPAEC="staging")
    assert told.exit_code == 2
    assert "BACKSTORY_WORKSPACE?" in told.stderr


def shop(path: Path) -> str:
    """A database of one customer; returns its address."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE customers (id TEXT, plan TEXT, since TEXT)")
        db.execute("INSERT INTO customers VALUES ('ann', 'free', '2024-05-01 10:00:00')")
        db.commit()
    return f"sqlite:///{path}"


def test_what_a_preview_fetched_is_imported_and_that_is_said(tmp_path: Path) -> None:
    """The rows are those that were looked at; whoever changed them meanwhile is told when they were fetched."""
    url = shop(tmp_path / "shop.db")
    data = str(tmp_path / "data")
    assert run("workspaces", "create", "other", BACKSTORY_DATA=data).exit_code == 0
    command = ("backfill", "people", "--sql", url, "--query", "SELECT * FROM customers", "--key", "id", "--json")
    seen = run(*command, "--preview", BACKSTORY_DATA=data, BACKSTORY_WORKSPACE="other")
    assert (seen.exit_code, "as it was fetched at" in seen.stderr) == (0, False)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as db:
        db.execute("INSERT INTO customers VALUES ('bob', 'pro', '2024-05-02 10:00:00')")
        db.commit()
    counts = [run(*command, BACKSTORY_DATA=data, BACKSTORY_WORKSPACE="other") for _ in range(2)]
    assert [json.loads(one.stdout)["rows"] for one in counts] == [1, 2]
    assert ["as it was fetched at" in one.stderr for one in counts] == [True, False]


def test_times_that_are_taken_for_text_are_pointed_out(tmp_path: Path) -> None:
    """No condition on times would see them; told what they are, they are unix seconds and nothing is said."""
    url = shop(tmp_path / "shop.db")
    command = ("backfill", "people", "--sql", url, "--query", "SELECT * FROM customers", "--preview")
    plain = run(*command, BACKSTORY_DATA=str(tmp_path / "data"))
    assert "since: times as text" in plain.stderr
    assert "--type since=time --zone" in plain.stderr
    told = run(*command, "--type", "since=time", "--zone", "UTC", BACKSTORY_DATA=str(tmp_path / "data"))
    assert (told.exit_code, "times as text" in told.stderr) == (0, False)


EUROPE = "id;price;born;seen\nann;1,50;31.12.1980;01.05.2024 10:30\nbob;2,00;24.12.1990;02.05.2024 8:00\n"


def test_numbers_and_dates_of_other_countries_are_pointed_out(tmp_path: Path) -> None:
    """They are text, or errors where they are the times of rows, until their notation is told; then nothing is said."""
    rows = tmp_path / "people.csv"
    rows.write_text(EUROPE)
    command = ("backfill", "people", str(rows), "--time", "seen", "--preview")
    data = str(tmp_path / "data")
    plain = run(*command, BACKSTORY_DATA=data)
    assert "price: taken for text; if a comma stands before the decimals" in plain.stderr
    assert "--decimal comma reads 1,50 as 1.5" in plain.stderr
    assert "born: times as text" in plain.stderr
    assert "--type born=time --dates dmy --zone Europe/Berlin" in plain.stderr
    assert "seen: dates such as 01.05.2024 10:30 cannot be read as they are; --dates dmy or mdy" in plain.stderr
    assert "with --dates dmy or mdy and the zone" in plain.stdout
    wrong = run(*command, "--dates", "mdy", "--type", "born=time", "--zone", "UTC", BACKSTORY_DATA=data)
    assert "born: dates such as 31.12.1980 cannot be read with --dates mdy; --dates dmy reads them" in wrong.stderr
    told = ("--dates", "dmy", "--type", "born=time", "--zone", "UTC", "--decimal", "comma")
    quiet = run(*command, *told, BACKSTORY_DATA=data)
    assert not any(said in quiet.stderr for said in ("cannot be read", "as text", "taken for text"))
    assert "number      1,50 | 2,00" in quiet.stderr


def test_rows_of_other_countries_come_in_and_are_mended_in_their_own_form(tmp_path: Path) -> None:
    """Values are numbers and unix seconds; the error file has the cells as they were."""
    rows, data = tmp_path / "people.csv", str(tmp_path / "data")
    rows.write_text(EUROPE + "cay;3,25;30.02.1980;03.05.2024\n")
    told = ("--time", "seen", "--dates", "dmy", "--type", "born=time", "--zone", "UTC", "--decimal", "comma")
    assert run("backfill", "people", str(rows), *told, BACKSTORY_DATA=data).exit_code == 1
    report = tmp_path / "data/workspaces/default/reports/import-1-errors.csv"
    text = report.read_text()
    assert text.splitlines()[1].startswith("cay;3,25;30.02.1980;03.05.2024;")
    fixed = tmp_path / "fixed.csv"
    fixed.write_text(text.replace("30.02.1980", "29.02.1980"))
    assert run("imports", "retry", "1", str(fixed), BACKSTORY_DATA=data).exit_code == 0
    shown = json.loads(run("people", "show", "cay", "--json", BACKSTORY_DATA=data).stdout)["customer"]
    assert (shown["attributes"]["price"], shown["attributes"]["born"]) == ("3.25", "320630400")
    assert shown["timestamps"]["price"] == 1714694400
    ann = json.loads(run("people", "show", "ann", "--json", BACKSTORY_DATA=data).stdout)["customer"]
    assert (ann["attributes"]["price"], ann["attributes"]["born"]) == ("1.5", "347068800")
    assert ann["timestamps"]["price"] == 1714559400


def test_rows_of_an_import_that_was_taken_back_are_not_to_be_mended(tmp_path: Path) -> None:
    """Its errors are still told; what to do about them would be refused."""
    rows = tmp_path / "events.csv"
    rows.write_text("customer_id,name\nann,bought\nann,\n")
    data = str(tmp_path / "data")
    assert "imports retry 1 COPY" in run("backfill", "events", str(rows), BACKSTORY_DATA=data).stdout
    run("imports", "undo", "1", "--yes", BACKSTORY_DATA=data)
    shown = run("imports", "show", "1", BACKSTORY_DATA=data).stdout
    assert "import 1 is retracted" in shown
    assert "imports retry" not in shown
    run("imports", "purge", "1", "--yes", BACKSTORY_DATA=data)
    assert "import 1 is purged" in run("imports", "show", "1", BACKSTORY_DATA=data).stdout
