"""Reading radiographs: pixels, DICOM, other files, and the processes that bound their cost."""
