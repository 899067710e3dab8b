"""scripts/trovestack: trovestack's command line, done by imagebuild.

What it does not do itself is passed on to the real trovestack, where there is one.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from imagebuild import trovestack
from imagebuild.cli.main import raise_interrupted
from imagebuild.cli.terminal import terminal
from imagebuild.errors import ImagebuildError, Interrupted, PublishError, UsageError

_TRUE = frozenset({"1", "true", "yes", "on", "t", "y"})


def main() -> NoReturn:
    """Entry point: PATH_AS_CALLED [VERB [ARGUMENT …]]."""
    signal.signal(signal.SIGINT, raise_interrupted)
    signal.signal(signal.SIGTERM, raise_interrupted)
    terminal.configure(verbosity=0, no_color=False)
    try:
        sys.exit(_run(sys.argv[2:], os.environ, Path(sys.argv[1])))
    except ImagebuildError as exc:
        terminal.error(exc)
        sys.exit(int(exc.exit_code))


def _run(argv: Sequence[str], environ: Mapping[str, str], called_as: Path) -> int:
    words, asked = list(argv), dict(environ)
    while words[:1] == ["debug"]:  # trovestack's way to show what it does
        words, asked = words[1:], asked | {"DIB_DEBUG_TRACE": "1"}
    if not words or words[0] not in trovestack.VERBS:
        _pass_on(argv, environ, called_as)
    found = trovestack.translate(words, asked, _host(called_as))
    for note in found.notes:
        terminal.info(f"trovestack: {note}")
    return Runner(found, environ).run()


class Runner:
    """The commands of one translation, one after the other; `program` is imagebuild."""

    def __init__(
        self,
        found: trovestack.Translation,
        environ: Mapping[str, str],
        program: Sequence[str] = (sys.executable, "-m", "imagebuild"),
    ) -> None:
        self._found = found
        self._program = program
        kept = {k: v for k, v in environ.items() if k not in found.secrets}
        self._env = {**kept, **found.environ}
        self._is_dry = environ.get("IMAGEBUILD_DRY_RUN", "").lower() in _TRUE

    def run(self) -> int:
        """The exit code of the first command that fails, or 0. Raises ImagebuildError."""
        found = self._found
        if self._is_dry:
            with self._password() as words:
                code = self._call(self._filled(found.build, words))
            for command in found.publish:
                terminal.info(f"then: {_shown(command)}")
            return code
        with self._password() as words:
            code, out = self._build(self._filled(found.build, words))
        if code:
            return code
        artifact = Path(json.loads(out)["artifact"])
        if found.key:
            self._let_in(artifact, found.key)
        for command in found.publish:
            if code := self._call(self._filled(command, {trovestack.ARTIFACT: str(artifact)})):
                return code
        return 0

    def _build(self, argv: Sequence[str]) -> tuple[int, bytes]:
        return self._spawn([*argv, "--json"], stdout=subprocess.PIPE)

    def _call(self, argv: Sequence[str]) -> int:
        return self._spawn(argv)[0]

    def _spawn(self, argv: Sequence[str], stdout: int | None = None) -> tuple[int, bytes]:
        terminal.info(f"trovestack: {_shown(argv)}", "bold")
        command = [*self._program, *argv]
        with subprocess.Popen(command, env=self._env, stdout=stdout) as process:
            try:
                out, _ = process.communicate()
            except Interrupted as exc:
                # It cleans up, in its own time; a terminal's ^C has reached it anyway.
                process.send_signal(signal.SIGTERM)
                process.communicate()
                raise exc from None
        return process.returncode, out or b""

    @contextlib.contextmanager
    def _password(self) -> Iterator[dict[str, str]]:
        """The file with root's password, while the build runs: for nobody else to read."""
        if self._found.root_password is None:
            yield {}
            return
        with tempfile.NamedTemporaryFile("w", prefix="imagebuild-", encoding="utf-8") as file:
            file.write(self._found.root_password + "\n")
            file.flush()
            yield {trovestack.ROOT_PASSWORD_FILE: file.name}

    @staticmethod
    def _filled(argv: Sequence[str], words: Mapping[str, str]) -> list[str]:
        return [words.get(word, word) for word in argv]

    @staticmethod
    def _let_in(artifact: Path, place: trovestack.KeyPlace) -> None:
        from imagebuild import authorizedkeys
        from imagebuild.stages import devmode

        try:
            line = (artifact / devmode.AUTHORIZED_KEYS).read_text(encoding="utf-8")
        except OSError as exc:
            raise PublishError(
                "the dev image's line for authorized_keys is not there", where=str(exc.filename)
            ) from exc
        file = authorizedkeys.install(line, place.user, place.directory)
        terminal.info(f"trovestack: the image's key is let in: {file}")


def _pass_on(argv: Sequence[str], environ: Mapping[str, str], called_as: Path) -> NoReturn:
    """Become the real trovestack. Raises UsageError when none is given."""
    verb = argv[0] if argv else ""
    own = Path(__file__).resolve().parents[2] / "scripts/trovestack"
    beside = called_as.absolute().with_name("trovestack.real")
    said = environ.get("TROVESTACK_REAL", "")
    real = Path(said).absolute() if said else beside
    if not os.access(real, os.X_OK) or real.is_dir() or real.resolve() == own:
        raise UsageError(
            f"{verb} is not done by imagebuild, and no other trovestack is given"
            if verb
            else "which verb? no other trovestack is given that would list them",
            where=f"TROVESTACK_REAL={said}" if said else str(beside),
            hint="TROVESTACK_REAL=PATH names the real trovestack, which stays in its directory "
            f"of Trove's source; done here: {', '.join(trovestack.VERBS)}",
        )
    if verb in trovestack.BUILDING_VERBS:
        terminal.warning(f"{verb} builds its image by itself: what follows is trovestack's own")
    os.execv(real, [str(real), *argv])  # noqa: S606 - the path is the user's own


def _host(called_as: Path) -> trovestack.Host:
    return trovestack.Host(
        user=_user(),
        home=Path.home(),
        called_as=called_as,
        head=_head,
        exists=lambda path: path.exists(),
        which=lambda name: shutil.which(name),
    )


def _user() -> str:
    """Who runs this, as whoami(1) says."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _head(directory: Path) -> str | None:
    from imagebuild.agent import git

    return git.head(directory) if (directory / ".git").exists() else None


def _shown(argv: Sequence[str]) -> str:
    return "imagebuild " + shlex.join(argv)


if __name__ == "__main__":
    main()
