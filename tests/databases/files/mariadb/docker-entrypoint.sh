#!/bin/sh
# The part of the official image's entry point that Trove's agent relies on:
#   options alone start mariadbd; an empty data directory is filled, with MYSQL_ROOT_PASSWORD
#   for root from here and from everywhere; the user of the health check is made, and made
#   again with MARIADB_AUTO_UPGRADE when a restored backup did not bring its password.
# It runs as whatever user the container has.
set -eu

case ${1--} in
-*) set -- mariadbd "$@" ;;
esac

datadir=/var/lib/mysql
defaults=--no-defaults
for argument; do
    case $argument in
    --datadir=*) datadir=${argument#*=} ;;
    --defaults-file=*) defaults=$argument ;;
    esac
done
health=$datadir/.my-healthcheck.cnf

# SQL that makes the user of the health check, and the file that it logs in with.
health_user() {
    password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    (
        umask 077
        printf '[mariadb-client]\nport=3306\nuser=healthcheck\npassword=%s\nprotocol=tcp\n' \
            "$password" >"$health"
    )
    for host in localhost 127.0.0.1 ::1; do
        echo "CREATE OR REPLACE USER healthcheck@'$host' IDENTIFIED BY '$password';"
    done
}

# Reads SQL and runs it, without a server that others could reach.
bootstrap() {
    mariadbd "$defaults" --datadir="$datadir" --skip-log-bin --bootstrap
}

# An SQL string.
quoted() {
    printf "'%s'" "$(printf %s "$1" | sed "s/[\\\\']/\\\\&/g")"
}

if [ "$1" != mariadbd ]; then
    exec "$@"
elif [ ! -d "$datadir/mysql" ]; then
    password=$(quoted "${MYSQL_ROOT_PASSWORD:?is needed for an empty data directory}")
    mkdir -p "$datadir"
    mariadb-install-db "$defaults" --datadir="$datadir" --skip-log-bin --skip-test-db \
        --auth-root-authentication-method=normal >/dev/null
    # mariadb-install-db lets root in without a password, under the names of this host as well.
    # No echo here: that of this shell reads escapes.
    bootstrap <<SQL
FLUSH PRIVILEGES;
DELETE FROM mysql.global_priv WHERE User <> 'mariadb.sys' AND Host <> 'localhost';
FLUSH PRIVILEGES;
ALTER USER root@localhost IDENTIFIED BY $password;
CREATE USER root@'%' IDENTIFIED BY $password;
GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;
$(health_user)
SQL
elif [ -n "${MARIADB_AUTO_UPGRADE-}" ] && [ ! -e "$health" ]; then
    bootstrap <<SQL
FLUSH PRIVILEGES;
$(health_user)
SQL
fi
exec "$@"
