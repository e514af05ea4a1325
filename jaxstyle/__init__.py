"""jaxstyle: optimisation-based style transfer (Gatys et al. 2016) for whole folders of photographs, in batches.

`stylize` works on arrays, `render` on files. Importing this package imports nothing heavy; jax comes with first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from jaxstyle.engine.jax_setup import set_up as set_up_jax
    from jaxstyle.engine.pipeline import Summary, render
    from jaxstyle.presets import Objective
    from jaxstyle.settings import RenderSettings, StylizeSettings
    from jaxstyle.style.status import Status
    from jaxstyle.style.stylize import Solution, stylize
    from jaxstyle.style.stylizer import Stylizer

_HOMES = {
    "stylize": "style.stylize.stylize",
    "Stylizer": "style.stylizer.Stylizer",
    "Solution": "style.stylize.Solution",
    "Status": "style.status.Status",
    "set_up_jax": "engine.jax_setup.set_up",
    "render": "engine.pipeline.render",
    "Summary": "engine.pipeline.Summary",
    "Objective": "presets.Objective",
    "StylizeSettings": "settings.StylizeSettings",
    "RenderSettings": "settings.RenderSettings",
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
    "set_up_jax",
    "stylize",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        module, _, own_name = _HOMES[name].rpartition(".")
        return getattr(importlib.import_module(f"jaxstyle.{module}"), own_name)
    raise AttributeError(f"module 'jaxstyle' has no attribute {name!r}")
