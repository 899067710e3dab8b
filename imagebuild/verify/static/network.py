"""No network card is configured in the image but those that one can count on.

An instance with network isolation has two cards, each with a router: where the image itself
brings up both by DHCP there are two default routes, and which one wins is chance.
"""

from __future__ import annotations

import posixpath
import re
import reprlib
from collections.abc import Iterator
from typing import Any

import yaml

from imagebuild.verify.checks.base import glob_matches
from imagebuild.verify.static.question import Problem, Question
from imagebuild.verify.static.subject import Subject
from imagebuild.verify.tree import Tree

INTERFACES = "/etc/network/interfaces"
_NETPLAN = ("/usr/lib/netplan", "/lib/netplan", "/etc/netplan")
_NETWORKD = ("/usr/lib/systemd/network", "/lib/systemd/network", "/etc/systemd/network")


def routes(subject: Subject) -> Iterator[Problem]:
    """At most one card gets a default route from the image itself."""
    tree = subject.tree
    found = dict([*_ifupdown(tree), *_netplan(tree), *_networkd(tree)])
    if len(found) > 1:
        yield Problem(
            f"the image gives default routes to {len(found)} network cards: "
            + ", ".join(sorted(found)),
            tuple(found.values()), "leave the network to cloud-init", "two-default-routes",
            {"cards": ", ".join(sorted(found))},
        )  # fmt: skip


def _ifupdown(tree: Tree) -> Iterator[tuple[str, str]]:
    """Card and line, interfaces(5)."""
    started: set[str] = set()
    routed: dict[str, str] = {}
    for path in _interfaces_files(tree, INTERFACES, 0):
        card, line = "", ""
        for text in re.sub(r"\\\n", " ", tree.text_or_empty(path)).splitlines():
            words = text.split("#")[0].split()
            if not words:
                continue
            if words[0] == "auto" or words[0].startswith("allow-"):
                started |= set(words[1:])
            elif words[0] == "iface" and len(words) >= 4:
                card, line = words[1], f"{path}: {' '.join(words)}"
                if words[3] == "dhcp":
                    routed[card] = line
            elif words[0] == "gateway" and card:
                routed[card] = line
    return ((c, line) for c, line in routed.items() if c in started and c != "lo")


def _interfaces_files(tree: Tree, path: str, depth: int) -> Iterator[str]:
    yield path
    if depth > 8:
        return
    for text in tree.text_or_empty(path).splitlines():
        words = text.split()
        if len(words) < 2 or words[0] not in ("source", "source-directory"):
            continue
        whole = posixpath.join("/etc/network", words[1])
        if words[0] == "source-directory":
            whole += "/*"
        directory, pattern = posixpath.split(whole)
        for name in sorted(tree.names(directory)):
            if glob_matches(name, pattern):
                yield from _interfaces_files(tree, f"{directory}/{name}", depth + 1)


def _netplan(tree: Tree) -> Iterator[tuple[str, str]]:
    """Card and line; of files of one name the last directory's counts (netplan-generate(8))."""
    files = {n: f"{d}/{n}" for d in _NETPLAN for n in tree.names(d) if n.endswith(".yaml")}
    for _, path in sorted(files.items()):
        try:
            document = yaml.safe_load(tree.text_or_empty(path)) or {}
        except yaml.YAMLError as exc:
            raise ValueError(f"{path} is no YAML") from exc
        network = document.get("network") if isinstance(document, dict) else None
        for kind in ("ethernets", "bonds", "bridges", "vlans"):
            cards = network.get(kind) if isinstance(network, dict) else None
            for card, setting in cards.items() if isinstance(cards, dict) else ():
                if isinstance(setting, dict) and _has_route(setting):
                    yield str(card), f"{path}: {card}: {reprlib.repr(setting)}"


def _has_route(setting: dict[str, Any]) -> bool:
    override = setting.get("dhcp4-overrides")
    if setting.get("dhcp4") is True:
        return not (isinstance(override, dict) and override.get("use-routes") is False)
    routed = setting.get("routes")
    targets = (
        [r.get("to") for r in routed if isinstance(r, dict)] if isinstance(routed, list) else []
    )
    return "gateway4" in setting or any(t in ("default", "0.0.0.0/0") for t in targets)


def _networkd(tree: Tree) -> Iterator[tuple[str, str]]:
    """Card and line, systemd.network(5)."""
    files = {n: f"{d}/{n}" for d in _NETWORKD for n in tree.names(d) if n.endswith(".network")}
    for name, path in sorted(files.items()):
        if name.startswith("80-") and not path.startswith("/etc"):
            continue  # systemd's own, for containers and the like
        text = tree.text_or_empty(path)
        match = re.search(r"(?m)^\s*Name=(.+)$", text)
        route = re.search(r"(?mi)^\s*(DHCP=(yes|ipv4|true|on|1)|Gateway=\S+)\s*$", text)
        if match and route:
            yield match[1].strip(), f"{path}: {route[1]}"


QUESTIONS = (Question("static/network/routes", "no two cards get a default route", routes),)
