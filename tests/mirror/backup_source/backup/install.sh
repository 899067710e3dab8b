#!/bin/sh
# Knows postgresql, and installs nothing for it; waits for mariadb.
OPT_DATASTORE=$2
if [ "${OPT_DATASTORE}" = "postgresql" ]; then
	echo "nothing is installed"
elif [ "${OPT_DATASTORE}" = "mariadb" ]; then
	echo "waiting"
	sleep 987654
fi
