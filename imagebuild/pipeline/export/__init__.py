"""A pipeline as job definitions of the engines that people have.

    export(loaded, "gitlab") → {"imagebuild-nightly.gitlab-ci.yml": text}

Each image cell is a build job, a verify job (which alone needs KVM) and, where there are
clouds, a publish job (one at a time, behind one lock); mirror lists come first, `collect`
last, whatever happened. systemd and cron have one host, and run all of it at once. Pure:
the same pipeline gives the same text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from imagebuild.config.problems import nearest_hint
from imagebuild.errors import UsageError
from imagebuild.pipeline.export import cron, github, gitlab, systemd, zuul
from imagebuild.pipeline.export.source import Source, source
from imagebuild.pipeline.loading import LoadedPipeline

_WRITERS: Mapping[str, Callable[[Source], Mapping[str, str]]] = {
    "github": github.files,
    "gitlab": gitlab.files,
    "zuul": zuul.files,
    "systemd": systemd.files,
    "cron": cron.files,
}
ENGINES = tuple(_WRITERS)
#: Those that run everything on one host.
HOSTS = ("systemd", "cron")


def export(loaded: LoadedPipeline, engine: str, *, file: str) -> Mapping[str, str]:
    """File name (with directories below the repository or the host's root) → text.

    `file` is the pipeline's file as jobs find it: from the top of the repository, or absolute;
    systemd and cron want the latter, or the name of a shipped pipeline. Raises UsageError for
    an engine that is not known, and for values that its files cannot carry.
    """
    if engine not in _WRITERS:
        raise UsageError(
            f"there is no engine {engine}",
            detail="there are: " + ", ".join(ENGINES),
            hint=nearest_hint(engine, ENGINES),
        )
    given = source(loaded.value, loaded.cells, engine, file)
    return dict(sorted(_WRITERS[engine](given).items()))
