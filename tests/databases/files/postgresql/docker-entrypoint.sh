#!/bin/bash
# The part of the official image's entry point that Trove's agent relies on:
#   options alone start postgres; an empty PGDATA gets a cluster, with POSTGRES_PASSWORD for
#   the superuser postgres; PGDATA is closed to others. It runs as whatever user the container has.
set -eu

[[ ${1--} != -* ]] || set -- postgres "$@"

# initdb and psql want the user to have a name.
if ! getent passwd "$UID" >/dev/null; then
    NSS_WRAPPER_PASSWD=$(mktemp)
    NSS_WRAPPER_GROUP=/etc/group
    export NSS_WRAPPER_PASSWD NSS_WRAPPER_GROUP
    echo "postgres:x:$UID:$(id -g):PostgreSQL:/var/lib/postgresql:/bin/false" >"$NSS_WRAPPER_PASSWD"
    export LD_PRELOAD=libnss_wrapper.so
fi

# The agent makes it open to all, before a backup gets into it, too; the server refuses that.
if [[ $1 == postgres ]]; then
    mkdir -p "$PGDATA"
    chmod 700 "$PGDATA"
fi
if [[ $1 == postgres && ! -s $PGDATA/PG_VERSION ]]; then
    initdb --username=postgres --auth-local=trust --auth-host=scram-sha-256 \
        --pwfile=<(echo "${POSTGRES_PASSWORD:?is needed for an empty PGDATA}") >/dev/null
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
fi

# The server needs no name, and what it starts shall not inherit the library.
if [[ $1 == postgres && -n ${LD_PRELOAD-} ]]; then
    rm -f "$NSS_WRAPPER_PASSWD"
    unset LD_PRELOAD NSS_WRAPPER_PASSWD NSS_WRAPPER_GROUP
fi
exec "$@"
