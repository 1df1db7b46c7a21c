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
    ones, others = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for keys_d in keys_db.T:
        order = np.argsort(keys_d, kind="stable")
        sorted_keys = keys_d[order]
        same = np.flatnonzero(sorted_keys[1:] == sorted_keys[:-1])
        ones.append(order[same])
        others.append(order[same + 1])
    return first_of_linked(np.concatenate(ones), np.concatenate(others), len(keys_db))


def first_of_linked(one_l: Array, other_l: Array, documents: int) -> Array:
    """The same where it is known which two documents have a key in common.

    Args:
      one_l: numbers of documents, from 0.
      other_l: those that they are linked with.
      documents: how many there are.
    """
    links = sparse.coo_array(
        (np.ones(len(one_l), np.bool_), (one_l, other_l)), shape=(documents, documents)
    )
    _, cluster_d = sparse.csgraph.connected_components(links, directed=False)
    _, first, cluster_d = np.unique(cluster_d, return_index=True, return_inverse=True)
    return np.asarray(first[cluster_d], np.int64)
