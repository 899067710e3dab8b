"""Processes of a control plane: started, watched, ended; and what they are told."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest

from imagebuild.errors import PreflightError
from imagebuild.redaction import masked
from imagebuild.verify.control import broker, database, services
from imagebuild.verify.control.broker import Broker
from imagebuild.verify.control.daemons import Daemons, Identity
from imagebuild.verify.control.database import Database
from imagebuild.verify.control.plane import _NOISE
from imagebuild.verify.control.ports import Ports
from imagebuild.verify.control.values import Guest


@pytest.fixture
def daemons(tmp_path: Path) -> Daemons:
    return Daemons(tmp_path, Identity())


def test_one_that_ends_before_it_is_ready_says_why(daemons: Daemons) -> None:
    daemon = daemons.start("doomed", ["sh", "-c", "echo no such table; exit 3"], {})
    with pytest.raises(PreflightError, match="doomed ended with status 3") as caught:
        daemon.await_ready(lambda: False, 20)
    assert caught.value.detail == "no such table"
    with pytest.raises(PreflightError, match="while it was in use"):
        daemons.check()


def test_one_that_is_late(daemons: Daemons) -> None:
    daemon = daemons.start("late", ["sleep", "60"], {})
    with pytest.raises(PreflightError, match="late is not ready"):
        daemon.await_ready(lambda: False, 0.2)
    daemons.stop()
    assert daemon.process.returncode == -15


def test_what_they_forked_ends_too(daemons: Daemons, tmp_path: Path) -> None:
    script = "trap '' TERM; sleep 300 & echo $! > forked; wait; wait"
    daemons.start("stubborn", ["sh", "-c", script], {})
    deadline = time.monotonic() + 20
    while not (tmp_path / "forked").exists() or not (tmp_path / "forked").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    pid = int((tmp_path / "forked").read_text())

    daemons.stop(0.2)

    assert daemons.started == []
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}/stat").exists():
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":
            break  # nobody reaps it here, but it is dead
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_logs_begin_when_it_is_up(daemons: Daemons) -> None:
    daemon = daemons.start("talks", ["sh", "-c", "echo early; sleep 60"], {})
    daemon.await_ready(lambda: daemon.tail() == "early", 20)
    daemon.is_up()
    with daemon.log.open("ab") as log:
        log.write(b"\x1b[38;5;160mlate\x1b[0m\n")
    assert daemon.told() == ["late"]
    daemons.stop()


def test_what_holds_passwords_is_for_one_user(daemons: Daemons) -> None:
    place = daemons.directory("place")
    path = daemons.write(place / "file", "secret")
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_newest_rabbitmq_is_found_where_packages_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "_PLACES", (str(tmp_path / "a"), str(tmp_path / "b")))
    with pytest.raises(PreflightError, match="not installed") as caught:
        broker._home()
    assert caught.value.hint == "apt-get install rabbitmq-server"
    for name in ("a/rabbitmq_server-3.9.27", "b/rabbitmq_server-3.10.8", "b/rabbitmq_server-3.8.2"):
        (tmp_path / name / "sbin").mkdir(parents=True)
    assert broker._home() == tmp_path / "b/rabbitmq_server-3.10.8"


@pytest.mark.alone
def test_no_mariadb(daemons: Daemons, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "which", lambda _tool: None)
    monkeypatch.setattr("imagebuild.host.run.which", lambda _tool: None)
    with pytest.raises(PreflightError) as caught, Ports() as ports:
        database.start(daemons, ports, daemons.directory("prepared"))
    assert caught.value.hint == "apt-get install mariadb-server"


BROKER = Broker(5673, "pw")


def test_the_guests_settings_have_troves_names() -> None:
    """`postgresql` is the section, whatever the image is called."""
    guest = Guest(
        "postgresql", "16", "r.example/postgres", broker="10.0.0.4:5672",
        settings={"postgresql": {"device_path": "/dev/vdc"}, "network": {"a": "b"}},
    )  # fmt: skip

    found = services.guest_settings(guest, BROKER, "http://10.0.0.5:8080")

    assert found["postgresql"] == {"docker_image": "r.example/postgres", "device_path": "/dev/vdc"}
    assert found["network"] == {"a": "b"}
    assert found["DEFAULT"]["transport_url"] == "rabbit://trove:pw@10.0.0.4:5672/"
    assert found["service_credentials"]["auth_url"] == "http://10.0.0.5:8080/v3"


def test_production_encrypts_and_each_run_has_keys_of_its_own(tmp_path: Path) -> None:
    guest = Guest("mysql", "8.0", "mysql", network_isolation=False)
    maria = Database(3307, "pw", tmp_path)
    one, two = (
        services.service_settings(guest, tmp_path, BROKER, maria, 8779, "http://s")["DEFAULT"]
        for _ in range(2)
    )
    assert one["enable_secure_rpc_messaging"] == "true"
    assert one["inst_rpc_key_encr_key"] != two["inst_rpc_key_encr_key"]
    assert one["taskmanager_rpc_encr_key"] != two["taskmanager_rpc_encr_key"]


def test_the_apis_pipeline_keeps_all_but_keystone() -> None:
    paste = (
        "[pipeline:troveapi]\n"
        "pipeline = cors faultwrapper authtoken authorization ratelimit extensions troveapp\n"
        "[filter:authtoken]\n"
        "paste.filter_factory = keystonemiddleware.auth_token:filter_factory\n"
        "[filter:cors]\n"
        "paste.filter_factory = oslo_middleware.cors:filter_factory\n"
    )
    text = services._without_keystone(paste)
    assert "pipeline = cors faultwrapper authtoken authorization extensions troveapp" in text
    assert "keystonemiddleware" not in text
    assert "[filter:authtoken]\npaste.filter_factory = imagebuild_fakes.identity:" in text
    assert "oslo_middleware.cors:filter_factory" in text


@pytest.mark.parametrize(
    "line",
    [
        "AMQP server rabbit://trove:s3cret@127.0.0.1:5672 is unreachable",
        "{'name': 'x', 'password': 's3cret', 'databases': []}",
        'user_data {"_password": "s3cret"}',
        "password=s3cret;",
        "--os-token=s3cret --swift-url=http://127.0.0.1/",
        "instance_rpc_encr_key = s3cret",
        "X-Auth-Token: s3cret",
        "Authorization: Bearer s3cret",
        "https://objects.example/image.qcow2?X-Amz-Signature=s3cret&temp_url_sig=s3cret",
    ],
)
def test_logs_show_no_secrets(line: str) -> None:
    assert "s3cret" not in masked(line)
    assert masked(line)[:4] == line[:4]


def test_logs_show_what_matters() -> None:
    plain = "1 ERROR trove [-] no image mariadb:10.11 at http://registry.example/v2"
    assert masked(plain) == plain
    assert _NOISE.search('1 WARNING oslo_config.cfg [-] Deprecated: Option "a" …')
    assert not _NOISE.search("1 WARNING trove.taskmanager [-] timed out")
