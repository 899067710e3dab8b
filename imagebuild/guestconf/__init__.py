"""The parts of Trove's configuration that say where guests get their containers.

optiontable  the options that each series of Trove knows (options.json, by scripts/options)
settings     what is wanted, and what it is in trove.conf and trove-guestagent.conf
layouts      the files of a deployment: plain, kolla-ansible, OpenStack-Ansible
writing      into a directory, all of it or nothing
inifile      files as oslo.config reads them, with their lines
reading      people's own files: which of Trove's files each is
checks       the known mistakes in them
online       what only the registry can tell
"""
