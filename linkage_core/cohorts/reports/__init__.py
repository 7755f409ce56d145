"""Reports that come apart from the images: tables of accession numbers, FHIR R4, DICOM SR; and how they are joined."""
