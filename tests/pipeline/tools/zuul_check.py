"""Holds a file of Zuul's job definitions against Zuul's own parsers. Run by its environment.

zuul_check.py FILE      prints how many of each kind there are, as JSON
"""

import collections
import json
import sys

from zuul import configloader, model


def main(path: str) -> None:
    """Raises voluptuous.Invalid, or yaml's errors, for what Zuul would refuse."""
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - as Zuul opens it
        text = file.read()
    context = model.SourceContext("example.org/images", "images", "example", "main", False)
    context.path = path
    schemas = {
        "job": configloader.JobParser.schema,
        "semaphore": configloader.SemaphoreParser(None).schema,
        "project": configloader.ProjectParser(None).schema,
    }
    found: collections.Counter[str] = collections.Counter()
    for entry in configloader.safe_load_yaml(text, context):
        ((kind, conf),) = entry.items()
        schemas[kind]({k: v for k, v in conf.items() if not k.startswith("_")})
        found[kind] += 1
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
