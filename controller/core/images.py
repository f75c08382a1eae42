"""Image drift: behind a Service run images that were not there when its version was frozen.

The images of a candidate are frozen with its first stage, those of the first stable as soon as they are known. A frozen
image that is gone is no drift: pods may be few for a while. A new one is, whether or not its pods are ready yet.
"""

from __future__ import annotations

from typing import TypeVar

from controller.api.reasons import Reason
from controller.api.status import RolloutStatus, VersionRef
from controller.core.snapshot import Drift, Endpoints, Snapshot

AnyRef = TypeVar("AnyRef", bound=VersionRef)


def freeze(version: AnyRef, endpoints: Endpoints | None) -> AnyRef:
    """The version with the images that run behind it, if they are known and it has none yet."""
    if version.images is not None or endpoints is None or not endpoints.images:
        return version
    return version.model_copy(update={"images": sorted(endpoints.images)})


def with_images(snapshot: Snapshot, status: RolloutStatus) -> RolloutStatus:
    """The status with stable's images frozen, whatever else keeps the plan busy."""
    if status.stable is None:
        return status
    stable = freeze(status.stable, snapshot.stable_endpoints)
    return status if stable is status.stable else status.model_copy(update={"stable": stable})


def drift_of(version: VersionRef | None, endpoints: Endpoints | None) -> Drift | None:
    """What runs behind the version and was not frozen with it; None also while that is not known."""
    if version is None or version.images is None or endpoints is None or endpoints.images is None:
        return None
    new = sorted(endpoints.images - set(version.images))
    if not new:
        return None
    more = f" and {len(new) - 1} more" if len(new) > 1 else ""
    return Drift(
        Reason.IMAGE_CHANGED,
        f"Service {endpoints.service} has pods of image {new[0]}{more}, which {version.revision} was not made of",
    )


def is_compared(version: VersionRef | None, endpoints: Endpoints | None) -> bool:
    """Whether it is known if the version has drifted."""
    return bool(version and version.images and endpoints and endpoints.images is not None)
