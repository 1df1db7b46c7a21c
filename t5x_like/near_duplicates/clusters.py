"""Documents that are candidates of one another, directly or through others."""

import numpy as np
from scipy import sparse

Array = np.ndarray


def first_of_cluster(keys_db: Array) -> Array:
    """The first document of each document's cluster, int64 `[d]`; itself where it has no other.

    Args:
      keys_db: uint64, a key for each document and band; documents with the same key in the same
        band are in one cluster.
    """
    documents = len(keys_db)
    ones, others = [], []
    for keys_d in keys_db.T:
        order = np.argsort(keys_d, kind="stable")
        sorted_keys = keys_d[order]
        same = np.flatnonzero(sorted_keys[1:] == sorted_keys[:-1])
        ones.append(order[same])
        others.append(order[same + 1])
    one = np.concatenate(ones) if ones else np.zeros(0, np.int64)
    other = np.concatenate(others) if others else np.zeros(0, np.int64)
    links = sparse.coo_array(
        (np.ones(len(one), np.bool_), (one, other)), shape=(documents, documents)
    )
    _, cluster_d = sparse.csgraph.connected_components(links, directed=False)
    _, first, cluster_d = np.unique(cluster_d, return_index=True, return_inverse=True)
    return np.asarray(first[cluster_d], np.int64)
