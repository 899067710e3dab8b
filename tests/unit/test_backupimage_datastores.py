"""Names, versions and tools: what there can be a backup image for, and what it must have."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from imagebuild.backupimage.builder import Job, Log, Ran
from imagebuild.backupimage.checking import check
from imagebuild.backupimage.datastores import (
    Tool,
    check_version,
    fits,
    get_datastore,
    needed_tools,
)
from imagebuild.backupimage.image import Built
from imagebuild.backupimage.installer import check_support
from imagebuild.errors import ConfigError, UsageError, VerifyError

SCRIPT = """\
if [ "${OPT_DATASTORE}" = "mysql" ]; then
	if [ "${OPT_DATASTORE_VERSION}" = "8.0" ]; then
		apt-get install percona-xtrabackup-80
	elif [ "${OPT_DATASTORE_VERSION}" = "8.4" ]; then
		apt-get install percona-xtrabackup-84
	else
		exit 1
	fi
elif [ "${OPT_DATASTORE}" = "mariadb" ]; then
	apt-get install mariadb-backup
elif [ "${OPT_DATASTORE}" = "postgresql" ]; then
	add-apt-repository "deb [arch=amd64] http://apt.invalid/ noble-pgdg main"
fi
"""


@pytest.mark.parametrize("name", ["postgres", "pgsql"])
def test_postgres_is_postgresql_and_that_is_said(name: str) -> None:
    datastore, note = get_datastore(name)
    assert datastore.name == "postgresql"
    assert f"{name} is taken as postgresql" in note
    assert get_datastore("postgresql")[1] == ""


def test_other_datastores_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        get_datastore("mongodb")
    assert "mysql, mariadb, postgresql" in caught.value.hint


@pytest.mark.parametrize("text", ["", "latest", "8.4; rm -rf /", "8..4", "$(id)", "8.4-1", "8.4 "])
def test_a_version_is_numbers(text: str) -> None:
    with pytest.raises(UsageError):
        check_version(text)


@pytest.mark.parametrize(
    ("name", "version", "arch"),
    [("mysql", "8.0", "amd64"), ("mysql", "8.4", "arm64"), ("mariadb", "11.8", "arm64"),
     ("postgresql", "17", "amd64")],
)  # fmt: skip
def test_what_the_script_knows_may_be_built(name: str, version: str, arch: str) -> None:
    check_support(SCRIPT, get_datastore(name)[0], version, arch, "install.sh")


@pytest.mark.parametrize(
    ("name", "version", "arch", "detail", "hint"),
    [
        ("mysql", "5.7", "amd64", "it knows: 8.0, 8.4", "--trove-series"),
        ("mysql", "8.4.6", "amd64", "it knows: 8.0, 8.4", "build 8.4, with --tag 8.4.6"),
        ("postgresql", "17", "arm64", "for amd64 alone", "--packages-from distribution"),
    ],
)
def test_what_it_does_not_know_is_refused_before_the_build(
    name: str, version: str, arch: str, detail: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_support(SCRIPT, get_datastore(name)[0], version, arch, "install.sh")
    assert detail in caught.value.detail
    assert hint in caught.value.hint


def test_a_script_without_the_datastore_is_refused() -> None:
    text = SCRIPT.replace('"mariadb"', '"maria"')
    with pytest.raises(ConfigError) as caught:
        check_support(text, get_datastore("mariadb")[0], "11.4", "amd64", "install.sh")
    assert "it knows: mysql, maria, postgresql" in caught.value.detail


@pytest.mark.parametrize("name", ["mariadb-backup", "mariabackup"])
def test_the_tool_is_the_one_that_the_code_calls(name: str) -> None:
    code = {"mariabackup.py": f"cmd = '{name} --backup'\nother = ('mbstream -x')"}
    tools = needed_tools(get_datastore("mariadb")[0], code)
    assert [t.names for t in tools] == [(name,), ("mbstream",)]
    # Of a source that does not tell, either will do.
    assert needed_tools(get_datastore("mariadb")[0], {})[0].names == (
        "mariadb-backup", "mariabackup",
    )  # fmt: skip


SAID = {
    "mysql": "xtrabackup version 8.4.0-3 based on MySQL server 8.4.0 Linux (x86_64)",
    "mariadb": "mariadb-backup based on MariaDB server 10.11.14-MariaDB debian-linux-gnu",
    "postgresql": "pg_basebackup (PostgreSQL) 17.6 (Debian 17.6-1)",
}


@pytest.mark.parametrize(
    ("name", "version", "found"),
    [
        ("mysql", "8.4", "8.4.0"), ("mysql", "8.0", None),
        ("mariadb", "10.11", "10.11.14"), ("mariadb", "10.11.9", "10.11.14"),
        ("mariadb", "10", "10.11.14"), ("mariadb", "10.1", None), ("mariadb", "11.4", None),
        ("postgresql", "17", "17.6"), ("postgresql", "17.2", "17.6"), ("postgresql", "16", None),
    ],
)  # fmt: skip
def test_a_tool_must_fit_the_database(name: str, version: str, found: str | None) -> None:
    assert fits(get_datastore(name)[0].tools[0], SAID[name], version) == found


class Answers:
    """A builder whose image has these programs, by what they say; the rest is missing."""

    name = "answers"

    def __init__(self, **programs: str) -> None:
        self._programs = {k.replace("_", "-"): v for k, v in programs.items()}

    def build(self, job: Job, log: Log) -> None: ...

    def run(self, command: Sequence[str]) -> Ran:
        if command[0] in self._programs:
            return Ran(0, self._programs[command[0]])
        return Ran(2, f"[dumb-init] {command[0]}: No such file or directory")

    def export(self) -> Built:
        raise AssertionError

    def close(self) -> None: ...


MARIADB = get_datastore("mariadb")[0]


def test_an_image_with_all_of_it_passes() -> None:
    image = Answers(mariadb_backup=SAID["mariadb"], mbstream="Ver 1.0", python3="--backup-id ID")
    found = check(image, MARIADB, MARIADB.tools, "10.11")
    assert [(f.tool, f.version) for f in found] == [
        ("mariadb-backup", "10.11.14"),
        ("mbstream", ""),
    ]


def test_an_older_name_of_the_tool_will_do() -> None:
    image = Answers(mariabackup=SAID["mariadb"], mbstream="Ver 1.0", python3="--backup-id ID")
    assert check(image, MARIADB, MARIADB.tools, "10.11")[0].tool == "mariabackup"


@pytest.mark.parametrize(
    ("image", "version", "told"),
    [
        (Answers(python3="--backup-id"), "10.11", "need: mariadb-backup or mariabackup"),
        (Answers(mariadb_backup=SAID["mariadb"], python3="--backup-id"), "10.11", "mbstream"),
        (Answers(mariadb_backup=SAID["mariadb"], mbstream="1", python3="--backup-id"), "11.4",
         "not the one for mariadb 11.4"),
        (Answers(mariadb_backup=SAID["mariadb"], mbstream="1"), "10.11", "does not start"),
        (Answers(mariadb_backup=SAID["mariadb"], mbstream="1", python3="Traceback"), "10.11",
         "does not start"),
    ],
)  # fmt: skip
def test_what_lacks_something_does_not_pass(image: Answers, version: str, told: str) -> None:
    with pytest.raises(VerifyError) as caught:
        check(image, MARIADB, MARIADB.tools, version)
    assert told in caught.value.what
    assert "nothing was pushed" in caught.value.hint


def test_xtrabackup_for_mysql_57_has_a_number_of_its_own() -> None:
    said = "xtrabackup version 2.4.29 based on MySQL server 5.7.44 Linux (x86_64)"
    tool = get_datastore("mysql")[0].tools[0]
    assert fits(tool, said, "5.7") == "2.4.29"
    assert fits(tool, said, "8.0") is None


def test_a_tool_whose_version_does_not_matter_says_none() -> None:
    assert fits(Tool(("mbstream",)), "anything", "1") == ""
