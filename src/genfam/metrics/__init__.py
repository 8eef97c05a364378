"""How good: one file per idea, pure float64 functions first, thin metrics second."""
