"""The parts of Trove's configuration that say where guests get their containers.

optiontable  the options that each series of Trove knows (options.json, by scripts/options)
settings     what is wanted, and what it is in trove.conf and trove-guestagent.conf
mirrored     what a mirror list says of guests
layouts      the files of a deployment: plain, kolla-ansible, OpenStack-Ansible
writing      into a directory, all of it or nothing
inifile      files as oslo.config reads them, with their lines
reading      people's own files: which of Trove's files each is
findings     what a check finds
checks       the known mistakes in files, groups and options
imagechecks  those in images and logins
guests       how guests ask for images, by these files
versions     whether datastore versions would find theirs
online       what only the registry can tell
"""
