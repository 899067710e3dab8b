"""Names of images: docker's rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuild.errors import ConfigError
from imagebuild.registry.reference import Reference

DIGEST = f"sha256:{'ab' * 32}"


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("mysql", "docker.io/library/mysql:latest", "mysql:latest"),
        ("mysql:8.4", "docker.io/library/mysql:8.4", "mysql:8.4"),
        ("docker.io/mysql:8.4", "docker.io/library/mysql:8.4", "mysql:8.4"),
        ("index.docker.io/library/mysql:8.4", "docker.io/library/mysql:8.4", "mysql:8.4"),
        ("bitnami/mysql", "docker.io/bitnami/mysql:latest", "bitnami/mysql:latest"),
        ("library/a/b:1", "docker.io/library/a/b:1", "library/a/b:1"),
        ("quay.io/x/mysql:8.4", "quay.io/x/mysql:8.4", "quay.io/x/mysql:8.4"),
        ("localhost/mysql", "localhost/mysql:latest", "localhost/mysql:latest"),
        ("localhost", "docker.io/library/localhost:latest", "localhost:latest"),
        ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
        ("localhost:5000/mysql", "localhost:5000/mysql:latest", "localhost:5000/mysql:latest"),
        ("10.0.0.1:4000/a/b:1", "10.0.0.1:4000/a/b:1", "10.0.0.1:4000/a/b:1"),
        ("[fe80::1]:4000/a:1", "[fe80::1]:4000/a:1", "[fe80::1]:4000/a:1"),
        ("Registry/a:1", "Registry/a:1", "Registry/a:1"),
        (f"mysql@{DIGEST}", f"docker.io/library/mysql@{DIGEST}", f"mysql@{DIGEST}"),
        (f"mysql:8@{DIGEST}", f"docker.io/library/mysql:8@{DIGEST}", f"mysql:8@{DIGEST}"),
        ("docker.io/localhost/a:1", "docker.io/localhost/a:1", "docker.io/localhost/a:1"),
        ("a__b/c--d/e_f.g:_1.-", "docker.io/a__b/c--d/e_f.g:_1.-", "a__b/c--d/e_f.g:_1.-"),
    ],
)
def test_short_and_full_names(text: str, full: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert str(reference) == full
    assert reference.familiar == familiar


def test_parts_of_a_name() -> None:
    reference = Reference.parse(f"quay.io:443/trove/mysql:8.4@{DIGEST}")
    assert reference == Reference("quay.io:443", "trove/mysql", "8.4", DIGEST)
    assert reference.api_host == "quay.io:443"
    assert Reference.parse("mysql").api_host == "registry-1.docker.io"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no repository"),
        ("MySQL", "no repository"),
        ("mysql:", "no tag"),
        ("mysql:a b", "no tag"),
        (f"mysql:{'x' * 129}", "no tag"),
        ("mysql:.x", "no tag"),
        ("mysql:8.4\n", "no tag"),
        ("mysql@", "no digest"),
        ("mysql@sha256:abc", "no digest"),
        (f"mysql@sha512:{'ab' * 64}", "no digest"),
        (f"mysql@{DIGEST.upper()}", "no digest"),
        ("quay.io/", "no repository"),
        ("quay.io//a", "no repository"),
        ("quay.io/../a", "no repository"),
        ("a/", "no repository"),
        ("https://quay.io/a", "no registry"),
        ("user@quay.io/a", "no digest"),
        ("-host.org/a", "no registry"),
        ("host_name.org/a", "no registry"),
        ("host:port/a", "no registry"),
        ("a___b", "no repository"),
        ("a/b-", "no repository"),
        (f"a/{'b' * 255}", "longer"),
        ("ab" * 32, "id of an image"),
    ],
)
def test_what_is_no_name(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Reference.parse(text)
    assert why in caught.value.detail
    assert repr(text) in caught.value.where


PARTS = st.from_regex(r"[a-z0-9]{1,5}([._-][a-z0-9]{1,4})?", fullmatch=True)


@given(
    registry=st.sampled_from(["docker.io", "quay.io", "localhost", "h:5000", "127.0.0.1:1"]),
    path=st.lists(PARTS, min_size=1, max_size=3),
    tag=st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,9}", fullmatch=True),
    digest=st.sampled_from(["", DIGEST]),
)
def test_every_form_of_a_name_means_the_same(
    registry: str, path: list[str], tag: str, digest: str
) -> None:
    reference = Reference.parse(f"{registry}/{'/'.join(path)}:{tag}" + (digest and f"@{digest}"))
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar) == reference


@given(st.text(max_size=60))
def test_any_text_is_a_name_or_an_error(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except ConfigError:
        return
    assert Reference.parse(str(reference)) == reference
