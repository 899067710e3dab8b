"""What a log says about a failure: a book of known log lines, their causes and remedies.

`book.yaml` is the data, `book` its form, `patterns` how a log line is recognised,
`engine` finds entries in a text, `failure` explains an error of a build.
"""

from __future__ import annotations

from imagebuild.explain.book import Book, Entry, Scope, load_book
from imagebuild.explain.engine import Explanation, explain

__all__ = ["Book", "Entry", "Explanation", "Scope", "explain", "load_book"]
