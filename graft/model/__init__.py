"""The backbone: one Transformer for every family, its configuration, and attention over packed batches."""
