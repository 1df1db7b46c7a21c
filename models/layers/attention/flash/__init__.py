"""Flash attention for TPUs with relative positions inside, and its backward pass, in Pallas."""
