#!/bin/sh
# Of the official image's health check what Trove's agent asks for:
#   healthcheck.sh --defaults-file FILE --connect --innodb_initialized
set -eu

defaults=
sql='SELECT 1;'
while [ $# -gt 0 ]; do
    case $1 in
    --defaults-file)
        defaults=$2
        shift
        ;;
    --connect) ;;
    --innodb_initialized)
        sql="SELECT 1 FROM information_schema.ENGINES
             WHERE ENGINE = 'InnoDB' AND SUPPORT IN ('YES', 'DEFAULT');"
        ;;
    *)
        echo "healthcheck.sh: $1 is not known" >&2
        exit 2
        ;;
    esac
    shift
done
test "$(mariadb --defaults-file="$defaults" --skip-column-names --execute "$sql")" = 1
