"""Records in, self-contained HTML and Markdown out."""
