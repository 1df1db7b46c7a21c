"""What a program costs: FLOPs, rooflines, chips, topologies, compiled programs."""
