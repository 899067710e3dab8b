"""The way over the air gap: registry, directory or tar file, another registry."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from imagebuild.config.mirrorlist import Role
from imagebuild.errors import ConfigError, UsageError
from imagebuild.mirror.carrying import Destination
from imagebuild.mirror.export import export, spool_of
from imagebuild.mirror.importing import opened
from imagebuild.mirror.items import Item
from imagebuild.mirror.result import Outcome, Report
from imagebuild.registry.manifest import Manifest
from imagebuild.registry.reference import Reference
from tests.container_images import image, layer, sha256
from tests.mirror.airgap import LIST_TARGET, Sites, client, noise, whole_index
from tests.registry_proxy import RegistryProxy
from tests.registry_server import RegistryServer

NAME = "org.opencontainers.image.ref.name"


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    root = tmp_path_factory.mktemp("sites")
    with RegistryServer(root / "source") as source, RegistryServer(root / "target") as target:
        yield Sites(source, target)


def _export(items: Sequence[Item], place: Path) -> Report:
    with client() as asked:
        return export(asked, items, LIST_TARGET, place).report


def _import(path: Path, sites: Sites, **options: object) -> Report:
    with (
        client() as asked,
        opened(
            asked,
            path,
            Destination(sites.target.host),
            **options,  # type: ignore[arg-type]
        ) as found,
    ):
        return found.run(found.plan())


def _outcomes(report: Report) -> list[Outcome]:
    return [r.outcome for r in report.results]


def _skopeo(*words: str) -> str:
    done = subprocess.run(["skopeo", *words], check=True, capture_output=True, text=True)
    return done.stdout


@pytest.mark.parametrize("form", ["directory", "tar"])
def test_all_digests_are_the_same_at_the_other_site(
    sites: Sites, tmp_path: Path, form: str
) -> None:
    made = whole_index(form)
    made.push(sites.source, f"mysql-{form}", "8.4")
    plain = image([layer({"x": noise(form, 100)})])
    plain.push(sites.source, f"backup-{form}", "8.4")
    items = [
        sites.item(f"mysql-{form}", "8.4", aliases=("8.4.1",), backup="8.4-old"),
        sites.item(f"backup-{form}", "8.4", datastore="mysql", role=Role.BACKUP),
    ]
    place = tmp_path / ("export.tar" if form == "tar" else "export")
    assert _outcomes(_export(items, place)) == [Outcome.COPIED] * 2
    assert list(tmp_path.iterdir()) == [place]
    report = _import(place, sites)
    assert _outcomes(report) == [Outcome.COPIED] * 2
    # In the order of their names.
    assert [r.item.source for r in report.results] == [items[1].source, items[0].source]
    assert report.results[0].item.role is Role.BACKUP
    with client() as asked:
        for tag in ("8.4", "8.4.1"):
            there = asked.get_manifest(sites.at_target(f"mysql-{form}", tag))
            assert (there.data, there.media_type) == (made.manifest, made.media_type)
        for child in made.children:
            found = asked.get_manifest(sites.at_target(f"mysql-{form}").at(child.digest))
            assert found.data == child.manifest
        head = asked.head_manifest(sites.at_target(f"backup-{form}", "8.4"))
        assert head
        assert head.digest == plain.digest
    raw = _skopeo("inspect", "--raw", "--tls-verify=false",
                  f"docker://{sites.at_target(f'mysql-{form}', '8.4')}")  # fmt: skip
    assert raw.encode() == made.manifest
    # A second time there is nothing to do.
    assert _outcomes(_import(place, sites)) == [Outcome.UNCHANGED] * 2


def test_the_same_images_make_the_same_tar_file(sites: Sites, tmp_path: Path) -> None:
    whole_index("same").push(sites.source, "same", "1", "2")
    image([layer({"x": b"same"})]).push(sites.source, "same-too", "1")
    items = [sites.item("same"), sites.item("same", "2")]
    _export(items, tmp_path / "one.tar")
    _export(items[::-1], tmp_path / "two.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as archive:
        members = archive.getmembers()
        assert [m.name for m in members] == sorted(m.name for m in members)
        assert {(m.mtime, m.uid, m.uname) for m in members} == {(0, 0, "")}


def test_skopeo_reads_what_we_write(sites: Sites, tmp_path: Path) -> None:
    made = whole_index("skopeo reads")
    made.push(sites.source, "readable", "1")
    _export([sites.item("readable")], tmp_path / "export")
    name = f"{tmp_path}/export:{sites.source.host}/readable:1"
    target = f"docker://{sites.target.host}/by-skopeo:1"
    _skopeo("copy", "--all", "--dest-tls-verify=false", f"oci:{name}", target)
    assert _skopeo("inspect", "--raw", "--tls-verify=false", target).encode() == made.manifest
    _export([sites.item("readable")], tmp_path / "export.tar")
    raw = _skopeo("inspect", "--raw", f"oci-archive:{tmp_path}/export.tar")
    assert raw.encode() == made.manifest


@pytest.mark.parametrize(
    ("name", "said", "repository"),
    [("", "other:3", "other:3"), (":2", "other", "other:2"), (":docker.io/library/mysql:8", None,
                                                              "mysql:8")],
)  # fmt: skip
def test_layouts_of_skopeo_are_imported(
    sites: Sites, tmp_path: Path, name: str, said: str | None, repository: str
) -> None:
    made = whole_index(f"skopeo writes {name}")
    made.push(sites.source, "for-skopeo", "1")
    source = f"docker://{sites.source.host}/for-skopeo:1"
    _skopeo("copy", "--all", "--src-tls-verify=false", source, f"oci:{tmp_path}/layout{name}")
    report = _import(tmp_path / "layout", sites, name_as=said)
    assert _outcomes(report) == [Outcome.COPIED]
    with client() as asked:
        there = asked.get_manifest(Reference.parse(f"{sites.target.host}/{repository}"))
    assert there.data == made.manifest


def test_a_layout_without_names_wants_one(sites: Sites, tmp_path: Path) -> None:
    whole_index("nameless").push(sites.source, "nameless", "1")
    _skopeo("copy", "--all", "--src-tls-verify=false",
            f"docker://{sites.source.host}/nameless:1", f"oci:{tmp_path}/layout")  # fmt: skip
    with pytest.raises(UsageError) as raised:
        _import(tmp_path / "layout", sites)
    assert "--as REPOSITORY:TAG" in raised.value.hint


def test_what_signs_an_image_comes_with_it(sites: Sites, tmp_path: Path) -> None:
    made = whole_index("signed")
    made.push(sites.source, "signed", "1")
    tag = made.digest.replace(":", "-")
    signature = image([layer({"sig": b"cosign"})])
    signature.push(sites.source, "signed", f"{tag}.sig")
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2,
                   "digest": sites.source.blob("signed", b"{}")},
        "layers": [],
        "subject": {"mediaType": made.media_type, "digest": made.digest,
                    "size": len(made.manifest)},
    }  # fmt: skip
    referrer = Manifest(
        data := json.dumps(document).encode(), sha256(data), str(document["mediaType"])
    )
    sites.source.manifest("signed", referrer.digest, referrer.data, referrer.media_type)
    listed = json.dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [referrer.descriptor.to_json()],
    }).encode()  # fmt: skip
    sites.source.manifest("signed", tag, listed, "application/vnd.oci.image.index.v1+json")
    _export([sites.item("signed")], tmp_path / "export.tar")
    _import(tmp_path / "export.tar", sites)
    with client() as asked:
        there = sites.at_target("signed")
        assert [d.digest for d in asked.referrers(there.at(made.digest))] == [referrer.digest]
        assert asked.get_manifest(there.at(referrer.digest)).data == referrer.data
        found = asked.head_manifest(dataclasses.replace(there, tag=f"{tag}.sig"))
        assert found
        assert found.digest == signature.digest


def test_what_is_missing_does_not_stop_the_others(sites: Sites, tmp_path: Path) -> None:
    whole_index("there").push(sites.source, "there", "1")
    items = [sites.item("not-there"), sites.item("there")]
    report = _export(items, tmp_path / "export.tar")
    assert _outcomes(report) == [Outcome.MISSING, Outcome.COPIED]
    assert report.results[0].item == items[0]
    assert _outcomes(_import(tmp_path / "export.tar", sites)) == [Outcome.COPIED]


def test_a_directory_gets_only_what_is_new(sites: Sites, tmp_path: Path) -> None:
    place = tmp_path / "export"
    whole_index("first").push(sites.source, "growing", "1")
    first = _export([sites.item("growing")], place)
    assert first.results[0].bytes_copied > 2000
    before = {p: p.stat().st_mtime_ns for p in (place / "blobs/sha256").iterdir()}
    whole_index("second").push(sites.source, "growing", "2")
    second = _export([sites.item("growing"), sites.item("growing", "2")], place)
    assert _outcomes(second) == [Outcome.UNCHANGED, Outcome.COPIED]
    assert second.results[0].bytes_copied == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before
    index = json.loads((place / "index.json").read_bytes())
    host = sites.source.host
    names = [e["annotations"][NAME] for e in index["manifests"]]
    assert names == [f"{host}/growing:1", f"{host}/growing:2"]
    assert sorted(p.name for p in place.iterdir()) == ["blobs", "index.json", "oci-layout"]


def test_a_blob_that_the_disk_has_damaged_is_fetched_anew(sites: Sites, tmp_path: Path) -> None:
    place = tmp_path / "export"
    made = whole_index("healed")
    made.push(sites.source, "healed", "1")
    _export([sites.item("healed")], place)
    blob = made.children[0].blobs[1]
    path = place / "blobs/sha256" / sha256(blob).removeprefix("sha256:")
    path.write_bytes(blob[:-1] + b"?")
    report = _export([sites.item("healed")], place)
    assert report.results[0].repaired == 1
    assert path.read_bytes() == blob


def test_chosen_platforms_and_one_image_for_two_repositories(sites: Sites, tmp_path: Path) -> None:
    """The second has another name in the layout, since it is another index there."""
    made = whole_index("platforms")
    made.push(sites.source, "platforms", "1")
    chosen = sites.item("platforms", platforms=("linux/arm64",))
    other = Reference("registry.invalid:5000", "trove/all-platforms", "1")
    everything = dataclasses.replace(chosen, target=other, platforms=())
    for outcome in (Outcome.COPIED, Outcome.UNCHANGED):
        report = _export([chosen, everything], tmp_path / "export")
        assert _outcomes(report) == [outcome] * 2
    assert _outcomes(_import(tmp_path / "export", sites)) == [Outcome.COPIED] * 2
    with client() as asked:
        there = asked.get_manifest(sites.at_target("platforms"))
        assert [m["digest"] for m in json.loads(there.data)["manifests"]] == [
            made.children[1].digest
        ]
        assert asked.get_manifest(sites.at_target("all-platforms")).data == made.manifest


@pytest.mark.parametrize("is_right", [True, False])
def test_a_piece_that_is_there_is_not_fetched_again(
    sites: Sites, tmp_path: Path, is_right: bool
) -> None:
    """What an earlier run has left, unless its disk has damaged it."""
    made = whole_index(f"piece {is_right}", 50_000)
    made.push(sites.source, "piece", "1")
    blob = made.children[0].blobs[1]
    piece = blob[:40_000] if is_right else b"?" * 40_000
    place = tmp_path / "export/ingest" / sha256(blob).removeprefix("sha256:")
    place.parent.mkdir(parents=True)
    place.write_bytes(piece)
    with RegistryProxy(sites.source) as proxy:
        item = dataclasses.replace(sites.item("piece"), source=Reference(proxy.host, "piece", "1"))
        assert _outcomes(_export([item], tmp_path / "export")) == [Outcome.COPIED]
        came = proxy.bytes_out("GET", sha256(blob))
    assert came == len(blob) - 40_000 if is_right else came > len(blob)


@pytest.mark.parametrize("form", ["directory", "tar"])
def test_a_flipped_byte_names_the_blob_and_makes_no_tag(
    sites: Sites, tmp_path: Path, form: str
) -> None:
    bad, good = whole_index(f"bad {form}", 5000), whole_index(f"good {form}")
    bad.push(sites.source, f"bad-{form}", "1")
    good.push(sites.source, f"good-{form}", "1")
    place = tmp_path / ("export.tar" if form == "tar" else "export")
    _export([sites.item(f"bad-{form}"), sites.item(f"good-{form}")], place)
    blob = bad.children[0].blobs[1]
    hexadecimal = sha256(blob).removeprefix("sha256:")
    file = place if form == "tar" else place / "blobs/sha256" / hexadecimal
    data = bytearray(file.read_bytes())
    data[data.index(blob) + len(blob) // 2] ^= 1
    file.write_bytes(bytes(data))
    report = _import(place, sites)
    assert _outcomes(report) == [Outcome.FAILED, Outcome.COPIED]
    error = report.results[0].error
    assert error
    assert hexadecimal in error["where"]
    assert error["what"] == "a blob of the export is damaged"
    with client() as asked:
        assert asked.head_manifest(sites.at_target(f"bad-{form}")) is None
        assert asked.head_manifest(sites.at_target(f"good-{form}"))
    with client() as asked, opened(asked, place, Destination(sites.target.host)) as found:
        first, second = found.verify()
    assert hexadecimal in first.problem
    assert second.ok


def test_a_missing_blob_is_named(sites: Sites, tmp_path: Path) -> None:
    made = whole_index("incomplete")
    made.push(sites.source, "incomplete", "1")
    _export([sites.item("incomplete")], tmp_path / "export")
    digest = sha256(made.children[1].blobs[2])
    (tmp_path / "export/blobs" / digest.replace(":", "/")).unlink()
    report = _import(tmp_path / "export", sites)
    assert _outcomes(report) == [Outcome.FAILED]
    assert digest in json.dumps(report.results[0].error)
    with client() as asked:
        assert asked.head_manifest(sites.at_target("incomplete")) is None


def _tar(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    import io

    with tarfile.open(path, "w") as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def _link(name: str, to: str) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, to
    return member, b""


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([(tarfile.TarInfo("../oci-layout"), b"{}")], "lead out"),
        ([(tarfile.TarInfo("/oci-layout"), b"{}")], "lead out"),
        ([_link("blobs/sha256/" + "0" * 64, "/etc/shadow")], "a link"),
        ([(tarfile.TarInfo("oci-layout"), b"{}"), (tarfile.TarInfo("./oci-layout"), b"{}")],
         "twice"),
        ([(tarfile.TarInfo("manifest.json"), b"[]")], "there is no oci-layout"),
    ],
)  # fmt: skip
def test_archives_that_are_refused(
    tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]], said: str
) -> None:
    path = _tar(tmp_path / "bad.tar", *members)
    with client() as asked, pytest.raises(ConfigError) as raised, opened(asked, path):
        pass
    assert said in raised.value.detail


def test_a_size_that_no_file_has_is_refused(tmp_path: Path) -> None:
    huge = tarfile.TarInfo("index.json")
    huge.size = 1 << 50
    path = tmp_path / "huge.tar"
    path.write_bytes(huge.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with client() as asked, pytest.raises(ConfigError) as raised, opened(asked, path):
        pass
    assert "are not there" in raised.value.detail
    # A header may announce gigabytes of name: none of it is read.
    longer = tarfile.TarInfo("././@LongLink")
    longer.type, longer.size = tarfile.GNUTYPE_LONGNAME, 2 << 20
    path.write_bytes(longer.tobuf(tarfile.GNU_FORMAT) + bytes(3 << 20))
    with client() as asked, pytest.raises(ConfigError) as raised, opened(asked, path):
        pass
    assert "a header of 2097152 bytes" in raised.value.detail


def test_a_cut_archive_and_a_compressed_one(sites: Sites, tmp_path: Path) -> None:
    import gzip

    whole_index("cut").push(sites.source, "cut", "1")
    _export([sites.item("cut")], tmp_path / "export.tar")
    data = (tmp_path / "export.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(data[: len(data) // 2])
    (tmp_path / "packed.tar").write_bytes(gzip.compress(data))
    for name, said in (("cut.tar", "damaged"), ("packed.tar", "compressed")):
        with (
            client() as asked,
            pytest.raises(ConfigError) as raised,
            opened(asked, tmp_path / name),
        ):
            pass
        assert said in raised.value.what


def test_notes_of_strangers_make_no_wild_names(sites: Sites, tmp_path: Path) -> None:
    whole_index("wild").push(sites.source, "wild", "1")
    _export([sites.item("wild")], tmp_path / "export")
    index = tmp_path / "export/index.json"
    text = index.read_text()
    index.write_text(text.replace('repository": "wild"', 'repository": "../wild"'))
    with pytest.raises(ConfigError) as raised:
        _import(tmp_path / "export", sites)
    assert "../wild" in raised.value.detail


def test_an_export_does_not_write_into_what_is_something_else(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"")
    (tmp_path / "file").write_bytes(b"mine")
    with client() as asked:
        for place in (tmp_path, tmp_path / "file", tmp_path / "x.tar.gz"):
            with pytest.raises(UsageError):
                export(asked, [], LIST_TARGET, place)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "photo.jpg"]
    assert not spool_of(tmp_path / "x.tar").exists()
