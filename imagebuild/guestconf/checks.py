"""The known mistakes in Trove's configuration files, each with its line and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from imagebuild.config.problems import nearest
from imagebuild.guestconf.findings import Finding, Severity
from imagebuild.guestconf.imagechecks import check_bridge, check_images, check_login
from imagebuild.guestconf.inifile import Line
from imagebuild.guestconf.optiontable import Option, OptionTable, option_table
from imagebuild.guestconf.reading import Configured, Role, Source, configured
from imagebuild.guestconf.settings import bridge_problem, host_problem
from imagebuild.mirror.naming import DEFAULT_IMAGES, NEWEST, WRONG_DATASTORES

_GUEST_FILE = "trove-guestagent.conf"
#: Names that people give to the file that Trove calls trove-guestagent.conf.
_WRONG_FILES = ("trove-agent.conf", "trove-guest.conf", "trove-guest-agent.conf", "guestagent.conf")
#: Of the control plane alone: it makes the guest's files of them.
_CONTROL_ONLY = {
    ("DEFAULT", "docker_insecure_registries"): "it writes them into the guest's daemon.json",
    ("DEFAULT", "docker_bridge_network_ip"): "it writes it into the guest's daemon.json",
    ("DEFAULT", "management_networks"): "it makes the guest's network cards",
    ("DEFAULT", "management_security_groups"): "it makes the guest's network cards",
    ("DEFAULT", "nova_keypair"): "it makes the guest's server",
    ("DEFAULT", "injected_config_owner"): "it puts the files into the guest",
    ("DEFAULT", "injected_config_group"): "it puts the files into the guest",
    ("DEFAULT", "guest_config"): "it puts the files into the guest",
    ("network", "network_isolation"): "it tells the guest in guest_info.conf",
}
#: trove/cmd/guest.py has it in DEFAULT, for what guest_info.conf says; people mix the two up.
_ISOLATION = ("DEFAULT", "network_isolation")
#: Lines that cannot be read which are told one by one.
_MOST_BROKEN = 10
_TRUE, _FALSE = ("true", "1", "on", "yes"), ("false", "0", "off", "no")
_SECRET = re.compile(r"password|secret|key|token|transport_url|connection")
_PLACEHOLDER = re.compile(r"@trove_[a-z_]+@")


def check(sources: Sequence[Source], series: str = NEWEST) -> tuple[Finding, ...]:
    """All that is found in files that are read together, in the order of files and lines.

    Raises ConfigError for an unknown series.
    """
    table = option_table(series)
    guest, control = configured(sources, series)
    found: list[Finding] = []
    for source in sources:
        found += _of_file(source, control)
        found += _broken(source)
        found += _groups(source, table)
        for line in source.content.lines:
            found += _line(source, line, table)
    if guest.sources:
        found += check_images(guest, series)
        found += check_login(guest, control)
    found += check_bridge(control)
    found += _quorum(guest, control)
    names = [str(s.path) for s in sources]

    def order(finding: Finding) -> tuple[int, int]:
        file, _, line = finding.where.rpartition(":")
        file, number = (file, int(line)) if line.isdecimal() else (finding.where, 0)
        return names.index(file) if file in names else len(names), number

    return tuple(sorted(dict.fromkeys(found), key=order))


def _of_file(source: Source, control: Configured) -> Iterator[Finding]:
    """Files that nobody reads under their name."""
    name, parent = source.path.name, source.path.absolute().parent
    told = control.get("DEFAULT", "guest_config")
    if name in _WRONG_FILES and not (told and told.value.endswith(f"/{name}")):
        yield Finding(
            Severity.MISTAKE, str(source.path), "", f"Trove does not read {name}",
            "guest_config is /etc/trove/trove-guestagent.conf unless trove.conf says otherwise",
            f"call it {_GUEST_FILE}",
        )  # fmt: skip
    elif (
        told
        and source.role is Role.GUEST
        and source.path.suffix == ".conf"
        and (not told.is_template and not told.value.endswith(f"/{name}"))
    ):
        yield Finding(
            Severity.WARNING, told.where, "[DEFAULT] guest_config",
            f"guests get {told.value}, and {name} was looked at", "", "look at that file, too",
        )  # fmt: skip
    if name == "trove.conf" and (parent.name, parent.parent.name) == ("trove", "config"):
        yield Finding(
            Severity.MISTAKE, str(source.path), "", "kolla-ansible does not read this file",
            "its role merges trove.conf, trove/trove-api.conf (-conductor, -taskmanager) and "
            "trove/HOST/trove.conf of the directory config",
            f"move it to {parent.parent / name}",
        )  # fmt: skip


def _broken(source: Source) -> Iterator[Finding]:
    """Trove stops at the first of them, and does not start."""
    broken = source.content.broken
    for one in broken[:_MOST_BROKEN]:
        yield Finding(Severity.MISTAKE, one.where, "", "Trove cannot read this line", one.why)
    if len(broken) > _MOST_BROKEN:
        more = len(broken) - _MOST_BROKEN
        yield Finding(
            Severity.MISTAKE, broken[_MOST_BROKEN].where, "", f"and {more} more such lines",
            "", "is this a configuration file?",
        )  # fmt: skip


def _quorum(guest: Configured, control: Configured) -> Iterator[Finding]:
    """Both sides declare the same queues: the broker refuses who declares another kind."""
    name = ("oslo_messaging_rabbit", "rabbit_quorum_queue")
    ours, theirs = guest.get(*name), control.get(*name)
    if not (guest.sources and control.sources) or not (ours or theirs):
        return
    told = [line.value.strip().lower() in _TRUE if line else False for line in (ours, theirs)]
    if any(line and line.is_template for line in (ours, theirs)) or told[0] == told[1]:
        return
    line, other = (ours, theirs) if ours else (theirs, ours)
    assert line  # noqa: S101 - one of them is there
    yield Finding(
        Severity.MISTAKE if other else Severity.WARNING, line.where,
        "[oslo_messaging_rabbit] rabbit_quorum_queue",
        "guests and control plane declare the same queues, and differ in this",
        f"{other.where if other else 'the other file does not say it, and false is the default'}; "
        "the broker answers PRECONDITION_FAILED",
        "say the same in both files",
    )  # fmt: skip


def _groups(source: Source, table: OptionTable) -> Iterator[Finding]:
    for group in source.content.groups:
        right = WRONG_DATASTORES.get(group.name)
        if right:
            yield Finding(
                Severity.MISTAKE, group.where, f"[{group.name}]",
                f"Trove has no group [{group.name}]: it reads nothing of this",
                f"the datastore's images stay {DEFAULT_IMAGES[right]} of Docker Hub, and "
                "backups fail",
                f"call it [{right}]",
            )  # fmt: skip
        elif group.name not in table.groups:
            near = table.nearest_group(group.name)
            yield Finding(
                Severity.MISTAKE if near else Severity.WARNING, group.where, f"[{group.name}]",
                f"Trove of {table.series} has no group [{group.name}]: it reads nothing of this",
                "", f"did you mean [{near}]?" if near else "",
            )  # fmt: skip


def _line(source: Source, line: Line, table: OptionTable) -> Iterator[Finding]:
    option = f"[{line.group}] {line.name}"
    if line.group in WRONG_DATASTORES or line.group not in table.groups:
        return
    known = table.find(line.group, line.name)
    if known is None:
        yield _unknown(line, option, table)
        return
    key = (known.group, known.name)
    if source.role is Role.GUEST and key in _CONTROL_ONLY:
        yield Finding(
            Severity.MISTAKE, line.where, option, "in a guest, nothing reads this",
            f"the control plane does: {_CONTROL_ONLY[key]}", "move it to trove.conf",
        )  # fmt: skip
    if key == _ISOLATION:
        yield Finding(
            Severity.MISTAKE, line.where, option, "Trove does not read it in this group", "",
            "in trove.conf, it belongs into [network]",
        )  # fmt: skip
    guests = known.name in ("docker_image", "backup_docker_image") or known.group == "guest_agent"
    if source.role is Role.CONTROL and guests:
        yield Finding(
            Severity.MISTAKE, line.where, option, "in the control plane, nothing reads this",
            "guests do", f"move it to {_GUEST_FILE}",
        )  # fmt: skip
    if _PLACEHOLDER.search(line.value):
        yield Finding(
            Severity.MISTAKE, line.where, option, "a placeholder stands where a secret belongs",
            "", "put the secret there",
        )  # fmt: skip
    if not line.is_template:
        problem = _type_problem(known, line.value)
        if problem:
            shown = "" if _SECRET.search(known.name) else f"{line.value[:100]!r} is "
            yield Finding(Severity.MISTAKE, line.where, option, f"{shown}{problem}")
        yield from _hosts(known, line, option)


def _unknown(line: Line, option: str, table: OptionTable) -> Finding:
    group, name = table.nearest(line.group, line.name)
    if not name:
        return Finding(
            Severity.WARNING, line.where, option,
            f"Trove of {table.series} has no such option: it does not read it",
        )  # fmt: skip
    hint = f"did you mean {name}?" if group == line.group else f"it belongs into [{group}]"
    return Finding(
        Severity.MISTAKE, line.where, option,
        f"Trove of {table.series} has no such option: it does not read it", "", hint,
    )  # fmt: skip


def _type_problem(option: Option, value: str) -> str:
    """Why a value is not of the option's type, "" when it is (oslo_config/types.py)."""
    if option.choices and value not in option.choices:
        near = nearest(value, option.choices)
        suffix = f" (did you mean {near}?)" if near else ""
        return f"none of {', '.join(option.choices)}{suffix}"
    if option.type == "boolean" and value.strip().lower() not in (*_TRUE, *_FALSE):
        return "neither true nor false"
    if option.type in ("integer", "port"):
        if not re.fullmatch(r"[+-]?[0-9]+", value.strip()):
            return "no whole number"
        if option.type == "port" and not 0 <= int(value) <= 65535:
            return "no port"
    if option.type == "float":
        try:
            float(value)
        except ValueError:
            return "no number"
    return ""


def _hosts(option: Option, line: Line, name: str) -> Iterator[Finding]:
    if option.name == "docker_insecure_registries":
        for host in filter(None, (h.strip() for h in line.value.split(","))):
            problem = host_problem(host)
            if problem:
                yield Finding(
                    Severity.MISTAKE, line.where, name, f"docker does not start with {host!r}",
                    problem, "write HOST:PORT as images have it, or a network like 10.0.0.0/24",
                )  # fmt: skip
    if option.name == "docker_bridge_network_ip" and (problem := bridge_problem(line.value)):
        yield Finding(
            Severity.MISTAKE, line.where, name, f"docker does not start with {line.value!r}",
            problem, "write the bridge's own address with its network: 172.24.0.1/24",
        )  # fmt: skip
    if option.name == "management_networks" and "," in line.value.strip(", "):
        yield Finding(
            Severity.MISTAKE, line.where, name, "Trove takes one management network", "",
            "name one of them",
        )  # fmt: skip
