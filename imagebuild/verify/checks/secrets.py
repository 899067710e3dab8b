"""No secret of the build environment is on the disk, in no file and in no free block."""

from __future__ import annotations

import re
from collections.abc import Iterator

from imagebuild.verify.checks.base import Check, Found, Subject, glob_matches
from imagebuild.verify.search import forms
from imagebuild.verify.tree import Node, Tree

#: Files that exist to hold credentials, and what must stand in them to count (any content
#: when empty). None of them comes with a package.
_CREDENTIALS = (
    ("**/.netrc", ""),
    ("**/.git-credentials", ""),
    ("**/.config/git/credentials", ""),
    ("**/.pypirc", ""),
    ("**/.docker/config.json", '"auth|credHelpers|credsStore|identitytoken'),
    ("**/.dockercfg", "auth"),
    ("**/containers/auth.json", "auth"),
    ("**/.aws/credentials", ""),
    ("**/.config/gcloud/**", ""),
    ("**/.kube/config", ""),
    ("**/.vault-token", ""),
    ("**/.config/openstack/*", ""),
    ("/etc/openstack/*", ""),
    ("**/.pgpass", ""),
    ("**/.my.cnf", "(?m)^\\s*password"),
    ("/etc/apt/auth.conf", "(?m)^\\s*[^#\\s]"),
    ("/etc/apt/auth.conf.d/*", "(?m)^\\s*[^#\\s]"),
)
#: Where settings lie that often name a URL.
_SETTINGS = (
    "/etc/**", "/root/**", "/home/**", "**/pip.conf", "**/.condarc", "**/.gitconfig",
    "**/.git/config", "/opt/*", "/opt/*/*", "**/direct_url.json",
)  # fmt: skip
_MOST_SETTINGS = 1 << 20
# user:password@ in the authority of a URL (RFC 3986, 3.2.1). `<user>:${PASSWORD}@` and the
# like are examples.
_USERINFO = re.compile(
    rb"\b[a-z][a-z0-9+.-]{1,20}://[^\s/?#:@\"'<>{}$%\[\]]{1,64}:"
    rb"(?!\*+@|x+@|pass(?:word)?@)[^\s/?#@\"'<>{}$\[\]]{1,256}@[\w.\[-]",
    re.IGNORECASE,
)


def environment(subject: Subject) -> Iterator[Found]:
    """The given values, in each form of theirs, anywhere on the disk. They are not shown."""
    for name, secret in subject.secrets.items():
        places: dict[str, tuple[int, int, str]] = {}
        for form in forms(secret):
            for hit in subject.hits.get(form, ()):
                where, of = hit.place.where, "" if hit.place.node else " of the disk"
                if where in subject.expected.credentials and not hit.place.slack:
                    continue
                if hit.place.slack:
                    where += ", behind its end"
                count, first, _ = places.get(where, (0, hit.place.offset, of))
                places[where] = (count + 1, min(first, hit.place.offset), of)
        for where, (count, first, of) in sorted(places.items()):
            times = "" if count == 1 else f", and {count - 1} times more"
            yield Found(where, f"it holds {name} at byte {first}{of}{times}")


def credential_files(subject: Subject) -> Iterator[Found]:
    """Files whose purpose is to hold credentials."""
    patterns = tuple(pattern for pattern, _ in _CREDENTIALS)
    for node in subject.tree.files():
        if not node.size or not glob_matches(node.path, *patterns):
            continue
        if node.path in subject.expected.credentials:
            if node.permissions & 0o077:
                yield Found(node.path, "others than its owner can read it", "chmod 0600")
            continue
        text = _text(subject.tree, node).decode(errors="replace")
        contents = (c for pattern, c in _CREDENTIALS if glob_matches(node.path, pattern))
        if any(re.search(content, text) for content in contents):
            yield Found(node.path, "it holds credentials")


def urls(subject: Subject) -> Iterator[Found]:
    """URLs with a user and a password in settings."""
    for node in subject.tree.files():
        if not 0 < node.size <= _MOST_SETTINGS:
            continue
        if not glob_matches(node.path, *_SETTINGS):
            continue
        text = _text(subject.tree, node)
        match = _USERINFO.search(text)
        if match and b"\0" not in text[:1024]:
            host = match[0].rsplit(b"@", 1)[0].split(b"://")[0].decode(errors="replace")
            line = text.count(b"\n", 0, match.start()) + 1
            yield Found(node.path, f"line {line} has a {host} URL with a password")


def _text(tree: Tree, node: Node) -> bytes:
    return tree.content(node, 0, _MOST_SETTINGS)


CHECKS = (
    Check(
        "secrets.environment",
        "no secret of the build environment is on the disk",
        "whoever has the image has the secret",
        "find what wrote it; change the secret if the image was handed out",
        environment,
    ),
    Check(
        "secrets.files",
        "no file holds credentials",
        "whoever has the image has them",
        "remove the file; change the credentials if the image was handed out",
        credential_files,
    ),
    Check(
        "secrets.urls",
        "no setting has a URL with a password",
        "whoever has the image has the password",
        "remove it; change the password if the image was handed out",
        urls,
    ),
)  # fmt: skip
