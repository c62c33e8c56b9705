"""Traces and metrics of the services, by OpenTelemetry: off unless they are asked for.

Knows nothing of what is traced and measured, and imports nothing of Bridle's: control and the agent
host get a tracer and a meter here, and each says in its own words what happens. Nothing of what
people and agents say goes into either: names of methods, verbs, phases and reasons, ids, times.
"""
