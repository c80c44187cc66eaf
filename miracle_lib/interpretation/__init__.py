"""What a trained model says, and whether it survives its controls."""

from miracle_lib.interpretation.overrepresentation import overrepresentation

__all__ = ["overrepresentation"]
