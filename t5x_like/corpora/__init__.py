"""Text written as files again, after filters and deduplication, with a report of what is gone."""
