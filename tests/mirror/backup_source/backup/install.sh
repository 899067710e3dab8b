#!/bin/sh
# Knows postgresql, and installs nothing for it; waits for mariadb; mysql it has in effigy.
OPT_DATASTORE=$2
OPT_DATASTORE_VERSION=$4

program() {
	printf '#!/bin/sh\necho "%s"\n' "$2" > "/usr/bin/$1"
	chmod 755 "/usr/bin/$1"
}

if [ "${OPT_DATASTORE}" = "mysql" ]; then
	if [ "${OPT_DATASTORE_VERSION}" = "8.4" ]; then
		program xtrabackup "xtrabackup version 8.4.0-3 based on MySQL server 8.4.0"
		program xbstream "xbstream"
		program python3 "--backup-id"
		echo "lent: ${no_proxy:-nothing}"
		ls /.imagebuild
	else
		exit 1
	fi
elif [ "${OPT_DATASTORE}" = "mariadb" ]; then
	echo "waiting"
	sleep 987654
elif [ "${OPT_DATASTORE}" = "postgresql" ]; then
	echo "nothing is installed"
fi
