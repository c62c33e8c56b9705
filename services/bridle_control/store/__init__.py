"""The store of control: one protocol (`api`), and what serves it."""
