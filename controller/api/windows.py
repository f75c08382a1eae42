"""When weight may rise, by the calendar."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from controller.api.model import Model
from controller.api.quantities import Duration, checked_text, rule

_FIVE_FIELDS = r"^[^ ]+( +[^ ]+){4}$"


class Window(Model):
    """A time in which weight may rise; it begins again and again."""

    cron: Annotated[
        str,
        Field(min_length=1, max_length=128, pattern=_FIVE_FIELDS),
        checked_text(
            128,
            rule(
                f"self.matches(r'{_FIVE_FIELDS}')",
                "must have five fields: minute, hour, day of month, month, day of week, such as 0 9 * * mon-fri",
            ),
        ),
    ] = Field(
        description="When it opens: minute, hour, day of month, month and day of week (sun to sat, or 0 to 6), such as "
        "0 9 * * mon-fri. Where both days are given, both have to match."
    )
    time_zone: Annotated[
        str,
        Field(min_length=1, max_length=64),
        checked_text(64, rule("self.size() > 0", "must be a time zone, such as Europe/Berlin")),
    ] = Field(
        default="UTC", description="The time zone of cron, as in the IANA database, such as Europe/Berlin."
    )
    duration: Duration = Field(description="How long it stays open.")
