"""The book: chapters, their execution, and the build of its pages."""
