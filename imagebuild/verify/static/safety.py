"""The safety checks of imagebuild.verify.safety, as checks of this level."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence

from imagebuild.stages.devmode import KEY_PATH
from imagebuild.verify.checks.base import Check as SafetyCheck
from imagebuild.verify.checks.base import Expected, Severity
from imagebuild.verify.results import Outcome
from imagebuild.verify.safety import CHECKS, Finding, check_safety
from imagebuild.verify.static.question import Problem, Question
from imagebuild.verify.static.subject import Subject

#: What known.yaml lists and `imagebuild-clean` removes is of our own images: in others' it is
#: no more than a remark.
_OUR_RULES = ("permissions.", "leftovers.", "identity.names")
#: Causes of causes.yaml.
_CAUSES = {
    "accounts.passwords": "password-known",
    "accounts.sshd": "password-known",
    "keys.ssh_host": "host-key-left",
    "keys.private": "private-key-left",
    "keys.authorized": "private-key-left",
    "identity.machine_id": "identity-left",
    "identity.seeds": "identity-left",
    "identity.identifiers": "identity-left",
    "identity.cloud_init": "identity-left",
    "identity.network": "identity-left",
    "secrets.environment": "secret-left",
    "secrets.files": "secret-left",
    "secrets.urls": "secret-left",
}


def expected(subject: Subject) -> Expected:
    """What the image is meant to have: credentials of registries, and what a dev image has."""
    user = subject.guest_user or ""
    manifest: Mapping[str, object] = subject.artifact.manifest if subject.artifact else {}
    registries = (
        subject.artifact.stage("base").get("inputs", {}).get("registries", ())
        if (subject.artifact)
        else _registries(subject.content)
    )
    has_login = any(r.get("credentials") for r in registries if isinstance(r, dict))
    home = subject.users.get(user, [""] * 6)[5] or f"/home/{user}"
    places = ("/root/.docker/config.json", f"{home}/.docker/config.json")
    dev = manifest.get("dev")
    is_dev = bool(subject.content.get("dev"))
    # Without a manifest a dev image may have what any dev image may.
    said = dev if isinstance(dev, dict) else {"key_fingerprint": is_dev, "root_password": is_dev}
    return Expected(
        user,
        credentials=places if has_login else (),
        dev_key=KEY_PATH if is_dev and said.get("key_fingerprint") else None,
        root_password=is_dev and bool(said.get("root_password")),
    )


def _registries(content: Mapping[str, object]) -> Sequence[object]:
    """Those of the image's own words."""
    found: object = content
    for key in ("stages", "base", "inputs", "registries"):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, list) else ()


def _ask(check: SafetyCheck, subject: Subject) -> Iterator[Problem]:
    ours = not (subject.is_foreign and check.id.startswith(_OUR_RULES))
    for finding in subject.once(_findings):
        if finding.check == check.id:
            bad = finding.severity is Severity.ERROR and ours
            yield Problem(
                f"{finding.path}: {finding.what}",
                (finding.path, f"why it matters: {finding.why}"),
                finding.todo,
                _CAUSES.get(check.id, ""),
                {"path": finding.path},
                Outcome.FAILED if bad else Outcome.WARNING,
            )


def _findings(subject: Subject) -> Sequence[Finding]:
    """All findings: the disk is searched once."""
    return check_safety(subject.tree, expected(subject), secrets=subject.options.secrets)


QUESTIONS = tuple(
    Question(f"static/safety/{c.id.replace('.', '/')}", c.title, functools.partial(_ask, c))
    for c in CHECKS
)
