"""Which cells have nothing to do: every stage id is known, and published.

In this process, and read only: profile → Inputs → Plan → build id; then each cloud is asked for
an image of that build with its proof, and each datastore version for the image that it has.
"""

from __future__ import annotations

from dataclasses import dataclass

from imagebuild.pipeline.cells import ImageCell, Places


@dataclass(frozen=True)
class Standing:
    """`build_id` of what would be built; `has_artifact`: it is in place, whole or not.

    `is_verified`: its verify.json says the wanted level of it. `missing`: what is left to
    do, in plain sentences; empty: nothing, the cell can be skipped. `stages`: (stage, is it
    in the store).
    """

    build_id: str
    name: str
    has_artifact: bool
    is_verified: bool
    stages: tuple[tuple[str, bool], ...]
    missing: tuple[str, ...]

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return not self.missing


def standing(cell: ImageCell, places: Places, *, ask_clouds: bool = True) -> Standing:
    """Look. Raises as resolving and `Service` do."""
    raise NotImplementedError
