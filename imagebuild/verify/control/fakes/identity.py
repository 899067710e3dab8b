"""A paste filter in Keystone's place: who has the run's token is the operator.

What keystonemiddleware tells trove-api of a caller is headers; an image has no part in it.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Iterable
from typing import Any

_Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def filter_factory(
    _global: dict[str, str], **settings: str
) -> Callable[[_Application], _Application]:
    """paste.filter_factory. `project` and `user` are ids; the token is $IMAGEBUILD_TOKEN."""
    token = os.environ["IMAGEBUILD_TOKEN"]
    headers = {
        "HTTP_X_IDENTITY_STATUS": "Confirmed",
        "HTTP_X_TENANT_ID": settings["project"],
        "HTTP_X_PROJECT_ID": settings["project"],
        "HTTP_X_TENANT_NAME": "verify",
        "HTTP_X_PROJECT_NAME": "verify",
        "HTTP_X_USER_ID": settings["user"],
        "HTTP_X_USER": "verify",
        "HTTP_X_USER_NAME": "verify",
        "HTTP_X_ROLES": "admin",
        "HTTP_X_ROLE": "admin",
        "HTTP_X_PROJECT_DOMAIN_ID": "default",
        "HTTP_X_USER_DOMAIN_ID": "default",
        "HTTP_X_SERVICE_CATALOG": "[]",
    }

    def wrap(application: _Application) -> _Application:
        def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            if not hmac.compare_digest(str(environ.get("HTTP_X_AUTH_TOKEN", "")), token):
                start("401 Unauthorized", [("Content-Type", "text/plain")])
                return [b"not the token of this run\n"]
            return application(environ | headers, start)

        return answer

    return wrap
