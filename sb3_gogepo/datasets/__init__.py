"""Offline datasets of any quality, in Minari's format. Needs the extra ``datasets``."""

try:
    from sb3_gogepo.datasets.assembly import LevelDataset
    from sb3_gogepo.datasets.writing import write_datasets
except ModuleNotFoundError as error:
    raise ImportError(f'datasets are written by Minari: pip install "sb3-gogepo[datasets]" ({error})') from error

__all__ = ["LevelDataset", "write_datasets"]
