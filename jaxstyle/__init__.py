"""jaxstyle: optimisation-based style transfer (Gatys et al. 2016) for whole folders of photographs, in batches.

`stylize` works on arrays, `render` on files. Importing this package imports nothing heavy; jax comes with first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxstyle.engine.pipeline import Summary, render
    from jaxstyle.settings import Objective, RenderSettings, StylizeSettings
    from jaxstyle.style.status import Status
    from jaxstyle.style.stylize import Solution, stylize
    from jaxstyle.style.stylizer import Stylizer

_HOMES = {
    "stylize": "style.stylize",
    "Stylizer": "style.stylizer",
    "Solution": "style.stylize",
    "Status": "style.status",
    "render": "engine.pipeline",
    "Summary": "engine.pipeline",
    "Objective": "settings",
    "StylizeSettings": "settings",
    "RenderSettings": "settings",
}

__all__ = [
    "Objective",
    "RenderSettings",
    "Solution",
    "Status",
    "StylizeSettings",
    "Stylizer",
    "Summary",
    "render",
    "stylize",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"jaxstyle.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'jaxstyle' has no attribute {name!r}")
