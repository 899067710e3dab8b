"""Options that choose and change a profile, shared by the verbs that take one.

    @click.command()
    @click.argument("target", nargs=-1)
    @profile_options
    @image_options
    def build(target: tuple[str, ...], request: ProfileRequest) -> None:
        loaded = request.load(target)

The command gets one `request` instead of the single options. What the environment
says comes first, then the flags, then --set: the last one wins.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from imagebuild.cli import complete

if TYPE_CHECKING:
    from imagebuild.config.load import LoadedProfile, Override

_F = TypeVar("_F", bound=Callable[..., Any])


class KeyValue(click.types.StringParamType):
    """KEY=VALUE. In the environment, several stand apart by `;` or a line's end."""

    name = "KEY=VALUE"

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        return [part.strip() for part in rv.replace("\n", ";").split(";") if part.strip()]


@dataclass(frozen=True)
class _Flag:
    """An option that sets a key of the profile."""

    name: str
    key: str
    metavar: str
    help: str
    multiple: bool = False
    append: bool = False
    #: The value that a flag without an argument stands for.
    means: str = ""
    completes: complete.Complete | None = None

    @property
    def envvar(self) -> str:
        return "IMAGEBUILD_" + self.name.upper().replace("-", "_")

    @property
    def parameter(self) -> str:
        return "flag_" + self.name.replace("-", "_")


_FLAGS = (
    _Flag("arch", "arch", "ARCH", "Architecture: amd64 or arm64.", completes=complete.word("Arch")),
    _Flag("guest-username", "guest.username", "NAME", "The guest's user."),
    _Flag(
        "dev", "agent.mode", "",
        "A dev image: its agent fetches its code from the controller at every start.",
        means="dev",
    ),
    _Flag(
        "root-password-file", "guest.root_password_file", "FILE",
        "Give root the password in this file; it makes the image a dev image.",
        completes=complete.place("file"),
    ),
    _Flag("image-size", "disk.size", "SIZE", "Size of the disk; a bare number is GiB."),
    _Flag(
        "agent", "agent.source", "SOURCE",
        "Guest agent: pypi:trove==VERSION, git+URL@REF or a path.",
        completes=complete.place("dir"),
    ),
    _Flag(
        "trove-series", "agent.series", "SERIES", "OpenStack series, like 2025.2.",
        completes=complete.word("Series"),
    ),
    _Flag(
        "datasource", "cloud_init.datasources", "NAME",
        "cloud-init datasource; repeat it for more, in order.", multiple=True,
        completes=complete.word("Datasource"),
    ),
    _Flag("mirror", "mirror.url", "URL", "The distribution's archive."),
    _Flag(
        "snapshot", "mirror.snapshot", "TIME",
        "Packages as they were then, like 20260101T000000Z, from the snapshot service.",
    ),
    _Flag(
        "keyring", "mirror.keyring", "FILE", "Keyring that signs the archive.",
        completes=complete.place("file"),
    ),
    _Flag(
        "elements-path", "elements.path", "DIR",
        "Directory with elements of your own (repeatable).", multiple=True, append=True,
        completes=complete.place("dir"),
    ),
    _Flag(
        "element", "elements", "[STAGE:]NAME",
        "Element to add to the stage base (default) or agent (repeatable).",
        multiple=True, append=True,
    ),
    _Flag(
        "package", "packages", "NAME", "Package to add to the guest (repeatable).",
        multiple=True, append=True,
    ),
    _Flag(
        "preload", "preload", "SOURCE[=TARGET]",
        "Container image that the guest has from the start (repeatable).",
        multiple=True, append=True,
    ),
    _Flag(
        "timeout", "timeout", "[STAGE=]TIME",
        "Limit of the build, or of one stage: 90m, base=1h, disk=none (repeatable).",
        multiple=True,
    ),
)  # fmt: skip


#: The variables of those options.
FLAG_VARIABLES = tuple(flag.envvar for flag in _FLAGS)


@dataclass(frozen=True)
class ProfileRequest:
    """Which keys the command line and the environment set, and where profiles are searched."""

    overrides: tuple[Override, ...] = ()
    search: tuple[Path, ...] = ()

    def load(self, target: Sequence[str]) -> LoadedProfile:
        """The profile for `OS RELEASE`, or the one with this name or path, with the overrides.

        Raises ConfigError, and UsageError when there are not one or two words.
        """
        from imagebuild.config.load import find_profile, load_profile
        from imagebuild.errors import UsageError

        if len(target) == 2:
            found = find_profile(target[0], target[1], self.search)
            return load_profile(str(found.absolute()), self.overrides, self.search)
        if len(target) == 1:
            return load_profile(target[0], self.overrides, self.search)
        raise UsageError(
            "which profile is wanted? OS RELEASE, a profile's name or a file is expected",
            hint="for example: ubuntu jammy; see: imagebuild profile list",
        )


def profile_options(function: _F) -> _F:
    """Add --set and --profiles-path; the command gets them as `request`."""
    return _with_request(
        function,
        [
            click.option(
                "--set", "set_", multiple=True, type=KeyValue(), envvar="IMAGEBUILD_SET",
                show_envvar=True,
                help="Set a key of the profile (repeatable); KEY+=VALUE adds to a list. In the "
                "environment, ';' stands between several.",
            ),
            search_option,
        ],
    )  # fmt: skip


def image_options(function: _F) -> _F:
    """Add the options that set a key each (--arch, --mirror, …) to the same `request`."""
    return _with_request(
        function,
        [
            click.option(
                f"--{flag.name}", flag.parameter, metavar=flag.metavar, multiple=flag.multiple,
                envvar=flag.envvar, show_envvar=True, help=f"{flag.help} [{flag.key}]",
                shell_complete=flag.completes,
            )
            if not flag.means
            else click.option(
                f"--{flag.name}", flag.parameter, is_flag=True,
                envvar=flag.envvar, show_envvar=True, help=f"{flag.help} [{flag.key}]",
            )
            for flag in _FLAGS
        ],
    )  # fmt: skip


def environment_request() -> ProfileRequest:
    """What IMAGEBUILD_* say of every profile: of a verb that has these options and is given none.

    Raises as click does for a variable that makes no sense.
    """
    # Not by `main`, which would complete the line that a shell asks for.
    with _given_nothing.make_context("environment", []) as context:
        found: Any = _given_nothing.invoke(context)
    assert isinstance(found, ProfileRequest)  # noqa: S101 - it returns what it gets
    return found


#: --profiles-path alone, for commands that take no overrides; the parameter is `profiles_path`.
search_option = click.option(
    "--profiles-path", multiple=True, type=click.Path(path_type=Path), metavar="DIR",
    envvar="IMAGEBUILD_PROFILES_PATH", show_envvar=True,
    help="Directory with profiles of your own, searched first (repeatable; ':' stands between "
    "several in the environment).",
)  # fmt: skip


def absolute(path: Path, option: str) -> Path:
    """The absolute path that an option means, `~` expanded. Raises UsageError."""
    from imagebuild.errors import UsageError

    try:
        return path.expanduser().absolute()
    except RuntimeError as exc:
        raise UsageError(
            f"the home directory in {path} is not known",
            where=f"{option} {path}",
            detail=str(exc),
            hint="write the whole path",
        ) from exc


def _cache_path(
    context: click.Context,  # noqa: ARG001 - click's call
    parameter: click.Parameter,  # noqa: ARG001
    value: Path | None,
) -> Path:
    import platformdirs

    return _dib_path(value or platformdirs.user_cache_path("imagebuild"), "--cache-dir", "cache")


def _dib_path(path: Path, option: str, what: str) -> Path:
    import re

    from imagebuild.errors import UsageError

    path = absolute(path, option)
    # diskimage-builder takes its paths apart at blanks and colons.
    if re.search(r"[^\w./@+,=~-]", str(path)):
        raise UsageError(
            f"the {what} directory's path has a character that diskimage-builder cannot cope with",
            where=str(path),
            hint=f"choose a path of letters, digits and ./@+,=~-_ with {option}",
        )
    return path


#: --cache-dir; the parameter `cache_dir` is an absolute path.
cache_option = click.option(
    "--cache-dir", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    envvar="IMAGEBUILD_CACHE_DIR", show_envvar=True, callback=_cache_path,
    help="Trees, downloads and scratch space. [default: ~/.cache/imagebuild]",
)  # fmt: skip


def _store_path(
    context: click.Context,  # noqa: ARG001 - click's call
    parameter: click.Parameter,  # noqa: ARG001
    value: Path | None,
) -> Path | None:
    return value and _dib_path(value, "--store", "store")


def store_size(
    context: click.Context,
    parameter: click.Parameter,
    value: str,
) -> int | None:
    """Callback of an option that is a size of the store: bytes, None for no limit."""
    if context.resilient_parsing:
        return None  # a shell completes the line: nothing is to be imported for that
    from imagebuild.config.values import parse_size

    try:
        return None if value == "none" else parse_size(value)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param=parameter) from exc


#: --store; the parameter `store` is an absolute path, or None for the one in the cache.
store_option = click.option(
    "--store", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    envvar="IMAGEBUILD_STORE", show_envvar=True, callback=_store_path,
    help="What stages made, for the next build; a directory of root:GROUP 2770 is shared by the "
    "group. [default: CACHE_DIR/store]",
)  # fmt: skip

#: --store-size; the parameter `store_size` is in bytes, None for no limit.
store_size_option = click.option(
    "--store-size", metavar="SIZE", default="40G", show_default=True, callback=store_size,
    envvar="IMAGEBUILD_STORE_SIZE", show_envvar=True,
    help="Beyond this, what was unused longest is removed from the store; none is no limit.",
)  # fmt: skip


def _store_remote(
    context: click.Context,
    parameter: click.Parameter,  # noqa: ARG001 - click's call
    value: str | None,
) -> str | None:
    if value and not context.resilient_parsing:
        from imagebuild.store.remote.address import RemoteAddress

        RemoteAddress.parse(value)
    return value or None


#: --store-remote; the parameter `store_remote` is text that RemoteAddress.parse takes, or None.
store_remote_option = click.option(
    "--store-remote", metavar="URL", envvar="IMAGEBUILD_STORE_REMOTE", show_envvar=True,
    callback=_store_remote,
    help="Share what stages make with other machines by a repository of a registry: "
    "oci://HOST/REPOSITORY; oci+http:// is without TLS, ?ro behind it reads only. Who can write "
    "there decides what is in the images.",
)  # fmt: skip

#: --images-dir; the parameter is `images_dir`, as given.
images_option = click.option(
    "--images-dir", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    default="~/images", show_default=True, envvar="IMAGEBUILD_IMAGES_DIR", show_envvar=True,
    help="Directory that artifacts go to.",
)  # fmt: skip

json_option = click.option(
    "--json", "as_json", is_flag=True, envvar="IMAGEBUILD_JSON", show_envvar=True,
    help="Print one JSON document.",
)  # fmt: skip


def _with_request(function: _F, options: Sequence[Callable[[Any], Any]]) -> _F:
    """Add click options to a command and hand them to it as one ProfileRequest."""
    wrapped: Callable[..., Any] = function
    if not getattr(function, "takes_request", False):

        @functools.wraps(function)
        def collect(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - click's call
            request = _collect(kwargs)
            return function(*args, **kwargs, request=request)

        collect.takes_request = True  # type: ignore[attr-defined]
        wrapped = collect
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]


def _collect(params: dict[str, Any]) -> ProfileRequest:
    """Take our own parameters out of `params`."""
    environment: list[Override] = []
    given: list[Override] = []
    for flag in _FLAGS:
        value = params.pop(flag.parameter, None)
        if value in (None, (), False):
            continue
        is_env = _is_from_environment(flag.parameter)
        origin = f"environment {flag.envvar}" if is_env else f"flag --{flag.name}"
        (environment if is_env else given).extend(_overrides_of(flag, value, origin))
    overrides = _set_overrides(params.pop("set_", ()))
    if _is_from_environment("set_"):
        ordered = (*environment, *overrides, *given)
    else:
        ordered = (*environment, *given, *overrides)
    return ProfileRequest(ordered, tuple(params.pop("profiles_path", ())))


def _is_from_environment(parameter: str) -> bool:
    source = click.get_current_context().get_parameter_source(parameter)
    return source is ParameterSource.ENVIRONMENT


def _set_overrides(texts: Sequence[str]) -> list[Override]:
    if not texts:
        return []
    from imagebuild.config.load import parse_set

    parsed = [parse_set(text) for text in texts]
    if _is_from_environment("set_"):
        prefix = "environment IMAGEBUILD_SET"
        return [dataclasses.replace(o, origin=f"{prefix} {o.path}") for o in parsed]
    return parsed


def _overrides_of(flag: _Flag, value: Any, origin: str) -> list[Override]:  # noqa: ANN401
    """The overrides that one option means."""
    from imagebuild.config.load import Override

    if flag.name == "timeout":
        pairs = [text.rpartition("=") for text in value]
        return [Override(f"timeout.{stage or 'build'}", limit, origin) for stage, _, limit in pairs]
    if flag.name == "element":
        named = [text.rpartition(":") for text in value]
        return [
            Override(f"elements.{stage or 'base'}", [name], origin, append=True)
            for stage, _, name in named
        ]
    if flag.means:
        return [Override(flag.key, flag.means, origin)]
    value = list(value) if flag.multiple else value
    return [Override(flag.key, value, origin, append=flag.append)]


@click.command()
@image_options
@profile_options
def _given_nothing(request: ProfileRequest) -> ProfileRequest:
    return request
