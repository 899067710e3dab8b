"""Proof that an image works. So far: booting it as Nova would."""
