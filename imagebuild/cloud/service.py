"""One request to a service of a cloud: retries, refusals, and what they mean.

| what happened                        | raised            | exit code |
|--------------------------------------|-------------------|-----------|
| 401, 403; no such endpoint           | NotAllowedError   | 4 |
| 413, 429 that speaks of a quota      | QuotaError        | 4 |
| 400, 404, 409, 410, 422, …           | RefusedError      | 6 |
| 429, 5xx, no connection, time is out | UnavailableError  | 75 |
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from imagebuild.errors import ImagebuildError, PreflightError, PublishError, TemporaryError

if TYPE_CHECKING:
    from keystoneauth1.adapter import Adapter
    from requests import Response

#: Answers that another try may better.
_TEMPORARY = (429, 500, 502, 503, 504)
_TRIES = 4
_DELAY = 0.5


class ServiceError(ImagebuildError):
    """A service did not do what it was asked. `status` is HTTP's; 0 when there was no answer.

    `message` is what the service said, in one line.
    """

    status = 0
    message = ""


class NotAllowedError(ServiceError, PreflightError):
    """The credentials do not allow it."""


class QuotaError(ServiceError, PreflightError):
    """A quota or limit of the cloud is in the way."""


class RefusedError(ServiceError, PublishError):
    """The service refused for another reason."""


class UnavailableError(ServiceError, TemporaryError):
    """The service cannot now; several tries were made where that is safe."""


class Service:
    """Requests to one service. Bodies are JSON, unless `data` is given."""

    def __init__(self, cloud: str, name: str, adapter: Adapter) -> None:
        self.cloud = cloud
        self.name = name
        self._adapter = adapter

    def get(self, path: str, **params: Any) -> Any:  # noqa: ANN401 - any JSON document
        """The document at a path."""
        return self.request("GET", path, params=params).json()

    def request(
        self,
        method: str,
        path: str,
        *,
        retry: bool | None = None,
        **options: Any,  # noqa: ANN401 - keystoneauth's own
    ) -> Response:
        """Any request; `options` are keystoneauth's (json, data, headers, params, timeout).

        `retry`: whether it may be sent again when nobody knows what became of it; None: as
        the method is idempotent (RFC 9110, 9.2.2). Raises the errors that the module names.
        """
        again = method in ("GET", "HEAD", "PUT", "DELETE") if retry is None else retry
        # Both said: the SDK has its own idea of what may be sent again, 503 say.
        tries = _TRIES if again else 1
        options |= {
            "connect_retries": tries - 1,
            "connect_retry_delay": _DELAY,
            "status_code_retries": tries - 1,
            "status_code_retry_delay": _DELAY,
            "retriable_status_codes": list(_TEMPORARY),
        }
        with translated(self.cloud, self.name):
            response: Response = self._adapter.request(path, method, raise_exc=False, **options)
        if response.status_code >= 400:
            raise self._refusal(method, path, response)
        return response

    def _refusal(self, method: str, path: str, response: Response) -> ServiceError:
        status, message = response.status_code, _message(response)
        if status in (401, 403):
            error: ServiceError = NotAllowedError(
                f"{self.name} does not allow this",
                hint="use credentials with the rights for it (the role admin, for what is global)",
            )
        elif status == 413 or (status == 429 and "quota" in message.lower()):
            error = QuotaError(
                f"{self.name} has no room: a quota or limit is reached",
                hint="free some, or have the quota raised",
            )
        elif status in _TEMPORARY:
            error = UnavailableError(
                f"{self.name} cannot do it now", hint="run the same command again later"
            )
        else:
            error = RefusedError(f"{self.name} refused the request")
        error.where = f"cloud {self.cloud}: {method} {path}"
        error.detail = f"HTTP {status}: {message}"
        error.status, error.message = status, message
        return error


@contextmanager
def translated(cloud: str, service: str) -> Iterator[None]:
    """Turn what keystoneauth and the SDK raise into errors for people."""
    from keystoneauth1 import exceptions as keystone
    from openstack.exceptions import SDKException

    where = f"cloud {cloud}"
    try:
        yield
    except (keystone.Unauthorized, keystone.AuthorizationFailure) as exc:
        raise NotAllowedError(
            "the cloud does not accept the credentials", where=where, detail=str(exc),
            hint="check clouds.yaml and OS_*; `openstack token issue` asks the same",
        ) from exc  # fmt: skip
    except (keystone.EndpointNotFound, keystone.CatalogException) as exc:
        raise NotAllowedError(
            f"the cloud's catalog has no endpoint of {service}", where=where, detail=str(exc),
            hint="check the region and the interface in clouds.yaml",
        ) from exc  # fmt: skip
    except keystone.SSLError as exc:
        raise NotAllowedError(
            f"the certificate of {service} is not trusted", where=where, detail=str(exc),
            hint="name its CA: `cacert` in clouds.yaml, or OS_CACERT",
        ) from exc  # fmt: skip
    except (keystone.ConnectionError, keystone.HttpServerError, keystone.DiscoveryFailure) as exc:
        raise UnavailableError(
            f"{service} does not answer", where=where, detail=str(exc),
            hint="run the same command again later",
        ) from exc  # fmt: skip
    except (keystone.ClientException, SDKException) as exc:
        raise NotAllowedError(
            "the cloud cannot be used", where=where, detail=str(exc),
            hint="check clouds.yaml and OS_*; `openstack token issue` asks the same",
        ) from exc  # fmt: skip


def _message(response: Response) -> str:
    """What an error's answer says, in one line: JSON as Trove's, or HTML as Glance's."""
    try:
        document = response.json()
    except ValueError:
        text = re.sub(r"(?s)<(title|style)>.*?</\1>|<[^>]*>", " ", response.text)
    else:
        found = next(iter(document.values()), "") if isinstance(document, dict) else document
        text = str(found.get("message", found)) if isinstance(found, dict) else str(found)
    return re.sub(r"\s+", " ", text).strip()[:500] or str(response.reason)
