"""The services that a database instance lives by are started at boot."""

from __future__ import annotations

import functools
import posixpath
import re
import stat
from collections.abc import Iterator, Sequence

from imagebuild.verify.static.question import Problem, Question, skipped
from imagebuild.verify.static.subject import Subject
from imagebuild.verify.tree import Tree

GUEST_AGENT = "guest-agent.service"
#: systemd.unit(5), the order in which unit files are looked for.
_DIRECTORIES = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system",
                "/usr/lib/systemd/system", "/lib/systemd/system")  # fmt: skip

_GENERATORS = ("/usr/lib/systemd/system-generators", "/lib/systemd/system-generators")
NETWORK = ("networking.service", "systemd-networkd.service", "NetworkManager.service")

#: Of each line of names one must be enabled.
_WANTED: dict[str, tuple[str, tuple[tuple[str, ...], ...]]] = {
    "docker": ("docker starts", (("docker.service",),)),
    "containerd": ("containerd starts", (("containerd.service",),)),
    "cloud-init": (
        "all stages of cloud-init start",
        (
            ("cloud-init-local.service", "cloud-init-main.service"),
            ("cloud-init.service", "cloud-init-network.service"),
            ("cloud-config.service",),
            ("cloud-final.service",),
        ),
    ),
    "ssh": ("sshd starts", (("ssh.service", "ssh.socket", "sshd.service", "sshd.socket"),)),
    "time": (
        "the clock is kept",
        (("chrony.service", "chronyd.service", "systemd-timesyncd.service", "ntp.service",
          "ntpsec.service", "openntpd.service"),),
    ),
}  # fmt: skip


def unit_file(tree: Tree, name: str) -> str | None:
    """The path of a unit's file; None when there is none."""
    places = (f"{directory}/{name}" for directory in _DIRECTORIES)
    for place in places:
        node = tree.resolve(place)
        if node is not None and node.is_file:
            return node.path
    return None


def unit_text(tree: Tree, name: str) -> str:
    """The text of a unit's file and of its drop-ins, in the order in which they count."""
    path = unit_file(tree, name)
    texts = [tree.read_text(path)] if path else []
    drop_ins = {n: f"{d}/{name}.d/{n}" for d in reversed(_DIRECTORIES)
                for n in tree.names(f"{d}/{name}.d") if n.endswith(".conf")}  # fmt: skip
    texts += [tree.text_or_empty(p) for _, p in sorted(drop_ins.items())]
    return "\n".join(texts)


def is_masked(tree: Tree, name: str) -> bool:
    """Is the unit a link to /dev/null, or an empty file, in the first place it is looked for?"""
    for directory in _DIRECTORIES:
        node = tree.get(f"{directory}/{name}")
        if node is not None:
            return node.link == "/dev/null" or (node.is_file and node.size == 0)
    return False


def enabled_by(tree: Tree, name: str) -> str | None:
    """The link that starts the unit with its target, in any `.wants` or `.requires`."""
    for directory in _DIRECTORIES:
        for entry in sorted(tree.names(directory)):
            if entry.endswith((".wants", ".requires")):
                path = f"{directory}/{entry}/{name}"
                if tree.exists(path):
                    return path
    return None


def _unit(tree: Tree, names: Sequence[str]) -> Problem | None:
    """What hinders the first that is enabled; None: nothing."""
    enabled = [n for n in names if enabled_by(tree, n)]
    if not enabled:
        there = [n for n in names if unit_file(tree, n)]
        name = (there or names)[0]
        if is_masked(tree, name):
            return _masked(name)
        if not there:
            return Problem(
                f"{name} is not in the image", tuple(names), cause="unit-missing",
                fields={"unit": name},
            )  # fmt: skip
        where = unit_file(tree, name)
        return Problem(
            f"{name} is not enabled", (f"{where} is there; no .wants directory has it",),
            f"systemctl enable {name} in an element", "unit-not-enabled", {"unit": name},
        )  # fmt: skip
    working = [n for n in enabled if not is_masked(tree, n)]
    if not working:
        return _masked(enabled[0])
    if not any(unit_file(tree, n) for n in working):
        return Problem(
            f"{working[0]} is enabled, but not in the image",
            (str(enabled_by(tree, working[0])),), cause="unit-missing",
            fields={"unit": working[0]},
        )  # fmt: skip
    return None


def _masked(name: str) -> Problem:
    return Problem(f"{name} is masked", (f"/etc/systemd/system/{name} -> /dev/null",),
                   f"systemctl unmask {name} in an element", "unit-not-enabled",
                   {"unit": name})  # fmt: skip


def _ask(groups: Sequence[Sequence[str]], subject: Subject) -> Iterator[Problem]:
    yield from filter(None, (_unit(subject.tree, names) for names in groups))


def guest_agent(subject: Subject) -> Iterator[Problem]:
    """The agent's unit is started, by a user that is there, and has something to start."""
    tree = subject.tree
    if problem := _unit(tree, (GUEST_AGENT,)):
        yield problem
        return
    path = unit_file(tree, GUEST_AGENT)
    if path is None:
        return
    text = unit_text(tree, GUEST_AGENT)
    user = settings(text, "User")[-1:] or ["root"]
    # Whether the guest user is there is asked among the users.
    if user[0] not in subject.users and user[0] != subject.guest_user:
        yield Problem(
            f"the agent's user {user[0]} is not in the image", (f"User={user[0]}", path),
            cause="guest-user-missing", fields={"user": user[0]},
        )  # fmt: skip
    commands = settings(text, "ExecStart")
    if not commands:
        yield Problem("the agent's unit starts nothing", (path,), cause="agent-not-startable",
                      fields={"program": path})  # fmt: skip
    for command in commands:
        program = command.lstrip("@-:+!").split()[0] if command.lstrip("@-:+!") else ""
        node = tree.resolve(program)
        line = f"ExecStart={command}"
        if node is None or not node.is_file:
            yield Problem(f"the agent's program {program} is not there", (line,),
                          cause="agent-not-startable", fields={"program": program})  # fmt: skip
        elif not node.permissions & stat.S_IXOTH and not node.permissions & stat.S_IXUSR:
            yield Problem(f"the agent's program {program} is not executable", (line,),
                          cause="agent-not-startable", fields={"program": program})  # fmt: skip


def settings(text: str, key: str) -> list[str]:
    """The values of a key in a unit file, in their order; an empty one takes back all before."""
    values: list[str] = []
    for match in re.finditer(rf"(?m)^{key}=(.*)$", re.sub(r"\\\n", " ", text)):
        value = match[1].strip()
        values = [*values, value] if value else []
    return values


def network(subject: Subject) -> Iterator[Problem]:
    """Something brings up the cards that cloud-init has configured."""
    problem = _unit(subject.tree, NETWORK)
    if problem is None:
        return
    # netplan's generator starts networkd at each boot, without a link in the image.
    networkd = "systemd-networkd.service"
    generators = (f"{d}/netplan" for d in _GENERATORS)
    has_netplan = any(map(subject.tree.resolve, generators))
    if not (has_netplan and unit_file(subject.tree, networkd)):
        yield problem
    elif is_masked(subject.tree, networkd):
        yield _masked(networkd)


def hostnic(subject: Subject) -> Iterator[Problem]:
    """Network isolation needs docker's plugin: its socket is enabled where the image has it."""
    name = "docker-hostnic.socket"
    if unit_file(subject.tree, name) is None:
        yield skipped(f"{posixpath.splitext(name)[0]} is not in the image")
    elif problem := _unit(subject.tree, (name,)):
        yield problem


QUESTIONS = (
    *(
        Question(f"static/units/{name}", good, functools.partial(_ask, groups))
        for name, (good, groups) in _WANTED.items()
    ),
    Question("static/units/network", "the network is brought up", network),
    Question("static/units/guest-agent", "the guest agent starts", guest_agent),
    Question("static/units/hostnic", "docker's plugin for isolated networks starts", hostnic),
)
