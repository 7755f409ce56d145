"""A synthetic cohort: procedurally drawn radiographs and grammar-made reports. Nothing of it is a patient."""

from linkage_core.cohorts.phantom.cohort import image_of, read, report_of, scene_of
from linkage_core.cohorts.phantom.population import SEED

__all__ = ["SEED", "image_of", "read", "report_of", "scene_of"]
