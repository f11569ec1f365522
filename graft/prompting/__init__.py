"""Pretrained models as they are: what a prompt, or the name of a label, makes of them."""
