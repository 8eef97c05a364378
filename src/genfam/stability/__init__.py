"""How steady: what training traces say."""
