"""What the booted guests are asked, beside what the boot level checks."""

from __future__ import annotations

from tests.images.registry import DATABASE, IMAGE

#: What the guest with a private registry is asked, beside the others: root's docker, the
#: agent's own client as the guest user, and the same without credentials.
REGISTRY_COMMANDS = {
    # Before anything is pulled: what the image has brought.
    "preloaded": "docker image ls --no-trunc --format '{{.Repository}}:{{.Tag}} {{.ID}}'",
    "preloaded-layers": f"docker image inspect -f '{{{{json .RootFS.Layers}}}}' {DATABASE}",
    "preloaded-run": f"docker run --rm --network none {DATABASE}",
    "preloaded-files": f"docker create --name look {DATABASE} > /dev/null && "
    "docker export look | tar -t; docker rm look > /dev/null",
    "preloaded-pull": f"docker pull {DATABASE}",
    "pull-as-root": f"docker pull -q {IMAGE} && docker image rm -f {IMAGE} >/dev/null",
    "pull-as-agent": "sudo -u ubuntu -H /opt/guest-agent-venv/bin/python - <<EOF\n"
    f"import docker; print(docker.APIClient().pull({IMAGE.rpartition(':')[0]!r}, tag='8.4'))\n"
    "EOF",
    "pull-as-nobody": f"DOCKER_CONFIG=/nonexistent docker pull -q {IMAGE} 2>&1; true",
}

COMMANDS = {
    "root-size": "df -B1 --output=size / | tail -1",
    "injected": "stat -c '%U:%G %a' /etc/trove/conf.d/guest_info.conf",
    "docker": "docker info --format '{{.ServerVersion}} {{.Driver}}'",
    "docker-as-user": "sudo -u ubuntu docker ps -q",
    "sudo": "sudo -u ubuntu sudo -n id -u",
    "user": "id -u ubuntu; getent passwd 1001 | wc -l; getent passwd | awk -F: '$3 >= 1000 && $3 < 60000 {print $1}'",  # noqa: E501
    "forward": "cat /proc/sys/net/ipv4/ip_forward",
    "time": "systemctl is-active chrony.service",
    "own-name": "getent hosts $(hostname)",
    "host-keys": "ls /etc/ssh/ssh_host_*_key | wc -l; sshd -T | grep -i '^passwordauthentication'",
    "machine-id": "cat /etc/machine-id",
    "hostnic": "curl -sS --max-time 100 --unix-socket /run/docker/plugins/docker-hostnic.sock http://localhost/Plugin.Activate",
    # Under emulation the agent takes a while to load.
    "agent": "for _ in $(seq 80); do journalctl --no-pager -o cat -u guest-agent.service > /run/agent; grep -q 'datastore manager' /run/agent && break; sleep 2; done; cat /run/agent",  # noqa: E501
    "agent-imports": "sudo -u ubuntu /opt/guest-agent-venv/bin/python -c 'import trove.guestagent.api, trove.guestagent.datastore.manager, trove.guestagent.datastore.mysql.manager, trove.guestagent.datastore.postgres.manager; print(\"imported\")'",  # noqa: E501
    "content": "cat /etc/imagebuild/content.json",
    "mounts": "findmnt -n -o SOURCE,FSTYPE /",
    "firmware": "[ -d /sys/firmware/efi ] && echo uefi || echo bios",
}
