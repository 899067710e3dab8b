"""Words of others in XML."""

from __future__ import annotations

import re

#: What XML 1.0 cannot hold (section 2.2 of the specification), lone surrogates included.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def plain(text: str) -> str:
    """The text with what no XML document can hold, not even as an entity, replaced."""
    return _NO_XML.sub("\ufffd", text)
