"""What clients keep with the server: files, uploads, and any other object of the API as a document; and their keys."""
