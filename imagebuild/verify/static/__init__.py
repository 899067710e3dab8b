"""The static level of verification: an image at rest, without boot, mount or root.

`check_static` asks all of it; each module asks about one subject. `question` has the form
of questions and answers, `subject` the image and what is known of it.
"""

from __future__ import annotations

from imagebuild.verify.static.level import NAMES, check_static
from imagebuild.verify.static.subject import Options

__all__ = ["NAMES", "Options", "check_static"]
