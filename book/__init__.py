"""The printer: executes the notebooks, builds the pages, prints the PDF. Installed as ``meirl_book``."""
