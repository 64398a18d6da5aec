"""The command line over real data folders, as somebody new meets them."""

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
