"""What the image itself says to the agent, beside the files that Trove passes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from imagebuild.verify.static.question import Problem, Question
from imagebuild.verify.static.subject import Subject

#: The agent's own directory (its unit's --config-dir), and oslo.config's usual file.
_DIRECTORY = "/etc/trove/conf.d"
_FILES = ("/etc/trove/trove-guestagent.conf",)
#: Sections of Trove's datastores (trove/common/cfg.py): no other is read for them, and
#: oslo.config says nothing of sections that it does not know.
DATASTORES = ("mysql", "mariadb", "percona", "pxc", "postgresql", "redis", "cassandra",
              "couchbase", "mongodb", "couchdb", "vertica", "db2")  # fmt: skip
#: Options that stand in a datastore's section only.
_OPTIONS = ("docker_image", "backup_docker_image", "device_path", "mount_point", "root_on_create",
            "database_service_uid", "guest_log_exposed_logs")  # fmt: skip
_SECTION = re.compile(r"^\s*\[([^\]]+)\]")
_OPTION = re.compile(rf"^\s*({'|'.join(_OPTIONS)})\s*[=:]")


def sections(subject: Subject) -> Iterator[Problem]:
    """A datastore's options stand in a section that Trove reads."""
    tree = subject.tree
    paths = [f"{_DIRECTORY}/{n}" for n in sorted(tree.names(_DIRECTORY)) if n.endswith(".conf")]
    for path in (*paths, *_FILES):
        section = "DEFAULT"
        for number, line in enumerate(tree.text_or_empty(path).splitlines(), 1):
            if match := _SECTION.match(line):
                section = match[1].strip()
            elif (match := _OPTION.match(line)) and section not in DATASTORES:
                yield Problem(
                    f"{match[1]} stands in the section [{section}], which Trove does not read",
                    (f"{path}:{number}: {line.strip()}",),
                    cause="agent-section-unknown",
                    fields={"section": section},
                )


QUESTIONS = (
    Question(
        "static/agent/config", "the image's own settings for the agent are ones it reads", sections
    ),
)
