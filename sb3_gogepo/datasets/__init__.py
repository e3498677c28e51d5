"""Offline datasets of any quality, in Minari's format. Needs the extra ``datasets``."""

import importlib.util

if any(importlib.util.find_spec(name) is None for name in ("minari", "h5py")):
    raise ImportError('datasets are written by Minari, into HDF5: pip install "sb3-gogepo[datasets]"')

from sb3_gogepo.datasets.writing import LevelDataset, write_datasets

__all__ = ["LevelDataset", "write_datasets"]
