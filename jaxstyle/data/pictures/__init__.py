"""What pictures are: their kinds by name and content, whether a file is whole, and their depth and colours."""
