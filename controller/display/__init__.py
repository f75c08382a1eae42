"""What people see of rollouts in a terminal: pure functions from objects to text and tables."""
