"""Container images of databases, made from Debian's packages for Trove's agent to run.

They stand in for the official images of MariaDB and PostgreSQL and for Trove's own
`db-backup` images, which this host may not be able to fetch. What the agent asks of such an
image is in `files/`, and tested in `test_contract.py`; nothing else is promised.

There is no MySQL: Debian has it in no stable release, and XtraBackup in none at all.
"""
