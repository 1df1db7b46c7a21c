"""Forms of SuperGLUE that no template writes, as T5's code writes them (Raffel et al. 2020)."""
