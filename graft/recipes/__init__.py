"""Recipes: the jobs people come for, composed of the parts below. One file each.

Import each from its own file: running a model must not wait for what training and reports need.
"""
