"""clouds.yaml or OS_* → Cloud: a connection that is made when it is first used."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imagebuild import __version__
from imagebuild.cloud.service import Service, translated
from imagebuild.errors import PreflightError

if TYPE_CHECKING:
    import openstack

#: Seconds that a service may be silent, where clouds.yaml has no `api_timeout`.
_TIMEOUT = 60.0


@dataclass(frozen=True, eq=False)
class Cloud:
    """A cloud as one user of one project sees it. `name` is for people."""

    name: str
    connection: openstack.connection.Connection

    @functools.cached_property
    def project_id(self) -> str:
        """The project that the credentials are for. Raises as `Service` does."""
        with translated(self.name, "keystone"):
            found = self.connection.current_project_id
        if not found:
            raise PreflightError(
                "the credentials are for no project",
                where=f"cloud {self.name}",
                hint="name a project in clouds.yaml, or OS_PROJECT_NAME",
            )
        return str(found)

    @property
    def region(self) -> str:
        """The region's name; empty where clouds.yaml has none."""
        return str(self.connection.config.get_region_name() or "")

    def renew_token(self, seconds: int) -> None:
        """Get a new token if the one at hand ends within that time.

        For a request that takes long: what is refused in its middle was sent for nothing.
        """
        session = self.connection.session
        access = getattr(session.auth, "get_access", None)
        if access is None:
            return  # a fixed token, or none: there is no other
        with translated(self.name, "keystone"):
            if access(session).will_expire_soon(seconds):
                session.invalidate()

    @functools.cached_property
    def image(self) -> Service:
        """Glance; paths begin below /v2. Raises as `Service` does."""
        return self.service("image", "glance")

    @functools.cached_property
    def database(self) -> Service:
        """Trove; paths begin below /v1.0/PROJECT. Raises as `Service` does."""
        return self.service("database", "trove")

    def has(self, service_type: str) -> bool:
        """Whether the catalog has such a service, "compute" say."""
        with translated(self.name, "keystone"):
            return bool(self.connection.has_service(service_type))

    def service(self, service_type: str, name: str) -> Service:
        """Any service of the catalog; `name` is for people. Raises as `Service` does."""
        # The SDK logs in here, and asks the service for its versions.
        with translated(self.name, name):
            adapter = getattr(self.connection, service_type.replace("-", "_"))
        return Service(self.name, name, adapter)


def connect(name: str | None = None, region: str | None = None) -> Cloud:
    """The cloud of that name in clouds.yaml, else what OS_CLOUD or the other OS_* variables say.

    Nothing is asked yet. Raises PreflightError when there is no such cloud, or too little is
    known of it.
    """
    import openstack
    from keystoneauth1.exceptions import ClientException
    from openstack.exceptions import ConfigException

    options: dict[str, Any] = {"app_name": "imagebuild", "app_version": __version__}
    if region:
        options["region_name"] = region
    try:
        config = openstack.config.OpenStackConfig(**options).get_one(cloud=name, **options)
        if config.config.get("api_timeout") is None:
            config.config["api_timeout"] = _TIMEOUT
        connection = openstack.connection.Connection(config=config)
    except (ConfigException, ClientException) as exc:
        raise PreflightError(
            "the cloud cannot be connected to",
            where=f"cloud {name}" if name else "the environment",
            detail=str(exc),
            hint="--cloud NAME takes a name of clouds.yaml; else the OS_* variables say where",
        ) from exc
    label = name or config.name or "envvars"
    return Cloud(f"{label}/{region}" if region else label, connection)
