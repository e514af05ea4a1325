"""A shard's process over the stub: the program that workers start in place of `python -m jaxstyle.cluster.shard`."""

import stub

from jaxstyle.cluster import shard

if __name__ == "__main__":
    stub.install()
    shard.main()
