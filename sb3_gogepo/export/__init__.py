"""Policies as files that other programs run: ONNX and torch.export. ONNX needs the extra ``export``."""

from sb3_gogepo.export.writing import export_model

__all__ = ["export_model"]
