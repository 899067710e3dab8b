"""Real Keystone, Glance and Trove on loopback for the tests, started in seconds.

A test that wants them asks for the fixture `cloud` (tests/conftest.py), wherever it lies; that
gives it the mark `services`:

    def test_it(cloud: TestCloud, tmp_path: Path) -> None:
        environ = cloud.environ("admin")            # OS_CLOUD, OS_CLIENT_CONFIG_FILE
        config = cloud.clouds_yaml(tmp_path / "clouds.yaml", "admin", "demo-proxied")
        cloud.proxies.glance.add(Rule("PUT", r"/file$", CutRequest(after=1 << 20)))
        rows = cloud.sql("SELECT name FROM datastore_versions")
        cloud.add_instance(version_id), cloud.add_backup(version_id)    # rows, nothing behind
        cloud.restart("glance", {"DEFAULT": {"user_storage_quota": "1MB"}})
        command = [*cloud.trove_manage, "db_load_datastore_config_parameters"]
        cloud.ports.web                             # Glance's web-download may ask there

Clouds: `admin` (role admin), `demo` and `other` (role member), each a project with a user of
its name. With `-proxied` their region is `Proxied`: its catalog names the fault proxies
(`proxy.py`) where that of `RegionOne` names the services; images and versions are the same.

`cloud` leaves nothing to the next test: images and datastores go, rules of the proxies too,
and services that were restarted with other settings get their own back. What costs time to
make (the environment, the databases) is kept below the user's cache directory.
"""
