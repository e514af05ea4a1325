"""Settings of a run on a Ray cluster, beside those of the run itself."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields

from jaxstyle.coerce import check, normalise
from jaxstyle.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class RaySettings:
    """Which Ray cluster renders the shards of a run, and what each shard takes of it.

    Attributes:
        ray: render on a Ray cluster, shard by shard: auto joins the one that this machine belongs to, HOST:PORT names
            one, local starts one on this machine.
        ray_shards: number of shards [default: four for each that the cluster renders at a time]
        ray_gpus: GPUs of a shard [default: 1 where the cluster has GPUs, else 0]
        ray_cpus: CPU cores of a shard [default: 1 where it has a GPU, else those of the cluster's smallest machine]
        ray_tries: attempts at a shard, one after the other, that bring no new row; then it is given up.
    """

    ray: str | None = None
    ray_shards: int | None = None
    ray_gpus: float | None = None
    ray_cpus: float | None = None
    ray_tries: int = 3

    def __post_init__(self) -> None:
        normalise(self)
        address = self.ray is None or self.ray in ("local", "auto") or re.fullmatch(r"[^\s/:]+:\d{1,5}", self.ray)
        check(bool(address), "ray", self.ray, "auto, local, or HOST:PORT")
        check(self.ray_shards is None or 1 <= self.ray_shards <= 999_999, "ray_shards", self.ray_shards, "1 to 999999")
        for name in ("ray_gpus", "ray_cpus"):
            value = getattr(self, name)
            check(value is None or 0 <= value < math.inf, name, value, "0 or more")
        check(1 <= self.ray_tries <= 1000, "ray_tries", self.ray_tries, "1 to 1000")
        for field in fields(self):
            if self.ray is None and getattr(self, field.name) != field.default:
                raise SettingsError(f"{field.name} is given without --ray", "Add --ray, or leave it out.")
