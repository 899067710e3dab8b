"""imagebuild datastore load-parameters, against the real services and trove-manage."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from imagebuild.cloud.datastores import Datastores
from imagebuild.cloud.service import UnavailableError
from imagebuild.datastore import loading
from imagebuild.datastore.creation import Gates
from imagebuild.datastore.creation import carry_out as create
from imagebuild.datastore.creation import propose as propose_version
from imagebuild.datastore.rules import RuleFile, of_release, parse, read
from imagebuild.datastore.trovemanage import TroveManage
from imagebuild.datastore.wanted import Wanted
from imagebuild.errors import PublishError, UsageError
from tests.services.cloud import TestCloud, wait_until
from tests.services.datastores import add_image, connected, run, start, trove_manage
from tests.services.proxy import Answer, LoseAnswer, Rule

PARAMETERS = r"/parameters"


def templates(cloud: TestCloud) -> Path:
    """The rules of the Trove that runs."""
    (found,) = cloud.venv.glob("lib/python3*/site-packages/trove/templates")
    return found


def rules_path(cloud: TestCloud, manager: str = "mysql") -> Path:
    return templates(cloud) / manager / "validation-rules.json"


def version(cloud: TestCloud, datastore: str = "mysql") -> str:
    """A version's id, new."""
    add_image(cloud, ["a"], imagebuild_agent_series="2026.2")
    connection = connected(cloud)
    wanted = Wanted(datastore, "1", manager="mysql", image_tags=("a",))
    return create(connection, propose_version(connection, wanted, Gates())).version.id


def load(cloud: TestCloud, version_id: str, file: RuleFile, name: str = "admin") -> loading.Loaded:
    connection = connected(cloud, name)
    found = Datastores(connection.database).get(version_id)
    return loading.carry_out(connection, loading.propose(connection, found, file, None))


def there(cloud: TestCloud, version_id: str) -> dict[str, Any]:
    found = Datastores(connected(cloud).database).parameters(version_id)
    return {str(p["name"]): p for p in found}


def rows(cloud: TestCloud) -> list[list[str]]:
    """As they stand in Trove's database."""
    return cloud.sql(
        "SELECT name, restart_required, max_size, min_size, data_type "
        "FROM datastore_configuration_parameters ORDER BY name"
    )


def changes(cloud: TestCloud) -> list[str]:
    return [r.method for r in cloud.proxies.trove.seen() if r.method != "GET"]


def small(*names: str, most: int = 10) -> RuleFile:
    entries = [
        {"name": n, "type": "integer", "restart_required": False, "min": 0, "max": most}
        for n in names
    ]
    return parse(json.dumps({"configuration-parameters": entries}).encode(), "here")


def test_requests_take_75_of_mysqls_102_and_the_rest_is_named(cloud: TestCloud) -> None:
    version_id = version(cloud)
    argv = ["load-parameters", "mysql", "1", "--file", str(rules_path(cloud)), "--json"]
    done = run(cloud, *argv, name="admin-proxied")
    assert done.code == 6
    document = done.document
    assert (document["rules"], len(document["new"]), document["loaded"]) == (102, 102, 75)
    loaded = there(cloud, version_id)
    assert len(loaded) == 75
    missing = {m["name"]: m["why"] for m in document["missing"]}
    file = read(rules_path(cloud))
    assert set(missing) == {r.name for r in file.rules} - set(loaded)
    assert len(missing) == 27
    assert missing["long_query_time"] == "type float"
    assert missing["innodb_io_capacity_max"] == "an integer without max"
    assert missing["performance_schema"] == "type boolean"
    assert "error: 27 of 102 rules could not be loaded" in done.err
    assert "  | type float: long_query_time\n" in done.err
    assert loaded["wait_timeout"]["max_size"] == 31536000
    # None of them was tried in vain: what is refused is known before.
    assert changes(cloud) == ["POST"] * 75
    cloud.proxies.trove.reset()
    again = run(cloud, *argv, name="admin-proxied")
    assert (again.code, again.document["loaded"]) == (6, 0)
    assert [m["name"] for m in again.document["missing"]] == list(missing)
    assert changes(cloud) == []


def test_trove_manage_takes_all_102(cloud: TestCloud) -> None:
    version_id = version(cloud)
    path = str(rules_path(cloud))
    load(cloud, version_id, read(rules_path(cloud)))
    by_request = rows(cloud)
    cloud.sql("DELETE FROM datastore_configuration_parameters")
    # As the manuals have it, with a file on the control plane.
    subprocess.run(
        [*cloud.trove_manage, "db_load_datastore_config_parameters", "mysql", "1", path,
         "--version", "1"],
        check=True, capture_output=True,
    )  # fmt: skip
    theirs = rows(cloud)
    assert [row for row in theirs if row in by_request] == by_request
    cloud.sql("DELETE FROM datastore_configuration_parameters")
    argv = ["load-parameters", "mysql", "1", "--file", path, "--trove-manage", trove_manage(cloud)]
    done = run(cloud, *argv)
    assert done.code == 0, done.err
    assert done.err.splitlines()[-1] == "loaded: 102 rules"
    assert rows(cloud) == theirs
    assert len(there(cloud, version_id)) == 102
    # Once more there is nothing to do, and nobody is asked to do it.
    connection = connected(cloud)
    found = Datastores(connection.database).get(version_id)
    plan = loading.propose(connection, found, read(rules_path(cloud)), TroveManage("false"))
    assert loading.carry_out(connection, plan, TroveManage("false")).missing == ()


def test_what_differs_is_changed_and_what_is_beyond_stays(cloud: TestCloud) -> None:
    version_id = version(cloud)
    load(cloud, version_id, small("a", "b", "x"))
    loaded = load(cloud, version_id, small("a", "b", "c", most=20), "admin-proxied")
    assert (loaded.written, loaded.missing, loaded.is_verified) == (3, (), True)
    assert sorted(changes(cloud)) == ["POST", "PUT", "PUT"]
    assert {n: p["max_size"] for n, p in there(cloud, version_id).items()} == {
        "a": 20, "b": 20, "c": 20, "x": 10,
    }  # fmt: skip
    connection = connected(cloud)
    found = Datastores(connection.database).get(version_id)
    comparison = loading.propose(connection, found, small("a"), None).comparison
    assert comparison is not None
    assert comparison.extra == ("b", "c", "x")


def test_the_series_is_the_images(cloud: TestCloud, tmp_path: Path) -> None:
    """The release's wheel is fetched, as a build would, and the next time it is there."""
    version(cloud)
    argv = ["load-parameters", "mysql", "1", "--dry-run", "--json", "--cache-dir", str(tmp_path)]
    first = run(cloud, *argv)
    assert first.code == 0, first.err
    assert first.document["source"].endswith("(2026.2)")
    again = of_release("2026.2", "mysql", tmp_path, env={}, offline=True)
    assert [r.name for r in again.rules] == first.document["new"]
    assert len(again.rules) == 102


def test_nobody_knows_the_series(cloud: TestCloud) -> None:
    version(cloud)
    connection = connected(cloud)
    assert loading.series_of(connection, loading.locate(connection, "mysql", "1")) == "2026.2"
    add_image(cloud, ["a"], age=-60)
    with pytest.raises(UsageError, match="is not known") as caught:
        loading.series_of(connection, loading.locate(connection, "mysql", "1"))
    assert "does not say which series its guest agent is of" in caught.value.detail
    with pytest.raises(PublishError, match="there is no datastore version mysql 2") as gone:
        loading.locate(connection, "mysql", "2")
    assert gone.value.detail == "there are: mysql 1"


def test_a_service_that_goes_down_in_the_middle(cloud: TestCloud) -> None:
    version_id = version(cloud)
    names = [f"p{n:02}" for n in range(20)]
    cloud.proxies.trove.add(Rule("POST", PARAMETERS, Answer(503), nth=11, times=None))
    with pytest.raises(UnavailableError):
        load(cloud, version_id, small(*names), "admin-proxied")
    assert sorted(there(cloud, version_id)) == names[:10]
    cloud.proxies.trove.reset()
    loaded = load(cloud, version_id, small(*names), "admin-proxied")
    assert (loaded.written, loaded.missing) == (10, ())
    assert changes(cloud) == ["POST"] * 10


@pytest.mark.parametrize("status", [None, 500])
def test_an_answer_that_is_lost(cloud: TestCloud, status: int | None) -> None:
    """What was made is not taken for refused when the second try says that it exists."""
    version_id = version(cloud)
    cloud.proxies.trove.add(Rule("POST", PARAMETERS, LoseAnswer(status), nth=2))
    loaded = load(cloud, version_id, small("a", "b", "c"), "admin-proxied")
    assert (loaded.written, loaded.missing) == (3, ())
    assert changes(cloud) == ["POST", "POST", "POST", "PUT", "POST"]
    assert sorted(there(cloud, version_id)) == ["a", "b", "c"]


def test_interrupted_and_run_again(cloud: TestCloud) -> None:
    version_id = version(cloud)
    argv = ["load-parameters", "mysql", "1", "--file", str(rules_path(cloud))]
    with start(cloud, *argv, name="admin-proxied") as process:
        wait_until(lambda: len(changes(cloud)) > 5 or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert 0 < len(there(cloud, version_id)) < 75
    load(cloud, version_id, read(rules_path(cloud)))
    assert len(there(cloud, version_id)) == 75


def test_trove_manage_that_fails(cloud: TestCloud, tmp_path: Path) -> None:
    version_id = version(cloud)
    conf = tmp_path / "trove.conf"
    conf.write_text(
        "[database]\nconnection = mysql+pymysql://trove:s3cret@127.0.0.1:1/trove\n"
        "max_retries = 1\nretry_interval = 0\n"
    )
    prefix = shlex.join([cloud.trove_manage[0], f"--config-file={conf}"])
    connection = connected(cloud)
    found = Datastores(connection.database).get(version_id)
    via = TroveManage(prefix)
    plan = loading.propose(connection, found, small("a"), via)
    with pytest.raises(PublishError, match="trove-manage failed with status 1") as caught:
        loading.carry_out(connection, plan, via)
    assert "Can't connect to MySQL server" in caught.value.detail
    assert "s3cret" not in str(caught.value)
    assert there(cloud, version_id) == {}


#: Runs a command as ssh does without a terminal: its standard input is a socket.
AS_SSH = """
import socket, subprocess, sys, threading
ours, theirs = socket.socketpair()
child = subprocess.Popen(sys.argv[1:], stdin=theirs)
theirs.close()
threading.Thread(target=lambda: (ours.sendall(sys.stdin.buffer.read()),
                                 ours.shutdown(socket.SHUT_WR)), daemon=True).start()
sys.exit(child.wait())
"""


def test_trove_manage_behind_ssh_without_a_container(cloud: TestCloud) -> None:
    """It cannot open its input by its name there; the way around that is said works."""
    version_id = version(cloud)
    connection = connected(cloud)
    found = Datastores(connection.database).get(version_id)
    file = small("a", "b")
    ssh = shlex.join([sys.executable, "-c", AS_SSH])
    via = TroveManage(f"{ssh} {trove_manage(cloud)}")
    with pytest.raises(PublishError, match=r"No such device or address: '/dev/stdin'") as caught:
        loading.carry_out(connection, loading.propose(connection, found, file, via), via)
    assert "cat | trove-manage" in caught.value.hint
    # ssh hands what follows to a shell on the other side.
    remote = f"{ssh} sh -c 'cat | \"$@\"' sh {trove_manage(cloud)}"
    via = TroveManage(remote)
    loaded = loading.carry_out(connection, loading.propose(connection, found, file, via), via)
    assert (loaded.missing, loaded.is_verified) == ((), True)


def test_bounds_with_a_fraction_break_troves_list(cloud: TestCloud, tmp_path: Path) -> None:
    version_id = version(cloud)
    rule = {"name": "part", "type": "float", "restart_required": False, "min": 0, "max": 0.5}
    path = tmp_path / "rules.json"
    path.write_text(json.dumps({"configuration-parameters": [rule]}))
    argv = ["load-parameters", "mysql", "1", "--file", str(path)]
    done = run(cloud, *argv, "--json", "--trove-manage", trove_manage(cloud))
    assert done.code == 0, done.err
    assert "cannot be read back" in done.err
    assert done.document["verified"] is False
    assert rows(cloud) == [["part", "0", "0.5", "0", "float"]]
    connection = connected(cloud)
    found = Datastores(connection.database).get(version_id)
    again = loading.propose(connection, found, read(path), TroveManage("false"))
    assert [r.name for r in again.pending] == ["part"]


def test_what_trove_manage_does_not_do_is_missing(cloud: TestCloud) -> None:
    version_id = version(cloud)
    connection = connected(cloud)
    found = Datastores(connection.database).get(version_id)
    via = TroveManage("true")
    loaded = loading.carry_out(connection, loading.propose(connection, found, small("a"), via), via)
    assert [(m.name, m.why) for m in loaded.missing] == [("a", "it is not there")]
