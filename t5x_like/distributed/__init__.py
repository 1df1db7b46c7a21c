"""Runs of several processes: start-up, configuration check, heartbeat, preemption, mesh."""
