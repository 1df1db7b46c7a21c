"""GLUE and SuperGLUE: their tasks, and their averages."""

from tasks.glue import glue, super_glue


def declare() -> None:
    """Registers the tasks and mixtures of both."""
    glue.declare()
    super_glue.declare()
