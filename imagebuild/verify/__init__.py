"""Whether an image is good: the levels static, boot, agent and database.

What is asked: `static` (at rest; `checks` and `safety` are its questions about secrets),
`bootlevel` and `bootchecks`, `agentlevel`, `databaselevel`; `trovelevels` puts the last two
together for one `instance`. `imagebuild.verification` goes through the levels in order.

What it stands on: `tree`, `ext4`, `layout`, `superblock`, `search`, `packaged` read a disk;
`machine` runs one under qemu (`spec` and `argv` say how, `accel`, `firmware`, `nic`,
`configdrive`, `metadata`, `userdata`, `sshkey` what it gets, `place` where its scratch is,
`relay` and `metadata_server` are programs that qemu starts), `probe`, `console`, `watch`,
`trouble` and `qmp` follow it, `guest` talks to it, `keep` leaves it running; `control` is the
Trove that it is an instance of; `sql`, `sqlscript` and `dialect` are its database's clients.

What comes out: `results` (checks, milestones), `causes`, `report`; `asking` and `choice` help.
"""
