"""Chest radiographs straight from an archive (PACS), by DICOMweb: QIDO-RS finds them, WADO-RS brings them."""
