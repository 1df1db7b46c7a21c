"""Several processes as one run: start-up, agreement, heartbeat, preemption, mesh."""
