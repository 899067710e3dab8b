"""Nobody gets in with a password, and nobody but the guest user becomes root without one."""

from __future__ import annotations

import posixpath
import re
import stat
from collections.abc import Iterator

from imagebuild.verify.checks.base import Check, Found, Severity, Subject, glob_matches
from imagebuild.verify.tree import Tree

#: Copies of the account files that passwd, useradd and Debian's cron job keep.
_SHADOW = ("/etc/shadow", "/etc/shadow-", "/var/backups/shadow.bak")
_PASSWD = ("/etc/passwd", "/etc/passwd-", "/var/backups/passwd.bak")
_GROUP = ("/etc/group", "/etc/group-", "/var/backups/group.bak")
_GSHADOW = ("/etc/gshadow", "/etc/gshadow-", "/var/backups/gshadow.bak")

_LOCK = "lock it: passwd --lock USER"


def passwords(subject: Subject) -> Iterator[Found]:
    """shadow(5), passwd(5), gshadow(5), opasswd."""
    for path, name, field in _fields(subject.tree, _SHADOW):
        if not field:
            yield Found(path, f"{name} needs no password")
        elif field[0] not in "!*":
            if not (subject.expected.root_password and name == "root" and path == _SHADOW[0]):
                yield Found(path, f"{name} has a password")
        elif field.strip("!*"):
            what = f"{name} has a locked password whose hash is still there"
            yield Found(path, what, "usermod --password '!' USER", Severity.WARNING)
    for path, name, field in _fields(subject.tree, _PASSWD):
        if not field:
            yield Found(path, f"{name} needs no password")
        elif field[0] not in "x!*":
            yield Found(path, f"{name} has a password, readable by all")
    # An empty field of a group lets in its members alone, who need no password anyway.
    for path, name, field in _fields(subject.tree, _GROUP + _GSHADOW):
        if field and field[0] not in "x!*":
            yield Found(path, f"the group {name} has a password", "gpasswd -r GROUP")
    if subject.tree.text_or_empty("/etc/security/opasswd").strip():
        yield Found("/etc/security/opasswd", "it holds hashes of former passwords", "empty it")


def superusers(subject: Subject) -> Iterator[Found]:
    """Uid 0 is root's alone."""
    for name, fields in subject.users.items():
        if re.fullmatch("0+", fields[2]) and name != "root":
            yield Found("/etc/passwd", f"{name} has uid 0", "remove the account")


def _fields(tree: Tree, paths: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """File, account and second field of each line of each file."""
    for path in paths:
        for line in tree.text_or_empty(path).splitlines():
            fields = line.split(":")
            if len(fields) > 1 and line[0] not in "#+-":
                yield path, fields[0], fields[1]


#: Option of sshd (lower case): what it is without a line, and what is good.
_SSHD = {
    "passwordauthentication": ("yes", {"no"}),
    "kbdinteractiveauthentication": ("yes", {"no"}),
    "permitrootlogin": (
        "prohibit-password",
        {"no", "prohibit-password", "without-password", "forced-commands-only"},
    ),
    "permitemptypasswords": ("no", {"no"}),
    "hostbasedauthentication": ("no", {"no"}),
}
#: A former name, sshd_config(5).
_SSHD_ALIAS = {"challengeresponseauthentication": "kbdinteractiveauthentication"}
_SSHD_CONFIG = "/etc/ssh/sshd_config"


def sshd(subject: Subject) -> Iterator[Found]:
    """The options that count: the first line wins, those of Match blocks come on top."""
    if not subject.tree.exists(_SSHD_CONFIG):
        return
    effective: dict[str, tuple[str, str]] = {}
    for path, option, value, in_match in _sshd_lines(subject.tree, _SSHD_CONFIG, 0):
        if option not in _SSHD:
            continue
        if in_match and value not in _SSHD[option][1]:
            yield Found(path, f"a Match block says {option} {value}")
        elif not in_match:
            effective.setdefault(option, (value, path))
    for option, (default, good) in _SSHD.items():
        value, path = effective.get(option, (default, _SSHD_CONFIG))
        if value not in good:
            yield Found(path, f"{option} is {value}")


def _sshd_lines(tree: Tree, path: str, depth: int) -> Iterator[tuple[str, str, str, bool]]:
    """File, option, value, and whether it stands in a Match block. sshd_config(5)."""
    in_match = False
    for line in tree.text_or_empty(path).splitlines():
        match = re.match(r"\s*([A-Za-z]+)(?:\s*=\s*|\s+)(.+?)\s*$", line)
        if not match:
            continue
        option, value = match[1].lower(), match[2].strip('"')
        if option == "match":
            in_match = value.lower() != "all"
        elif option == "include" and depth < 16:
            for pattern in value.split():
                whole = posixpath.join("/etc/ssh", pattern.strip('"'))
                directory, name = posixpath.split(whole)
                for found in sorted(tree.names(directory)):
                    if glob_matches(found, name):
                        inner = _sshd_lines(tree, posixpath.join(directory, found), depth + 1)
                        yield from ((p, o, v, m or in_match) for p, o, v, m in inner)
        else:
            value = value.split("#")[0].strip().lower()
            yield path, _SSHD_ALIAS.get(option, option), value, in_match


def sudo(subject: Subject) -> Iterator[Found]:
    """Only the guest user has rules without a password, and only root can change the rules."""
    tree = subject.tree
    paths = ["/etc/sudoers"]
    # sudo itself ignores names with a dot or a final tilde.
    for name in sorted(tree.names("/etc/sudoers.d")):
        if "." not in name and not name.endswith("~"):
            paths.append(f"/etc/sudoers.d/{name}")
    for path in paths:
        node = tree.resolve(path)
        if node is None or not node.is_file:
            continue
        if node.uid != 0 or node.permissions & (stat.S_IWGRP | stat.S_IWOTH):
            yield Found(path, "others than root can write it", "chown root:root, chmod 0440")
        text = re.sub(r"\\\n", " ", tree.read_text(path))
        for line in text.splitlines():
            words = line.split("#")[0].split() if not re.match(r"\s*#\d", line) else line.split()
            if not words:
                continue
            if words[0].startswith("Defaults") and "!authenticate" in line:
                yield Found(path, "sudo asks nobody for a password (Defaults !authenticate)")
            elif "NOPASSWD" in line and words[0] != subject.expected.guest_user:
                yield Found(path, f"{words[0]} becomes root without a password")


def autologin(subject: Subject) -> Iterator[Found]:
    """No console opens a session by itself."""
    units = (n for n in subject.tree.below("/etc/systemd/system") if "getty" in n.path)
    paths = [n.path for n in units if n.is_file] + ["/etc/inittab"]
    for path in paths:
        text = subject.tree.text_or_empty(path)
        if re.search(r"(?m)^[^#\n]*getty\b[^\n]*\s(--autologin|-a)[\s=]", text):
            yield Found(path, "the console logs a user in by itself", "remove the option")


CHECKS = (
    Check(
        "accounts.passwords",
        "no account has a usable password",
        "the same password would open every instance of the image",
        _LOCK,
        passwords,
    ),
    Check(
        "accounts.superusers",
        "only root has uid 0",
        "a second name for root is a way around all that is locked for root",
        "remove it",
        superusers,
    ),
    Check(
        "accounts.sshd",
        "sshd takes keys only",
        "passwords can be guessed, and an account made later may have a weak one",
        "set it in a file of /etc/ssh/sshd_config.d that sorts first",
        sshd,
    ),
    Check(
        "accounts.sudo",
        "only the guest user becomes root without a password",
        "whoever gets hold of such an account owns the machine",
        "remove the rule",
        sudo,
    ),
    Check(
        "accounts.autologin",
        "no console logs anybody in by itself",
        "whoever reaches the cloud's console owns the machine",
        "remove the option",
        autologin,
    ),
)  # fmt: skip
