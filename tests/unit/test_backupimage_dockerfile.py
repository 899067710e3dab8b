"""Trove's Dockerfile in the forms that it has had, and forms that are not understood."""

from __future__ import annotations

import pytest

from imagebuild.backupimage.dockerfile import check_arch, read_dockerfile, without_download
from imagebuild.errors import ConfigError

#: 2025.1: the base is written out.
PLAIN = """\
FROM quay.example/project/ubuntu:22.04
ARG DATASTORE="mysql"
ARG DATASTORE_VERSION="5.7"
RUN apt-get update \\
    && pip3 install -r requirements.txt \\
    && curl -sSL https://github.invalid/dumb-init_1.2.2_amd64 -o /usr/local/bin/dumb-init \\
    && chmod +x /usr/local/bin/dumb-init

ENTRYPOINT ["dumb-init", "--"]
"""
#: Since 2025.2: an argument before FROM.
WITH_ARG = PLAIN.replace(
    "FROM quay.example/project/ubuntu:22.04",
    "ARG BASE_OS_VERSION=24.04\nFROM quay.example/project/ubuntu:$BASE_OS_VERSION",
)


@pytest.mark.parametrize(
    ("text", "base"),
    [
        (PLAIN, "quay.example/project/ubuntu:22.04"),
        (WITH_ARG, "quay.example/project/ubuntu:24.04"),
        (WITH_ARG.replace("$BASE_OS_VERSION", "${BASE_OS_VERSION}"),
         "quay.example/project/ubuntu:24.04"),
        (WITH_ARG.replace("$BASE_OS_VERSION", "${NAME:-noble}"),
         "quay.example/project/ubuntu:noble"),
        (WITH_ARG.replace("=24.04", ""), ""),
        ("# syntax=docker/dockerfile:1\n# escape=\\\n" + PLAIN.replace("FROM", "from"),
         "quay.example/project/ubuntu:22.04"),
        (PLAIN.replace("FROM quay", "FROM \\\n  # which one\n  quay").replace(":22.04", ":1 AS x"),
         "quay.example/project/ubuntu:1"),
    ],
)  # fmt: skip
def test_the_base_is_found(text: str, base: str) -> None:
    assert read_dockerfile(text, "Dockerfile").base == base


def test_the_base_is_exchanged_and_the_rest_stays() -> None:
    ready = read_dockerfile(WITH_ARG, "Dockerfile").ready("other/base:1", ['SHELL ["/x"]'])
    lines = ready.splitlines()
    assert lines[:3] == ["ARG BASE_OS_VERSION=24.04", "FROM other/base:1", 'SHELL ["/x"]']
    assert lines[3:] == WITH_ARG.splitlines()[2:]


def test_a_base_of_several_lines_is_exchanged_whole() -> None:
    text = PLAIN.replace("FROM quay", "FROM \\\n  # which one\n  quay")
    lines = read_dockerfile(text, "Dockerfile").ready("b:1", []).splitlines()
    assert lines == ["FROM b:1", *PLAIN.splitlines()[1:]]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (PLAIN + "FROM scratch\n", "2 FROM lines"),
        (PLAIN.replace("FROM quay.example/project/ubuntu:22.04\n", ""), "0 FROM lines"),
        (PLAIN.replace("FROM ", "FROM --platform=linux/amd64 "), "line 1: FROM --platform"),
        (PLAIN + 'SHELL ["/bin/bash", "-c"]\n', "line 10: SHELL"),
        (PLAIN + "ONBUILD RUN true\n", "line 10: ONBUILD"),
        (PLAIN + 'RUN ["apt-get", "update"]\n', "line 10: RUN"),
        (PLAIN + "RUN --mount=type=cache,target=/x true\n", "line 10: RUN"),
        (PLAIN + "RUN <<EOF\ntrue\nEOF\n", "here-document"),
        ("# escape=`\n" + PLAIN, "line 1"),
        (PLAIN.replace("ARG DATASTORE_VERSION", "ARG VERSION"), "DATASTORE_VERSION"),
    ],
)
def test_what_is_not_understood_is_said(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match="form that is not understood") as caught:
        read_dockerfile(text, "Dockerfile")
    assert told in caught.value.detail


@pytest.mark.parametrize("text", [PLAIN, WITH_ARG])
def test_dumb_init_need_not_come_from_github(text: str) -> None:
    left = without_download(text)
    assert "github" not in left
    assert "chmod" not in left
    # What stood around it is still apart: the entry point is no part of RUN.
    (run,) = (i for i in read_dockerfile(left, "x").instructions if i.keyword == "RUN")
    assert run.value == "apt-get update && pip3 install -r requirements.txt"
    assert read_dockerfile(left, "x").instructions[-1].keyword == "ENTRYPOINT"


def test_what_follows_the_download_stays() -> None:
    text = PLAIN.replace("/bin/dumb-init\n\n", "/bin/dumb-init \\\n    && echo more\n\n")
    (run,) = (
        i for i in read_dockerfile(without_download(text), "x").instructions if i.keyword == "RUN"
    )
    assert run.value == "apt-get update && pip3 install -r requirements.txt && echo more"


def test_a_program_of_amd64_is_not_put_into_another_image() -> None:
    check_arch(PLAIN, "amd64", "Dockerfile")
    check_arch(without_download(PLAIN), "arm64", "Dockerfile")
    with pytest.raises(ConfigError, match="no image for arm64"):
        check_arch(PLAIN, "arm64", "Dockerfile")
