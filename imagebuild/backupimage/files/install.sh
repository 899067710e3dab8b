#!/bin/sh
# Stands in for Trove's install.sh: the tools of a datastore from the base's own distribution.
#
# It is called as the other one: --datastore NAME --datastore-version VERSION
set -eu
datastore='' version=''
while [ $# -gt 0 ]; do
    case $1 in
        --datastore) datastore=$2; shift ;;
        --datastore-version) version=$2; shift ;;
    esac
    shift
done
case $datastore in
    mariadb) package=mariadb-backup ;;
    postgresql) package=postgresql-client-${version%%.*} ;;
    *) echo "no distribution has the tools of $datastore"; exit 1 ;;
esac
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
if ! apt-get install -y -qq --no-install-recommends "$package" dumb-init; then
    echo "this distribution does not have $package: another --base-image may"
    exit 1
fi
apt-get clean
rm -rf /var/lib/apt/lists/*
