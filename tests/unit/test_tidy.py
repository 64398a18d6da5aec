"""The rules of the house that a machine can check."""

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

from tools import docs

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "backstory"
MODULES = sorted(SOURCE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()

FORBIDDEN_WORDS = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager"}
# Plural by their nature (one table of settings, the options of one call, an API called Pipelines), or no plural at all.
PLURAL_NAMES = {"settings", "options", "pipelines", "tls"}
MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
# Modules that may be longer, each with its reason.
LONG_MODULES: dict[str, str] = {}
# Functions that may be longer (module:function), each with its reason.
LONG_FUNCTIONS: dict[str, str] = {
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, Function):
            yield node


def test_modules_are_named_after_one_noun() -> None:
    """A module is named by one singular noun, never by a drawer for leftovers."""
    names = [(relative(path), word) for path in MODULES for word in path.stem.strip("_").split("_")]
    wrong = [
        path
        for path, word in names
        if word in FORBIDDEN_WORDS
        or (word.endswith("s") and not word.endswith(("ss", "us", "is")) and word not in PLURAL_NAMES)
    ]
    assert not wrong


def test_modules_say_what_they_hold() -> None:
    """Every module opens with a docstring; its first line stands in ARCHITECTURE.md."""
    assert not [relative(path) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))]


def test_modules_are_short() -> None:
    """A module stays within 400 lines, or stands in the list of exceptions; the list holds no stale entry."""
    long = {relative(path) for path in MODULES if len(path.read_text().splitlines()) > MODULE_LINES_MAX}
    assert long == set(LONG_MODULES)


def test_functions_are_short() -> None:
    """A function stays within 70 lines, or stands in the list of exceptions."""
    long = {
        f"{relative(path)}:{node.name}"
        for path in MODULES
        for node in functions(path)
        if (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES_MAX
    }
    assert long == set(LONG_FUNCTIONS)


def calls(path: Path) -> Iterator[tuple[int, str]]:
    """Each call in a module as (line, dotted name as written)."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)


def test_only_the_command_line_prints() -> None:
    """Nothing in the package prints but the command line."""
    printing = [
        f"{relative(path)}:{line}"
        for path in MODULES
        if not relative(path).startswith("src/backstory/edge/cli")
        for line, name in calls(path)
        if name == "print"
    ]
    assert not printing


def test_only_the_clock_reads_the_clock() -> None:
    """The time of day is read in one module; everywhere else it is an argument."""
    reading = re.compile(r"(^|\.)(time\.time(_ns)?|datetime\.(now|utcnow|today)|date\.today)$")
    readers = [
        f"{relative(path)}:{line}"
        for path in MODULES
        if relative(path) != "src/backstory/engine/clock.py"
        for line, name in calls(path)
        if reading.search(name)
    ]
    assert not readers


def test_the_core_has_no_any() -> None:
    """The core is typed to the end; only the number type of an array may be open."""
    users = [
        relative(path)
        for path in MODULES
        if "/core/" in relative(path) and re.search(r"\bAny\b", typed_text(path).replace("NDArray[Any]", ""))
    ]
    assert not users


def typed_text(path: Path) -> str:
    """The code of a module without its imports, comments and docstrings."""
    tree = ast.parse(path.read_text())
    tree.body = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
    return re.sub(r"(\"\"\".*?\"\"\"|'[^'\n]*'|\"[^\"\n]*\")", "", ast.unparse(tree), flags=re.DOTALL)


def test_tests_say_what_they_show() -> None:
    """Every test states its behaviour in a docstring."""
    silent = [
        f"{relative(path)}:{node.name}"
        for path in TESTS
        for node in functions(path)
        if node.name.startswith("test_") and not ast.get_docstring(node)
    ]
    assert not silent


def test_fast_tests_do_not_sleep() -> None:
    """Unit and model tests never wait for the wall clock."""
    sleeping = [
        f"{relative(path)}:{line}"
        for path in TESTS
        if relative(path).startswith(("tests/unit/", "tests/model/"))
        for line, name in calls(path)
        if name.split(".")[-1] == "sleep"
    ]
    assert not sleeping


def test_imports_point_one_way(capsys: pytest.CaptureFixture[str]) -> None:
    """The layers and the purity of the core hold (contracts in pyproject.toml)."""
    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


def test_generated_documents_are_current() -> None:
    """Limits, settings, facts, commands and the map of modules are documented as they are: else run `make docs`."""
    stale = [relative(path) for path, text in docs.documents().items() if not path.exists() or path.read_text() != text]
    assert not stale, "run `make docs`"


def test_every_limit_and_setting_has_its_words() -> None:
    """A limit says its unit, reason and refusal; a setting its environment variable and what it does."""
    for limit in docs.limit.LIMITS:
        assert limit.unit
        assert limit.reason
        assert limit.message
        assert f"| `{limit.name}` |" in (ROOT / "docs" / "limits.md").read_text()
    for setting in docs.settings_table():
        assert setting.help, setting.name
        assert setting.variable.startswith("BACKSTORY_"), setting.name


# Documents whose `code` must name things that exist.
NAMING = [ROOT / "ARCHITECTURE.md", ROOT / "GLOSSARY.md", *sorted((ROOT / "docs" / "decisions").glob("*.md"))]
SPAN = re.compile(r"`([^`\n]+)`")
# Left out: blocks of code, and the map of modules, whose lines are docstrings and which has a test of its own.
BLOCK = re.compile(r"^```.*?^```|^<!-- modules:.*?^<!-- end of modules -->", re.MULTILINE | re.DOTALL)


def source_text() -> str:
    """Everything a name in a document may refer to."""
    folders = [ROOT / "src", ROOT / "tools", ROOT / "bench", ROOT / "tests"]
    files = [path for folder in folders for path in folder.rglob("*.py") if path != Path(__file__).resolve()]
    files += [*SOURCE.rglob("*.sql"), ROOT / "pyproject.toml", *(ROOT / "tools").glob("*.sh")]
    return "\n".join([MAKEFILE, *(path.read_text() for path in files)])


def module_exists(dotted: str) -> bool:
    """Whether `core.limit`, or `core.limit.LIMITS`, is there."""
    parts = dotted.removeprefix("backstory.").split(".")
    place = SOURCE.joinpath(*parts)
    if place.is_dir() or place.with_suffix(".py").exists():
        return True
    module = SOURCE.joinpath(*parts[:-1]).with_suffix(".py")
    return module.exists() and re.search(rf"\b{re.escape(parts[-1])}\b", module.read_text()) is not None


def exists(span: str, source: str) -> bool:
    """Whether what stands between backticks names something that is there."""
    if span.startswith("make "):
        return f"\n{span.split()[1]}:" in MAKEFILE
    if " " in span or re.search(r"[*<>{}=]", span):
        return True  # a command or a pattern, not a name
    if re.fullmatch(r"(backstory\.)?(core|store|engine|edge)(\.\w+)+", span):
        return module_exists(span)
    if "/" in span or re.search(r"\.(py|md|toml|txt|sh)$", span):
        return (ROOT / span).exists() or (SOURCE / span).exists()
    return span.removesuffix("()") in source


@pytest.mark.parametrize("path", NAMING, ids=relative)
def test_documents_name_what_exists(path: Path) -> None:
    """Modules, files, names and make targets in the documents exist."""
    source = source_text()
    spans = SPAN.findall(BLOCK.sub("", path.read_text()))
    assert not [span for span in spans if not exists(span, source)]


def shell_lines(document: str) -> list[str]:
    """The commands of the first shell block of a document."""
    match = re.search(r"^```(?:sh|bash|console)\n(.*?)^```", document, re.MULTILINE | re.DOTALL)
    assert match is not None
    return [line.split("#")[0].strip() for line in match.group(1).splitlines() if line.split("#")[0].strip()]


def test_the_readme_opens_with_the_two_commands() -> None:
    """The README's first block is `make demo` and `make test`, and both are in the Makefile."""
    lines = shell_lines((ROOT / "README.md").read_text())
    assert lines == ["make demo", "make test"]
    assert all(exists(line, "") for line in lines)


def test_ci_runs_the_command_of_the_readme() -> None:
    """CI runs the README's command for the tests, and nothing else."""
    script = (ROOT / ".ci" / "run").read_text()
    commands = [line for line in script.splitlines() if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == [shell_lines((ROOT / "README.md").read_text())[1]]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_the_readme_uses_commands_that_exist() -> None:
    """Each `backstory` command in the README, with each of its options, is one the program has."""
    group = docs.command_group()
    assert group is not None
    known = {context.command_path: context.command for context in docs.walk(docs.root_context(group))}
    blocks = "\n".join(BLOCK.findall((ROOT / "README.md").read_text()))
    lines = re.findall(r"^(?:[A-Z_]+=\S+ )*(backstory .+)$", blocks, re.MULTILINE)
    assert lines
    for line in lines:
        words = shlex.split(line, comments=True)
        named = max((" ".join(words[:length]) for length in (1, 2, 3) if " ".join(words[:length]) in known), key=len)
        assert not isinstance(known[named], click.Group), line
        options = {option for parameter in known[named].params for option in parameter.opts}
        assert {word.split("=")[0] for word in words if word.startswith("-")} <= options, line


def test_documents_link_to_files_that_exist() -> None:
    """Relative links in the documents lead somewhere."""
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")]
    broken = [
        f"{relative(path)}: {target}"
        for path in documents
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text())
        if not re.match(r"[a-z]+:", target) and not (path.parent / target).exists()
    ]
    assert not broken


@pytest.mark.parametrize("name", ["run.txt", "dev.txt"])
def test_locked_dependencies_name_no_address(name: str) -> None:
    """Every locked package has one exact version and hashes; no registry and no folder is named."""
    text = (ROOT / "requirements" / name).read_text()
    assert not re.search(r"://|^-|@ ", text, re.MULTILINE)
    entries = re.split(r"\n(?=[a-z])", text[text.index("\n", text.index("lock.sh")) + 1 :])
    assert len(entries) > 10
    assert all(re.match(r"[a-z0-9.-]+==\S+", entry) and "--hash=sha256:" in entry for entry in entries)


def test_every_dependency_is_locked_and_has_a_decision() -> None:
    """A runtime dependency stands in the lock and in a decision record."""
    locked = (ROOT / "requirements" / "run.txt").read_text()
    decisions = "\n".join(path.read_text().lower() for path in (ROOT / "docs" / "decisions").glob("*.md"))
    for dependency in PROJECT["project"]["dependencies"]:
        name = re.split(r"[<>=~;\[ ]", dependency)[0]
        assert f"\n{name}==" in locked, name
        assert name in decisions, name


def test_decisions_have_the_four_parts() -> None:
    """A decision record says the context, the decision, what else was looked at, and how it could be replaced."""
    for path in (ROOT / "docs" / "decisions").glob("*.md"):
        heads = re.findall(r"^## (.+)$", path.read_text(), re.MULTILINE)
        assert heads == ["Context", "Decision", "Alternatives", "How it could be replaced"], relative(path)
