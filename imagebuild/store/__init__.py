"""The content-addressed store: what stages made, by kind and id, each object whole or not there.

STORE/KIND-ID/object.json   what the object is, with a digest of each part (objects.py)
STORE/KIND-ID/tree/         a tree of root's, if the object has one
STORE/KIND-ID/…             its files
STORE/locks/                who makes, and who uses, an object (locks.py)
STORE/drafts/               what is on its way in or out; looked up by nobody
"""
