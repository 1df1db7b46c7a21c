"""What is seen of a run while it trains: where its time goes, starvation, and profiles."""
