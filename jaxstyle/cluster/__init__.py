"""Many machines: a coordinator hands the shards of a run to workers of a Ray cluster, and tries lost ones again."""
