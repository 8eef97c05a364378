"""What records say together: statistics, scorecard, stability, the trial of the metrics."""
