"""Pure functions on arrays: intervals, tests, power, calibration."""
