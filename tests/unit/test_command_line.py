"""The command line of dvrctl as a whole: help texts, exit codes, verbs that need root, manual pages, completion.

The pages and scripts are made as ``make man completion`` makes them, and read by the programs that they are for.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from dvr_agent.cli import ctl, exit_codes, schemas
from tests.support.json_outputs import hold_output
from tests.support.requirements import require
from tools import dvrctl_page, generated_part, json_schemas
from tools.completion.arguments import Kind, kind, parsers
from tools.manual.pages import all_pages

ROOT = Path(__file__).parents[2]
VERBS = [(" ".join(verbs), parser) for verbs, parser in parsers(ctl.make_parser())]
COMPLETED = [
    ("dvrctl st", {"status"}),
    ("dvrctl --config-file /etc/passwd pl", {"plan"}),
    ("dvrctl -o ", {"table", "json"}),
    ("dvrctl show rout", {"routers", "router"}),
    ("dvrctl cleanup --dr", {"--dry-run"}),
    ("dvrctl check /etc/passw", {"/etc/passwd"}),
]
"""A line up to the cursor, and words that are offered then."""


def make(module: str, directory: Path) -> Path:
    done = subprocess.run(
        [sys.executable, "-m", module, directory], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return directory


@pytest.fixture(scope="module")
def man(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("tools.manual", tmp_path_factory.mktemp("man"))


@pytest.fixture(scope="module")
def completion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("tools.completion", tmp_path_factory.mktemp("completion"))


# -- help texts and exit codes


@pytest.mark.parametrize(("verb", "parser"), VERBS, ids=[verb or "dvrctl" for verb, _ in VERBS])
def test_help_fits_a_terminal_of_80_columns(
    verb: str, parser: argparse.ArgumentParser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert [line for line in parser.format_help().splitlines() if len(line) > 79] == []


def test_each_verb_has_its_exit_codes_in_its_help_and_in_the_help_of_dvrctl() -> None:
    verbs = {verb: parser for verb, parser in VERBS if verb and " " not in verb}
    assert verbs.keys() <= exit_codes.VERBS.keys()
    for verb, parser in verbs.items():
        assert parser.epilog == exit_codes.of_verb(verb)
        assert {0, 1} <= exit_codes.VERBS[verb].keys() <= {0, 1, 2, 3}
    assert exit_codes.of_all() in ctl.EPILOG


def test_help_begins_with_the_verbs_for_what_does_not_work(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ctl.make_parser().parse_args(["--help"])
    text = capsys.readouterr().out
    headings = [
        line.strip().removesuffix(":") for line in text.splitlines() if line.startswith("  ") and line[-1:] == ":"
    ]
    assert headings == list(ctl.HEADINGS.values())
    first = text.partition("when something does not work:\n")[2].splitlines()
    assert first[0].split()[0] == "why"
    assert any(line.split()[:1] == ["status"] for line in first[:5])


def test_exit_codes_of_the_manual_are_those_of_the_program() -> None:
    page = dvrctl_page.PAGE.read_text()
    assert dvrctl_page.generate(page) == page, "stale: tools/dvrctl_page.py"


def test_a_stale_table_of_exit_codes_is_noticed(tmp_path: Path) -> None:
    stale = tmp_path / "dvrctl.md"
    stale.write_text(dvrctl_page.PAGE.read_text().replace("in sync |", "all right |"))
    assert generated_part.check(stale, dvrctl_page.generate, "") == 1


def test_a_warning_of_a_library_is_a_line_of_dvrctl() -> None:
    program = (
        "import argparse, logging; from dvr_agent.cli.inputs import load_config; "
        "load_config(argparse.Namespace(config=['--config-file', '/dev/null'])); "
        "logging.getLogger('lib').warning('one')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "dvrctl: one\n"


# -- verbs that need root


def runnable() -> Iterator[tuple[str, bool]]:
    """Verbs that can be run, and whether they need root."""
    for verb, parser in VERBS:
        if parser.get_default("run"):
            yield verb, parser.get_default("needs_root")


@pytest.mark.parametrize("verb", [verb for verb, root in runnable() if root])
def test_a_verb_that_needs_root_says_so_before_anything_else(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    parser = dict(VERBS)[verb]
    given = []
    for action in parser._actions:
        if action.option_strings and action.required:
            given += [action.option_strings[0], "192.0.2.1"]
        elif not action.option_strings and action.nargs in (None, "+"):
            given.append("11111111-1111-4111-8111-111111111111")
    code = ctl.main(["--config-file", "/nowhere/dvr-agent.conf", *verb.split(), *given])
    assert code == exit_codes.NEEDS_ROOT == 77
    first = verb.split()[0]
    assert capsys.readouterr().err == f"dvrctl: {first} needs root: sudo dvrctl {first} …\n"


def test_verbs_without_root_are_those_that_the_manual_names() -> None:
    named = {"check", "schema", "demo", "wants-metadata", "wants-web"}
    assert {verb for verb, root in runnable() if not root} == named


# -- manual pages


def test_each_program_and_file_has_its_page(man: Path) -> None:
    assert {path.name for path in man.iterdir()} == {
        "dvrctl.1",
        "dvr-agent.8",
        "dvr-metadata-proxy.8",
        "dvr-vrrp.8",
        "dvr-agent.conf.5",
    }


@pytest.mark.parametrize(("name", "section"), [(name, section) for name, (section, _) in all_pages().items()])
def test_mandoc_has_nothing_to_say_against_a_page(man: Path, name: str, section: int) -> None:
    require("mandoc", "mandoc")
    done = subprocess.run(
        ["mandoc", "-Tlint", "-Wwarning", man / f"{name}.{section}"], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_the_page_of_dvrctl_reads_as_text(man: Path) -> None:
    require("mandoc", "mandoc")
    done = subprocess.run(["mandoc", "-Tascii", man / "dvrctl.1"], capture_output=True, text=True, check=True)
    text = re.sub(".\b", "", done.stdout)
    assert "\\" not in text
    for word in (*(f"dvrctl {verb}" for verb, _ in runnable()), "EXIT STATUS", "NO_COLOR", "dvr-agent.conf(5)"):
        assert word in text


# -- completion


BASH = """
source {script}
COMP_WORDS=({words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_shtab_dvrctl
echo "${{COMPREPLY[*]}}"
"""


@pytest.mark.parametrize(("line", "expected"), COMPLETED)
def test_bash_completes(completion: Path, line: str, expected: set[str]) -> None:
    words = " ".join(word or "''" for word in line.split(" "))
    script = BASH.format(script=shlex.quote(str(completion / "bash" / "dvrctl")), words=words)
    done = subprocess.run(["bash", "-u", "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert set(done.stdout.split()) >= expected


def test_a_tab_in_an_interactive_bash_completes_the_verb(completion: Path) -> None:
    terminal, inside = pty.openpty()
    with subprocess.Popen(["bash", "--norc", "-i"], stdin=inside, stdout=inside, stderr=inside) as bash:
        os.close(inside)
        os.write(terminal, f"source {completion}/bash/dvrctl\ndvrctl st\t".encode())
        seen = b""
        while b"dvrctl status " not in seen:
            seen += os.read(terminal, 4096)
        bash.kill()
    os.close(terminal)


def test_shells_have_nothing_to_say_against_the_scripts(completion: Path) -> None:
    for shell, name in (("bash", "bash/dvrctl"), ("zsh", "zsh/_dvrctl"), ("fish", "fish/dvrctl.fish")):
        require(shell, shell)
        done = subprocess.run([shell, "-n", completion / name], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("line", "expected"), COMPLETED)
def test_fish_completes(completion: Path, line: str, expected: set[str], tmp_path: Path) -> None:
    require("fish", "fish")
    script = f"source {completion}/fish/dvrctl.fish; complete -C {shlex.quote(line)}"
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )
    assert {line.partition("\t")[0] for line in done.stdout.splitlines()} >= expected


def test_arguments_that_name_files_routers_and_namespaces_are_completed() -> None:
    found = {
        (verb, str(action.metavar)): kind(action)
        for verb, parser in VERBS
        for action in parser._actions
        if action.metavar and kind(action) is not None
    }
    expected = {
        ("", "FILE"): Kind.FILE,
        ("", "DIR"): Kind.DIRECTORY,
        ("plan", "FILE"): Kind.FILE,
        ("show router", "ROUTER"): Kind.ROUTER,
        ("show rules", "NAMESPACE|ROUTER"): Kind.NAMESPACE,
        ("sync", "ROUTER"): Kind.ROUTER,
        ("cleanup", "ID"): Kind.ROUTER,
    }
    assert expected.items() <= found.items()


# -- schemas of the JSON output


def test_each_output_has_its_schema_and_the_published_files_are_fresh() -> None:
    runnable_verbs = {verb for verb, _ in runnable()} - {"schema"}
    assert runnable_verbs <= schemas.SCHEMAS.keys()
    assert json_schemas.stale() == [], "tools/json_schemas.py"
    for name in schemas.SCHEMAS:
        jsonschema.Draft202012Validator.check_schema(schemas.schema(name))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"metadata": True}, ""),
        ({}, "'metadata' is a required property"),
        ({"metadata": "yes"}, "$.metadata: 'yes' is not of type 'boolean'"),
        ({"metadata": True, "more": 1}, "'more' was unexpected"),
    ],
)
def test_an_output_that_is_not_as_its_schema_says_fails_a_test(value: object, said: str) -> None:
    if not said:
        hold_output(["-o", "json", "wants-metadata"], json.dumps(value))
        return
    with pytest.raises(AssertionError, match=re.escape(said)):
        hold_output(["wants-metadata", "-o", "json"], json.dumps(value))


def test_readers_may_meet_keys_that_the_published_schema_does_not_list() -> None:
    jsonschema.validate({"metadata": True, "more": 1}, schemas.schema("wants-metadata"))


def test_schema_is_printed_by_the_name_of_the_verb_or_of_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["show", "fips"], ["show-fips"]):
        assert ctl.main(["schema", *words]) == 0
        assert json.loads(capsys.readouterr().out) == schemas.schema("show fips")
    assert ctl.main(["schema"]) == 0
    assert "check --config" in capsys.readouterr().out
    assert ctl.main(["schema", "nonsense"]) == 64
