"""Near duplicates among documents: signatures, bands, clusters, the list of what is dropped."""
