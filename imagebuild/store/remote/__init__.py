"""The store's remote: a repository of an OCI registry, by which machines share what stages made.

address.py      where it is, and whether it is written to
form.py         what an object is there: an OCI artifact
stream.py       compressed streams, and files with holes
trees.py        a tree into a stream and back, each entry as the inventory says: root's side
transfer.py     one object there, or back
sharing.py      what of a build goes there and comes from there, and when
view.py         what it has, for those who only look
"""
