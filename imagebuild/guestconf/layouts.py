"""Fragments → the files of a deployment.

| layout            | where it belongs      | files |
|-------------------|-----------------------|-------|
| plain             | /etc/trove            | trove.conf, trove-guestagent.conf |
| kolla-ansible     | /etc/kolla/config     | trove.conf, trove/trove-guestagent.conf |
| openstack-ansible | /etc/openstack_deploy | user_trove_imagebuild.yml |

kolla-ansible merges these over what its role writes (ansible/roles/trove/tasks/config.yml;
trove/trove.conf is none of the names that it reads). OpenStack-Ansible's role os_trove takes
`trove_config_overrides` and `trove_guestagent_config_overrides` (tasks/trove_post_install.yml).
Both send what they read through Jinja, so a secret can be a variable there.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from imagebuild.errors import ConfigError
from imagebuild.guestconf.settings import Fragments, Secret, Sections, Value

#: The first line of every file that is ours: such a one may be replaced.
MARK = "# Made by imagebuild config render"
#: What stands for a secret in a file that nothing goes over before Trove reads it.
PLACEHOLDER = "@%s@"


class Layout(enum.Enum):
    """How the control plane is deployed."""

    PLAIN = "plain"
    KOLLA_ANSIBLE = "kolla-ansible"
    OPENSTACK_ANSIBLE = "openstack-ansible"


#: Where the files of a layout belong, for people.
PLACES = {
    Layout.PLAIN: "/etc/trove",
    Layout.KOLLA_ANSIBLE: "/etc/kolla/config",
    Layout.OPENSTACK_ANSIBLE: "/etc/openstack_deploy",
}
_JINJA = "{{ %s }}"


@dataclass(frozen=True)
class RenderedFile:
    """A file below the layout's directory. `secret`: only its owner may read it."""

    path: PurePosixPath
    text: str
    secret: bool = False


def render(
    fragments: Fragments, layout: Layout, *, with_secrets: bool = False
) -> tuple[RenderedFile, ...]:
    """The files of a layout; of a fragment that says nothing there is none.

    Raises UsageError for a secret that is to be written and is not known, ConfigError for a
    value that cannot be written down.
    """
    if layout is Layout.OPENSTACK_ANSIBLE:
        return _openstack_ansible(fragments, with_secrets)
    kolla = layout is Layout.KOLLA_ANSIBLE
    names = ("trove.conf", "trove/trove-guestagent.conf") if kolla else (
        "trove.conf", "trove-guestagent.conf"
    )  # fmt: skip
    words = _Words(_JINJA if kolla else PLACEHOLDER, with_secrets, jinja=kolla)
    found = []
    for name, sections in zip(names, (fragments.control, fragments.guest), strict=True):
        if sections:
            path = PurePosixPath(name)
            about = _ABOUT[path.name]
            text = f"{MARK}: {about}\n{_secrets_note(sections, layout, with_secrets)}"
            text += _ini(sections, words)
            found.append(RenderedFile(path, text, with_secrets and _has_secret(sections)))
    return tuple(found)


_ABOUT = {
    "trove.conf": "for the control plane",
    "trove-guestagent.conf": "Trove puts it into every new guest",
}


@dataclass(frozen=True)
class _Words:
    """How a value is written in a layout."""

    placeholder: str
    with_secrets: bool
    jinja: bool

    def of(self, name: str, value: Value) -> str:
        if isinstance(value, Secret):
            if not self.with_secrets and value.value != "":
                # The text around the secret is as plain as any other value.
                return value.hidden(self.placeholder).replace("$", "$$")
            value = value.reveal()
        if value != value.strip() or (value[:1] in ("'", '"') and value[0] == value[-1]):
            raise ConfigError(
                "a value begins and ends with blanks or quotes, which are lost on the way to Trove",
                where=name,
                hint="choose another one",
            )
        # oslo.config puts other options' values where a $ is (oslo_config/cfg.py, Template).
        text = value.replace("$", "$$")
        special = self.jinja and any(mark in text for mark in ("{{", "{%", "{#"))
        return f"{{% raw %}}{text}{{% endraw %}}" if special else text


def _ini(sections: Sections, words: _Words) -> str:
    parts = []
    for group, options in sections.items():
        lines = [f"[{group}]", *(f"{n} = {words.of(n, v)}" for n, v in options.items())]
        parts.append("\n".join(lines) + "\n")
    return "\n" + "\n".join(parts)


def _openstack_ansible(fragments: Fragments, with_secrets: bool) -> tuple[RenderedFile, ...]:
    import yaml

    words = _Words(_JINJA, with_secrets, jinja=True)
    document = {
        name: {g: {n: words.of(n, v) for n, v in o.items()} for g, o in sections.items()}
        for name, sections in (
            ("trove_config_overrides", fragments.control),
            ("trove_guestagent_config_overrides", fragments.guest),
        )
        if sections
    }
    if not document:
        return ()
    both = {f"{n}.{g}": o for n, s in (("c", fragments.control), ("g", fragments.guest))
            for g, o in s.items()}  # fmt: skip
    text = f"{MARK}: variables of the role os_trove\n"
    text += _secrets_note(both, Layout.OPENSTACK_ANSIBLE, with_secrets)
    text += "---\n" + yaml.safe_dump(document, sort_keys=False, width=10**6)
    path = PurePosixPath("user_trove_imagebuild.yml")
    return (RenderedFile(path, text, with_secrets and _has_secret(both)),)


def _secrets(sections: Sections) -> list[Secret]:
    found = [v for o in sections.values() for v in o.values() if isinstance(v, Secret)]
    return [s for s in found if s.value != ""]


def _has_secret(sections: Sections) -> bool:
    return bool(_secrets(sections))


def _secrets_note(sections: Sections, layout: Layout, with_secrets: bool) -> str:
    """What is still to be done about the secrets, as comments."""
    names = sorted({s.name for s in _secrets(sections)})
    if not names or with_secrets:
        return ""
    say: dict[Layout, Callable[[str], str]] = {
        Layout.PLAIN: lambda n: f"# put the secret in the place of {PLACEHOLDER % n}\n",
        Layout.KOLLA_ANSIBLE: lambda n: f"# define {n} in /etc/kolla/passwords.yml\n",
        Layout.OPENSTACK_ANSIBLE: lambda n: f"# define {n} in user_secrets.yml\n",
    }
    return "".join(say[layout](n) for n in names)
