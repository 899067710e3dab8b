"""The store's remote: a repository of an OCI registry, by which machines share what stages made.

address.py      where it is, and whether it is written to
form.py         what an object is there: an OCI artifact
packing.py      a tree into a stream, by root
unpacking.py    the stream into a tree, each entry as the inventory says, by root
transfer.py     one object there, or back
sharing.py      what of a build goes there and comes from there, and when
"""
