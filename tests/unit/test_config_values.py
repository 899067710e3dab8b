"""Single values of a profile: what passes, what it becomes, what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuild.config import values

GIB = 1024**3
MIB = 1024**2


@pytest.mark.parametrize(
    ("text", "size"),
    [("5G", 5 * GIB), ("5GiB", 5 * GIB), ("800M", 800 * MIB), (5, 5 * GIB), ("5", 5 * GIB),
     ("1.5G", 1536 * MIB), ("1T", 1024 * GIB), ("5 G", 5 * GIB), ("2097152K", 2 * GIB)],
)  # fmt: skip
def test_size(text: object, size: int) -> None:
    assert values.parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["5GB", "5g", "", "-5G", "1K", "G", "5G ", True, None, "\u0665G", "1e3"]
)
def test_bad_size(text: object) -> None:
    with pytest.raises(ValueError, match=r"not a size|whole number of MiB"):
        values.parse_size(text)


@given(st.integers(min_value=256, max_value=16 * 1024**2).map(lambda n: n * MIB))
def test_size_text_is_read_back(size: int) -> None:
    assert values.parse_size(values.format_size(size)) == size


@pytest.mark.parametrize("text", ["255M", "17T"])
def test_disk_size_out_of_range(text: str) -> None:
    with pytest.raises(ValueError, match="256M to 16T"):
        values.check_disk_size(text)


@pytest.mark.parametrize(
    ("text", "canonical", "seconds"),
    [("90s", "1m30s", 90), ("30m", "30m", 1800), ("2h", "2h", 7200), ("90m", "1h30m", 5400)],
)
def test_duration(text: str, canonical: str, seconds: int) -> None:
    assert values.check_duration(text) == canonical
    assert values.parse_duration(canonical) == seconds


@pytest.mark.parametrize("text", ["90", 90, "", "h", "0s", "-1m", "1d", "1m1h", "1.5h"])
def test_bad_duration(text: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        values.check_duration(text)


@pytest.mark.parametrize("text", [None, "none"])
def test_no_limit(text: object) -> None:
    assert values.check_duration(text) is None


@pytest.mark.parametrize(
    ("url", "canonical"),
    [("http://a.example/ubuntu/", "http://a.example/ubuntu"),
     ("https://user:pw@a.example:8443/x", "https://user:pw@a.example:8443/x"),
     ("http://[::1]:8088/ubuntu", "http://[::1]:8088/ubuntu"),
     ("file:///srv/mirror", "file:///srv/mirror")],
)  # fmt: skip
def test_url(url: str, canonical: str) -> None:
    assert values.check_url(url) == canonical


@pytest.mark.parametrize(
    "url",
    ["ftp://a/b", "http://", "http:///x", "a.example/ubuntu", "http://a/b c", "http://a/'b",
     'http://a/"b', "http://a/$(id)", "http://a/`id`", "http://a/\nb", "http://a/b;c",
     "http://a/b&c", "http://a:port/", "http://[::1/", "file://host/x", "file:x", "", "http://a\\b"],
)  # fmt: skip
def test_bad_url(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        values.check_url(url)


def test_a_password_is_not_quoted_in_an_error() -> None:
    with pytest.raises(ValueError, match="URL") as caught:
        values.check_url("http://user:s3cret@a.example/b c")
    assert "s3cret" not in str(caught.value)
    assert "a.example" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "clean"),
    [("https://u:p@h.example:1/x", "https://h.example:1/x"), ("https://h/x@y", "https://h/x@y"),
     ("git+https://tok@h/x@main", "git+https://h/x@main"), ("plain text", "plain text"),
     ("http://u:p@[bad/x", "http://[bad/x")],
)  # fmt: skip
def test_strip_userinfo(url: str, clean: str) -> None:
    assert values.strip_userinfo(url) == clean


GOOD: list[tuple[Callable[[str], str], str]] = [
    (values.check_package, "libstdc++6"),
    (values.check_package, "g++"),
    (values.check_package, "linux-image-cloud-amd64"),
    (values.check_kernel, "linux-image-cloud-{arch}"),
    (values.check_username, "_trove-1"),
    (values.check_element, "my-element.d"),
    (values.check_label, "cloudimg-rootfs"),
    (values.check_suite, "stable-updates/main"),
    (values.check_component, "non-free-firmware"),
    (values.check_python, "3.13"),
    (values.check_snapshot, "20250101T000000Z"),
    (values.check_time_server, "2001:db8::1"),
    (values.check_path, "/srv/keys/a_b~1.gpg"),
    (values.check_agent_source, "pypi:trove==26.0.0"),
    (values.check_agent_source, "git+https://opendev.org/openstack/trove@stable/2025.2"),
    (values.check_agent_source, "git+file:///srv/trove@main"),
    (values.check_agent_source, "git+ssh://git@host/trove@v1"),
    (values.check_agent_source, "/srv/trove"),
]
BAD: list[tuple[Callable[[str], str], str]] = [
    (values.check_package, "Vim"),
    (values.check_package, "vim=1.0"),
    (values.check_package, "vim-"),
    (values.check_package, "-y"),
    (values.check_package, "vim\n"),
    (values.check_kernel, "linux-{release}"),
    (values.check_username, "root"),
    (values.check_username, "database"),
    (values.check_username, "a" * 33),
    (values.check_username, "1st"),
    (values.check_element, "../x"),
    (values.check_label, "seventeen-letters"),
    (values.check_label, ""),
    (values.check_suite, "jammy main"),
    (values.check_component, "[trusted=yes]"),
    (values.check_python, "2.7"),
    (values.check_python, "3.10.1"),
    (values.check_snapshot, "20251301T000000Z"),
    (values.check_snapshot, "2025-01-32"),
    (values.check_snapshot, "2025-1-1"),
    (values.check_snapshot, "20250101T0000Z"),
    (values.check_fingerprint, "9DC85822"),
    (values.check_time_server, "ntp example"),
    (values.check_path, "keys/a.gpg"),
    (values.check_path, "/srv/a b"),
    (values.check_path, "/srv/$HOME"),
    (values.check_path, "/srv/a:b"),
    (values.check_agent_source, "trove==26.0.0"),
    (values.check_agent_source, "pypi:trove"),
    (values.check_agent_source, "pypi:nova==1"),
    (values.check_agent_source, "git+https://host/trove"),
    (values.check_agent_source, "git+https://user@host/trove"),
    (values.check_agent_source, "git+https://host/trove@a..b"),
    (values.check_agent_source, "git+https://host/trove@--upload-pack=x"),
    (values.check_agent_source, "git+ext::sh@x"),
]


@pytest.mark.parametrize(("check", "text"), GOOD)
def test_good_word(check: Callable[[str], str], text: str) -> None:
    assert check(text) == text


@pytest.mark.parametrize(("check", "text"), BAD)
def test_bad_word(check: Callable[[str], str], text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        check(text)


def test_fingerprint_is_written_in_one_way() -> None:
    spaced = "9dc8 5822 9fc7 dd38 854a  e2d8 8d81 803c 0ebf cd88"
    assert values.check_fingerprint(spaced) == "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"


@given(st.text(max_size=40))
def test_what_passes_is_safe_in_a_shell_and_in_apt(text: str) -> None:
    dangerous = set(" \t\n\r'\"`$\\;&|<>(){}*?!#") | {chr(c) for c in range(32)}
    for check in {check for check, _ in GOOD} - {values.check_kernel} | {values.check_url}:
        try:
            passed = check(text)
        except ValueError:
            continue
        assert not dangerous & set(passed)
