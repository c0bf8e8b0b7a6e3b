"""Input files as text: JSON and YAML with positions, and edits of them."""
