"""What control tells of itself by traces and metrics.

Observers beside what they observe: of calls (`calls`), of commits and commands (`work`), of how
much there is of everything (`gauges`). All go by names of methods, verbs, phases, codes and
reasons, by ids and times: nothing that people or agents say goes into a trace or a metric.
"""
