"""A real Trove control plane on loopback: what an image's guest agent is proven against.

`environment` makes the venv with Trove of the image's series, `broker` and `database` run
RabbitMQ and MariaDB, `services` trove-api, trove-taskmanager and trove-conductor over the
small cloud in `fakes`; `plane` starts and ends all of it, `client` is how it is asked.
"""
