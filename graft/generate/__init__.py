"""Generation: the cache of keys and values (the engine is to come)."""
