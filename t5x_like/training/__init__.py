"""How a run trains: its plan, its state, its steps, and what it writes down."""
