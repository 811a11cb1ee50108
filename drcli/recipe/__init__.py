"""Recipes: YAML with overrides in, one validated `Recipe` out, or every problem of it at once.

Import from the modules. `shipped` costs nothing; the others bring in pydantic and PyYAML, and torch
only when a recipe's methods and backbones are looked up.
"""
