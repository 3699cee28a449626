"""Property tests on a machine that is busy with something else."""

from hypothesis import HealthCheck, settings

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Put above a property test: a slow example is no failure."""
