"""report.md: a mail, a merge comment."""

from __future__ import annotations

import dataclasses
import re
import time
from typing import Any

from imagebuild.pipeline import markdown
from tests.pipeline import sample


def test_the_verdict_comes_first() -> None:
    nights = sample.earlier()
    assert markdown.render(sample.tonight(), nights).startswith("# nightly: good: 3 cells passed\n")
    bad = markdown.render(sample.bad_night(), nights)
    assert bad.startswith("# nightly: FAILED: 2 of 5 cells failed, 1 held\n")
    assert "# nightly: NOT COMPLETE" in markdown.render(sample.killed(), nights)
    assert "exit code 1" in bad.splitlines()[2]


def test_the_mail_says_what_failed_and_what_to_do() -> None:
    text = markdown.render(sample.bad_night(), sample.earlier())
    part = text.split("### `ubuntu-jammy-amd64`: verify")[1].split("###")[0]
    assert "**the image is bad: 1 check failed**" in part
    assert "exit code 5" in part
    assert "try: its wheels come from a lock file of another series" in part
    assert "`imagebuild verify " in part
    assert "\n  | ModuleNotFoundError: No module named 'oslo_utils'\n" in part  # its evidence
    assert "The last run, 20261122T021700Z, was good." in part
    assert "not tried: mirror-backup-images failed" in text
    longer = [*sample.earlier(), dataclasses.replace(sample.bad_night(), run="20261123T011700Z")]
    assert "The last run was not good, either; 20261122T021700Z was." in markdown.render(
        sample.bad_night(), longer
    )


def test_the_mail_says_what_changed() -> None:
    text = markdown.render(sample.tonight(), sample.earlier())
    part = text.split("### `debian-bookworm-amd64`, since 20261122T021700Z")[1].split("###")[0]
    after, before = (sample.facts(sample.BOOKWORM, n) for n in (0, 1))
    assert "agent version: `25.0.1` → `26.0.0`" in part
    old, new = before.packages["openssl"], after.packages["openssl"]
    assert f"`openssl` `{old}` → `{new}`" in part
    assert "`iproute2` new, `6.1.0-3`" in part
    assert "`ntpdate` gone, was" in part
    grown = (after.files["qcow2"] / before.files["qcow2"] - 1) * 100
    assert f"({grown:+.1f} %)" in part
    assert "over 15 runs: ▁" in part
    assert "2 tries of upload region-one" in text
    first = markdown.render(sample.tonight(), [])
    assert "the first image, nothing to compare it with" in first
    again = dataclasses.replace(sample.tonight(), run="20261123T041700Z")
    assert "the same build as 20261123T021700Z" in markdown.render(again, [sample.tonight()])


def test_a_long_report_still_fits_a_comment() -> None:
    """Hundreds of cells with much to say: the verdict, what failed and counts remain."""
    error: dict[str, Any] = {
        "what": "`x` " * 200, "detail": "\n".join("word " * 60 for _ in range(500)),
        "hint": "do this " * 100, "where": "/a" * 300,
    }  # fmt: skip
    failed = sample.with_error(**error).cells[0]
    good = sample.tonight().cells[1]
    other = {f"package-{n}": "1.0" for n in range(1000)}
    changed = dataclasses.replace(sample.facts(sample.BOOKWORM), packages=other, build_id="f" * 64)
    cells = [dataclasses.replace(failed, id=f"bad-{n}-amd64") for n in range(200)]
    cells += [
        dataclasses.replace(good, id=f"good-{n}-amd64", image=changed.to_json()) for n in range(200)
    ]
    nights = [
        dataclasses.replace(
            sample.earlier(1)[0],
            cells=tuple(dataclasses.replace(good, id=c.id) for c in cells),
        )
    ]
    started = time.monotonic()
    text = markdown.render(sample.empty(cells=tuple(cells)), nights)
    assert time.monotonic() - started < 10
    assert len(text) <= markdown.LIMIT < 40_000
    assert text.startswith("# nightly: FAILED: 200 of 400 cells failed\n")
    assert "### `bad-0-amd64`: build" in text
    assert re.search(r"… and \d+ more failures", text)
    assert re.search(r"… and \d+ more cells", text)
    one = markdown.render(sample.empty(cells=tuple(cells[-2:])), nights)
    assert "<details><summary>Packages</summary>\n\n- " in one
    assert re.search(r"\n- … and \d+ more\n", one)
    huge = sample.empty(notes=("word " * 40_000,))
    assert len(markdown.render(huge, [])) <= markdown.LIMIT


def test_nothing_that_others_say_is_markup_or_a_mention() -> None:
    what = "see <b>@someone</b> | `rm` [x](http://e) *a* __init__ &lt;\x1b[31m\u202e"
    text = markdown.render(
        sample.with_error(what=what, detail="```\n# title\n````\n@all", where="a`b|c", hint="@all"),
        [],
    )
    (line,) = [x for x in text.splitlines() if x.startswith("**see")]
    assert line == (
        "**see \\<b>@\u200bsomeone\\</b> \\| `rm` \\[x](http://e) \\*a\\* \\_\\_init\\_\\_ "
        "\\&lt;?\\[31m?**"
    )
    assert "\n`````text\n```\n# title\n````\n@all\n`````\n" in text
    assert "where: `a'b\\|c`" in text
    assert "try: @\u200ball" in text
    odd = markdown.render(sample.with_error(what="a`b@c`d|`<x>"), [])
    assert "**a`b@c`d\\|\\`\\<x>**" in odd
