"""The accounts that Trove counts on: the guest user, and a free uid for the database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from imagebuild.verify.static import cloudconfig
from imagebuild.verify.static.question import Problem, Question, skipped
from imagebuild.verify.static.subject import Subject

#: trove/common/cfg.py: database_service_uid; trove/guestagent/common/operating_system.py makes
#: the user of that name with it, and starts without complaint when it is there already.
DATABASE_UID = 1001
DATABASE_USER = "database"
#: useradd's UID_MIN and UID_MAX (login.defs(5)).
_REGULAR = range(1000, 60001)


def guest_user(subject: Subject) -> Iterator[Problem]:
    """Who owns the files that Trove injects is there."""
    name = subject.guest_user
    if name is None:
        yield Problem("nothing says who the guest user is",
                      hint="name it: --guest-user NAME", cause="guest-user-missing",
                      fields={"user": "the guest user"})  # fmt: skip
        return
    fields = subject.users.get(name)
    if fields is None:
        there = [n for n, f in subject.users.items() if _uid(f) in _REGULAR]
        yield Problem(
            f"the guest user {name} is not in the image",
            ("/etc/passwd: uids from 1000 on: " + (", ".join(there) or "none"),),
            cause="guest-user-missing", fields={"user": name},
        )  # fmt: skip
        return
    if fields[6].endswith(("/nologin", "/false")):
        yield Problem(f"the guest user {name} has no shell", (":".join(fields),),
                      cause="guest-user-missing", fields={"user": name})  # fmt: skip
    if not any(f[2] == fields[3] for f in subject.groups.values()):
        yield Problem(f"the guest user's group {fields[3]} is not in the image",
                      (":".join(fields),), cause="guest-user-missing",
                      fields={"user": name})  # fmt: skip


def sudo(subject: Subject) -> Iterator[Problem]:
    """The agent becomes root without a password."""
    name, tree = subject.guest_user, subject.tree
    if name is None:
        yield skipped("nothing says who the guest user is")
        return
    groups = {f"%{g}" for g, f in subject.groups.items() if name in f[3].split(",")}
    paths = ["/etc/sudoers"]
    # sudo itself ignores names with a dot or a final tilde.
    found = sorted(tree.names("/etc/sudoers.d"))
    paths += [f"/etc/sudoers.d/{n}" for n in found if "." not in n and not n.endswith("~")]
    for path in paths:
        for line in re.sub(r"\\\n", " ", tree.text_or_empty(path)).splitlines():
            words = line.split()
            if words and words[0] in {name, "ALL", *groups} and "NOPASSWD:" in line:
                return
    default = _default_user(subject.once(_config))
    if default.get("name") == name and "NOPASSWD:" in str(default.get("sudo")):
        return
    yield Problem(
        f"{name} cannot use sudo without a password", tuple(paths), cause="guest-user-no-sudo",
        fields={"user": name},
    )  # fmt: skip


def docker_group(subject: Subject) -> Iterator[Problem]:
    """The agent may talk to docker."""
    name = subject.guest_user
    if name in (None, "root"):
        yield skipped("nothing says who the guest user is" if name is None else "it is root")
        return
    fields = subject.groups.get("docker")
    primary = subject.users.get(str(name), [""] * 4)[3]
    if fields is None:
        yield Problem("there is no group docker", cause="guest-user-no-docker",
                      fields={"user": str(name)})  # fmt: skip
    elif name not in fields[3].split(",") and primary != fields[2]:
        yield Problem(f"{name} is not in the group docker", (":".join(fields),),
                      "usermod -aG docker USER in an element", "guest-user-no-docker",
                      {"user": str(name)})  # fmt: skip


def database_uid(subject: Subject) -> Iterator[Problem]:
    """The uid that the agent makes its database user with is free, and stays so."""
    fields = {"uid": str(DATABASE_UID), "user": DATABASE_USER}
    for name, row in subject.users.items():
        if _uid(row) == DATABASE_UID and name != DATABASE_USER:
            yield Problem(f"the uid {DATABASE_UID} belongs to {name}", (":".join(row),),
                          cause="database-user-taken", fields=fields)  # fmt: skip
            return
    own = subject.users.get(DATABASE_USER)
    if own:
        if _uid(own) != DATABASE_UID:
            yield Problem(f"{DATABASE_USER} has another uid than {DATABASE_UID}", (":".join(own),),
                          cause="database-user-taken", fields=fields)  # fmt: skip
        return
    config = subject.once(_config)
    default = _default_user(config)
    user = default.get("name")
    if not isinstance(user, str) or user in subject.users:
        return
    # useradd takes the number behind the highest that is taken.
    taken = [u for row in subject.users.values() if (u := _uid(row)) in _REGULAR]
    uid = default.get("uid", max(taken, default=_REGULAR.start - 1) + 1)
    if str(uid) == str(DATABASE_UID):
        yield Problem(
            f"cloud-init will make the user {user}, which gets the uid {DATABASE_UID}",
            (f"default_user: {user}", f"users with a uid from 1000 on: {len(taken)}"),
            f"let cloud-init's default user be the guest user ({subject.guest_user})",
            "database-user-taken", fields,
        )  # fmt: skip


def _config(subject: Subject) -> dict[str, Any]:
    """cloud-init's configuration."""
    return cloudconfig.merged(subject.tree)


def _default_user(config: dict[str, Any]) -> dict[str, Any]:
    """The user that cloud-init makes at the first boot; empty when it makes none."""
    users = config.get("users", ["default"])
    if isinstance(users, list) and "default" not in users:
        return {}
    info = config.get("system_info")
    user = info.get("default_user") if isinstance(info, dict) else None
    return user if isinstance(user, dict) else {}


def _uid(fields: list[str]) -> int:
    return int(fields[2]) if fields[2].isascii() and fields[2].isdigit() else -1


QUESTIONS = (
    Question("static/users/guest-user", "the guest user is there", guest_user),
    Question("static/users/sudo", "the agent becomes root by sudo", sudo),
    Question("static/users/docker", "the agent may talk to docker", docker_group),
    Question("static/users/database-uid", "the uid of the database user is free", database_uid),
)
