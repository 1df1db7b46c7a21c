"""Text written as files again: filtered and without copies, with a report, or with other words."""
