"""What both services decide by: state machines, rules and tables, without any input or output."""
