"""How a Trove guest finds its containers: names and tags, as the agent makes them.

Rules and their places in Trove (4cdc0cda): docker_image and backup_docker_image of the groups
mysql, mariadb and postgresql; trove/guestagent/datastore/service.py for the fallback.
"""

from __future__ import annotations

#: Trove's datastore managers that have containers.
DATASTORES = ("mysql", "mariadb", "postgresql")
