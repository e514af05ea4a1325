"""Checks the settings of frames of a film, and has the default of the temporal weight."""

from __future__ import annotations

from typing import Any

from jaxstyle.errors import SettingsError

TEMPORAL_WEIGHT = 300.0
"""Default of `temporal_weight` with `frames`, under the normalization "energy": of the measured weights the largest at
which frames are no further from the style than frames that are rendered alone (docs/measured.md)."""
RULES = ("random", "cycle")
"""Rules of `assign` that shots can have; the others go by single pictures."""


def check(settings: Any) -> None:
    """Checks the settings of frames, see `RenderSettings`.

    Raises:
        SettingsError: a setting that frames cannot have, or one that is for frames only.
    """
    objective = settings.objective()
    if not settings.frames:
        if objective.temporal_weight:
            remedy = "Give frames, or leave it out: only frames have one before."
            raise SettingsError(f"temporal_weight is {objective.temporal_weight:g} without frames", remedy)
        return
    if settings.temporal_weight is None and objective.normalization != "energy":
        remedy = "Give a temporal_weight: its default is for the normalization energy."
        raise SettingsError(f"normalization is {objective.normalization!r} with frames", remedy)
    refused: tuple[tuple[str, bool, str], ...] = (
        ("scales", len(settings.stages()) > 1, "Give scales none: a frame starts from the one before, at full size."),
        ("content_masks", settings.content_masks is not None, "Leave the masks out."),
        ("colors", settings.colors in ("content", "luminance"), "Give colors style or matched: a frame starts from the "
         "output of the one before, which has to be what was optimised."),
        ("strength", settings.strength != 1, "Leave it out, and mix the photographs in afterwards."),
        ("init", settings.starts_from_folder, "Give another init: only the first frame of a shot has one."),
        ("styles_per_image", settings.styles_per_image != 1, "Run once for each style: a shot has one."),
        ("existing", settings.existing == "continue", "Render the frames into another folder, with more evaluations."),
        ("assign", settings.assign not in RULES, f"Give assign {' or '.join(RULES)}: a shot has one style."),
    )  # fmt: skip
    for name, wrong, remedy in refused:
        if wrong:
            value = getattr(settings, name)
            raise SettingsError(f"{name} is {value if isinstance(value, int | float) else str(value)!r} with frames",
                                remedy)  # fmt: skip
